"""Reference: FaRL's rule, the interval written from its definition; coverage in simulation; errors.

Planted and seen red: the variance of subsets left out, an unpaired bootstrap, the variance of both factors counted
twice, the normal quantile in place of Student's.
"""

import json
import math
import random
import statistics as statistics_module
import time

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from facerep_jax.evaluation import statistics as statistics_of_facerep
from facerep_jax.evaluation.metrics import NME
from facerep_jax.evaluation.statistics import (
    difference,
    drawn_by,
    interval,
    label_subset,
    paired_difference,
    resampled,
    summary,
)
from facerep_jax.typing import BOTH


def mean(statistics, weights):
    """The mean over examples of statistics (value, 1)."""
    sums = weights @ statistics
    return sums[:, 0] / sums[:, 1]


def mean_of(statistics):
    """`mean` with each example counted once."""
    return float(mean(statistics, np.ones((1, len(statistics))))[0])


def statistics(values):
    return np.stack([values, np.ones_like(values)], axis=-1)


def test_label_subset_is_farls_rule():
    ids = [f"face_{i:03d}" for i in range(50)]
    order = list(range(50))
    random.Random(123).shuffle(order)
    assert label_subset(ids, 0.1, 123) == tuple(ids[i] for i in order[:5])


@given(
    st.lists(st.text(max_size=5), min_size=1, unique=True), st.integers(0, 99), st.floats(0.01, 1), st.floats(0.01, 1)
)
def test_label_subsets_are_nested_and_do_not_depend_on_the_order(ids, seed, small, large):
    small, large = sorted((small, large))
    few, many = label_subset(ids, small, seed), label_subset(ids[::-1], large, seed)
    assert few == many[: len(few)]
    assert len(many) == max(1, int(len(ids) * large))


def test_at_least_some_are_kept_or_all():
    ids = [f"{i:02d}" for i in range(20)]
    assert label_subset(ids, 0.1, 3, least=6) == label_subset(ids, 0.3, 3)
    assert label_subset(ids, 0.5, 3, least=6) == label_subset(ids, 0.5, 3)
    assert set(label_subset(ids, 0.1, 3, least=99)) == set(ids)


def test_seeds_differ_and_all_is_all():
    ids = [str(i) for i in range(20)]
    assert label_subset(ids, 0.5, 0) != label_subset(ids, 0.5, 1)
    assert set(label_subset(ids, 1, 0)) == set(ids)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, math.nan])
def test_a_fraction_outside_is_refused(fraction):
    with pytest.raises(ValueError, match="above 0 and at most 1"):
        label_subset(["a"], fraction, 0)


def test_no_ids_are_refused():
    with pytest.raises(ValueError, match="no ids"):
        label_subset([], 0.5, 0)


def slow_interval(a, b, value, resamples, seed):
    """From the definition: one draw at a time, rows picked by index, every variance by itself."""
    rng = np.random.default_rng(seed)
    subsets, n, _ = a.shape
    of_each = [value(b[s]) - value(a[s]) for s in range(subsets)]
    draws = []
    for _ in range(resamples):
        rows = rng.integers(n, size=n)
        draws.append([value(b[s][rows]) - value(a[s][rows]) for s in range(subsets)])
    examples, of_subsets = statistics_module.variance([sum(d) / subsets for d in draws]), 0.0
    if subsets > 1:
        of_subsets = statistics_module.variance(of_each) / subsets
        # both factors' share: how a subset's draws vary about the draw's mean, which takes a degree of freedom
        about = [[x - sum(d) / subsets for x in d] for d in draws]
        both = sum(statistics_module.variance([d[s] for d in about]) for s in range(subsets)) / (subsets - 1)
        examples = max(0.0, examples - both / subsets)
    total = of_subsets + examples
    freedom = total**2 / (of_subsets**2 / max(1, subsets - 1) + examples**2 / (n - 1))
    half = scipy.stats.t.ppf(0.975, freedom) * total**0.5
    return np.mean(of_each) - half, np.mean(of_each) + half


def ratio_data(seed=0, subsets=3, n=40):
    """A ratio of sums (as F1 is), which is not a mean over examples."""
    rng = np.random.default_rng(seed)
    weight = rng.uniform(1, 3, (1, n, 1)) * np.ones((subsets, 1, 1))
    a = np.concatenate([weight * rng.uniform(0.3, 0.7, (subsets, n, 1)), weight], axis=2)
    b = a * [1.1, 1]
    return a, b + np.concatenate([rng.normal(0, 0.05, (subsets, n, 1)), np.zeros((subsets, n, 1))], axis=2)


@pytest.mark.parametrize("subsets", [1, 3])
def test_the_interval_is_that_of_the_definition(subsets):
    a, b = ratio_data(subsets=subsets)
    got = paired_difference(a, b, mean, lower_is_better=False, resamples=6000)
    low, high = slow_interval(a, b, mean_of, 6000, seed=1)
    width = high - low
    assert got.low == pytest.approx(low, abs=0.03 * width)
    assert got.high == pytest.approx(high, abs=0.03 * width)
    assert got.a == pytest.approx(np.mean([mean_of(s) for s in a]))
    assert got.difference == pytest.approx(got.b - got.a)
    assert got.relative_gain == pytest.approx((got.b - got.a) / got.a)


def test_intervals_are_those_of_earlier_versions():
    """Written down before rows and weights took the place of sums: the same draws and the same numbers."""
    nme, rng = NME({"kind": "inter_ocular", "left": 0, "right": 2}), np.random.default_rng(0)
    truth = rng.uniform(0, 64, (50, 5, 2))
    truth[3] = np.nan
    split = {"id": [str(i) for i in range(50)], "landmarks": truth}

    def encoder(error):
        subsets = [nme.rows(truth + rng.normal(0, error, truth.shape), split) for _ in range(3)]
        return np.stack([rows.statistics for rows in subsets])

    def value(statistics, weights):
        return nme.compute(statistics, weights)[nme.headline]

    a, b = encoder(2), encoder(1.5)
    got = paired_difference(a, b, value, lower_is_better=True)
    assert got == pytest.approx(
        (
            *(0.12697077919485467, 0.09399709123693704, 0.259695090216898),
            *(-0.03297368795791762, -0.049691723624736756, -0.01625565229109849),
        ),
        rel=1e-12,
    )
    one = paired_difference(a[:1], b[:1], value, lower_is_better=True)
    assert one[4:] == pytest.approx((-0.03493943712401974, -0.016290981018397724), rel=1e-12)
    draws = resampled(np.stack([a, b]), value, resamples=130).draws
    assert draws.shape == (130, 3)
    np.testing.assert_allclose(draws[0], [0.11451737548568656, 0.11584030146194035, 0.12606043268211292], rtol=1e-12)
    np.testing.assert_allclose(draws[129], [0.10881335017514092, 0.10869381773435985, 0.12101634998172528], rtol=1e-12)


def test_whole_units_are_drawn_together():
    """Rows of a unit are copies: drawn by unit they are worth one row, drawn by row they would seem worth three."""
    a, b = ratio_data()
    copies = [np.repeat(x, 3, axis=1)[None] for x in (a, b)]
    units = [f"person_{i:02d}" for i in np.repeat(np.arange(40), 3)]
    single = [resampled(x[None], mean) for x in (a, b)]
    by_unit = [resampled(x, mean, units=units) for x in copies]
    np.testing.assert_allclose(by_unit[0].draws, single[0].draws, rtol=1e-12)  # the same draws of the same people
    assert (by_unit[0].drawn, by_unit[0].shape) == (40, (3, 120, 2))
    got = difference(*by_unit, lower_is_better=True)
    assert got == pytest.approx(difference(*single, lower_is_better=True), rel=1e-9)
    assert paired_difference(*(x[0] for x in copies), mean, lower_is_better=True, units=units) == got
    narrow = difference(*(resampled(x, mean) for x in copies), lower_is_better=True)
    assert narrow.high - narrow.low < got.high - got.low
    with pytest.raises(ValueError, match=r"of 40 units against .* of 120 units"):
        difference(by_unit[0], resampled(copies[1], mean), lower_is_better=True)
    with pytest.raises(ValueError, match="there are 120 rows and 119 units"):
        resampled(copies[0], mean, units=units[1:])


def pairs_of(persons=12, each=2, seed=0):
    """Scores of all pairs of templates of some persons, whether they are of one, and the units of these pairs."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(persons), each)
    first, second = np.triu_indices(len(owner), 1)
    same = owner[first] == owner[second]
    effect = rng.normal(0, 0.3, persons)
    score = np.where(same, 0.6, 0.1) + effect[owner[first]] + effect[owner[second]] + rng.normal(0, 0.1, len(first))
    units = [
        BOTH.join(f"p{p:02d}" for p in dict.fromkeys(two)) for two in zip(owner[first], owner[second], strict=True)
    ]
    return np.column_stack([score, same]).astype(np.float64), units, owner[first], owner[second]


def mean_of_two(statistics, weights):
    """The mean score of pairs of one person less that of pairs of two."""
    same = statistics[:, 1] > 0
    one, two = ((weights[:, of] @ statistics[of, 0]) / weights[:, of].sum(1) for of in (same, ~same))
    return one - two


def of_two(statistics, weights):
    """The mean score of pairs of two persons."""
    two = statistics[:, 1] == 0
    return (weights[:, two] @ statistics[two, 0]) / weights[:, two].sum(1)


def test_a_pair_of_two_units_is_drawn_as_often_as_both_are():
    """One draw at a time, pair by pair, from who was drawn."""
    rows, units, a, b = pairs_of()
    found = resampled(rows[None, None], mean_of_two, units=units, resamples=5)
    assert found.drawn == 12
    rng = np.random.default_rng(0)
    for draw in found.draws[:, 0]:
        who = rng.integers(12, size=12).tolist()
        one, two = [], []
        for (score, same), p, q in zip(rows, a, b, strict=True):
            (one if same else two).extend([score] * (who.count(p) if same else who.count(p) * who.count(q)))
        assert draw == pytest.approx(np.mean(one) - np.mean(two))
    given = (None, [f"{p:02d}" for p in a], units)  # rows, the first of both, both
    deviations = [resampled(rows[None, None], of_two, units=of, resamples=400).draws.std() for of in given]
    assert deviations == sorted(deviations)
    parts = [np.arange(len(rows)) < 3, (a == 2) & (b == 2), np.ones(len(rows), bool)]
    by = drawn_by(units)
    assert [by.of(rows) for rows in parts] == [len({*a[rows], *b[rows]}) for rows in parts]


def test_intervals_of_two_units_hold_the_truth():
    """The mean score of pairs of two persons, whose effects add: 0.1 in truth."""
    inside = 0
    for seed in range(150):
        rows, units, _, _ = pairs_of(persons=20, seed=seed)
        found = resampled(rows[None, None], of_two, units=units, resamples=200, seed=seed)
        low, high = interval(found.values[0], found.draws, found.drawn)
        inside += low <= 0.1 <= high
    assert 0.90 <= inside / 150 <= 0.99


def test_draws_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    rows, units, _, _ = pairs_of()
    whole = resampled(rows[None, None], mean_of_two, units=units, resamples=130)
    seen = []
    monkeypatch.setattr(statistics_of_facerep, "BYTES", 8 * 3 * len(rows))

    def watched(statistics, weights):
        seen.append(len(weights))
        return mean_of_two(statistics, weights)

    some = resampled(rows[None, None], watched, units=units, resamples=130)
    np.testing.assert_allclose(some.draws, whole.draws, rtol=1e-12)
    assert max(seen) == 3


def test_many_rows_are_drawn_as_cells_and_less_often(monkeypatch):
    rows, units, _, _ = pairs_of(persons=30)
    exact = resampled(rows[None, None], mean_of_two, units=units, resamples=300)
    seen = []

    def cells(statistics):
        keys, cell = np.unique(np.round(statistics, 2), axis=0, return_inverse=True)
        return cell.reshape(-1), keys

    def watched(statistics, weights):
        seen.append(weights.shape)
        return mean_of_two(statistics, weights)

    for name, number in (("MANY", 1000), ("PART", 700), ("WORK", 250 * len(rows))):
        monkeypatch.setattr(statistics_of_facerep, name, number)
    coarse = resampled(rows[None, None], watched, units=units, resamples=300, cells=cells)
    assert coarse.draws.shape == (250, 1)
    np.testing.assert_allclose(coarse.draws, exact.draws[:250], atol=0.01)
    np.testing.assert_array_equal(coarse.values, exact.values)
    assert {cells for _, cells in seen[:-1]} == {len(np.unique(np.round(rows, 2), axis=0))}
    monkeypatch.setattr(statistics_of_facerep, "WORK", 1)
    assert len(resampled(rows[None, None], mean_of_two, units=units, cells=cells).draws) == 200


def test_a_metric_need_not_be_a_function_of_sums():
    """The median, whose draws are those of medians of redrawn rows."""

    def median(statistics, weights):
        return np.array([np.median(np.repeat(statistics[:, 0], w.astype(int))) for w in weights])

    values = np.random.default_rng(0).normal(size=(2, 31, 1))
    found = resampled(values[None], median, resamples=3)
    np.testing.assert_array_equal(found.values, np.median(values, axis=1).T)
    rng = np.random.default_rng(0)
    for draw in found.draws:
        rows = rng.integers(31, size=31)
        np.testing.assert_array_equal(draw, np.median(values[:, rows, 0], axis=1))


def test_the_gain_of_an_error_is_its_fall():
    a, b = ratio_data()
    up, down = (paired_difference(a, b, mean, lower_is_better=low, resamples=100) for low in (False, True))
    assert up.relative_gain == -down.relative_gain > 0
    assert up[3:] == down[3:]


def test_a_gain_is_above_0_where_a_correlation_below_0_rises():
    a, b = (statistics(np.full((1, 9), x)) for x in (-0.1, 0.3))
    got = paired_difference(a, b, mean, lower_is_better=False, resamples=10)
    assert got.relative_gain == pytest.approx(4)


def test_draws_without_a_value_are_left_out_unless_they_are_many():
    """The value takes one of the first rows: with four 2 % of draws have none, with one a third."""

    def needing(first):
        return lambda s, w: np.where(w[:, :first].sum(1) > 0, mean(s, w), np.nan)

    a, b = ratio_data()
    few, many, whole = (
        paired_difference(a, b, value, lower_is_better=False) for value in (needing(4), needing(1), mean)
    )
    assert few.high - few.low == pytest.approx(whole.high - whole.low, rel=0.05)
    assert np.isnan([many.low, many.high]).all()
    assert many.difference == whole.difference


@pytest.mark.parametrize("subsets", [1, 5])
def test_identical_encoders_differ_by_exactly_nothing(subsets):
    a, _ = ratio_data(subsets=subsets)
    got = paired_difference(a, a.copy(), mean, lower_is_better=True, resamples=300)
    assert (got.difference, got.low, got.high, got.relative_gain) == (0, 0, 0, 0)


def test_the_same_seed_gives_the_same_interval():
    a, b = ratio_data()
    assert paired_difference(a, b, mean, lower_is_better=True) == paired_difference(a, b, mean, lower_is_better=True)


def coverage(draw, truth, repeats=300):
    """The share of simulations whose interval holds the truth."""
    inside = 0
    for seed in range(repeats):
        a, b = draw(np.random.default_rng(seed))
        got = paired_difference(statistics(a), statistics(b), mean, lower_is_better=True, resamples=300, seed=seed)
        inside += got.low <= truth <= got.high
    return inside / repeats


def test_coverage_of_the_choice_of_test_examples():
    """One subset, and examples that differ much in difficulty: unpaired draws would be far too wide."""

    def draw(rng):
        difficulty = rng.normal(0, 5, (1, 60))
        return difficulty + rng.normal(0, 1, (1, 60)), difficulty - 0.3 + rng.normal(0, 1, (1, 60))

    assert 0.90 <= coverage(draw, -0.3) <= 0.98


@pytest.mark.parametrize(
    ("subsets", "by_subset", "by_example", "by_both"),
    [
        (3, 0.4, 0.1, 0.1),  # the labels decide
        (5, 0.4, 0.1, 0.1),
        (3, 0.0, 1.0, 0.0),  # the test examples decide
        (5, 0.1, 1.0, 0.3),
        (5, 0.0, 0.0, 1.0),  # every prediction errs by itself
    ],
)
def test_coverage_with_few_subsets(subsets, by_subset, by_example, by_both):
    n = 60

    def draw(rng):
        effects = by_subset * rng.normal(size=(subsets, 1)) + by_example * rng.normal(size=(1, n))
        return np.zeros((subsets, n)), 0.2 + effects + by_both * rng.normal(size=(subsets, n))

    assert 0.90 <= coverage(draw, 0.2) <= 0.98


@pytest.mark.parametrize(("of_a", "of_b"), [(3, 3), (3, 1), (1, 3)])
def test_coverage_with_few_seeds(of_a, of_b):
    """The seeds of pre-training decide most; those of a kind that was trained once do not vary."""
    subsets, n = 5, 40

    def kind(rng, seeds):
        return rng.normal(size=(seeds, 1, 1)) * (0.5 if seeds > 1 else 0) + 0.1 * rng.normal(size=(seeds, subsets, n))

    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        both = 0.2 * rng.normal(size=(subsets, 1)) + 0.5 * rng.normal(size=(1, n))
        a, b = (np.stack([statistics(encoder) for encoder in kind(rng, seeds)]) for seeds in (of_a, of_b))
        b[..., 0] += 0.3 + both
        got = difference(*(resampled(x, mean, resamples=200, seed=seed) for x in (a, b)), lower_is_better=True)
        inside += got.low <= 0.3 <= got.high
    assert 0.90 <= inside / 200 <= 0.99


def test_one_seed_of_each_is_the_paired_difference():
    a, b = ratio_data()
    paired = paired_difference(a, b, mean, lower_is_better=True)
    one, other, twice = (resampled(x, mean) for x in (a[None], b[None], np.stack([a, a])))
    assert difference(one, other, lower_is_better=True) == paired
    assert difference(twice, other, lower_is_better=True) == pytest.approx(paired)


def test_many_examples_are_quick():
    rng = np.random.default_rng(0)
    a, b = statistics(rng.normal(1, 1, (3, 5000))), statistics(rng.normal(1, 1, (3, 5000)))
    begin = time.perf_counter()
    paired_difference(a, b, mean, lower_is_better=True)
    assert time.perf_counter() - begin < 30


def test_shapes_must_match():
    a, b = ratio_data()
    with pytest.raises(ValueError, match=r"\(3, 40, 2\) of 40 units against \(3, 39, 2\) of 39"):
        paired_difference(a, b[:, :39], mean, lower_is_better=True)
    with pytest.raises(ValueError, match="no statistics"):
        paired_difference(a[:, :0], b[:, :0], mean, lower_is_better=True)


def test_summary():
    assert summary([0.1, 0.3]) == {"mean": 0.2, "std": pytest.approx(math.sqrt(0.02)), "values": [0.1, 0.3]}
    assert summary([0.1]) == {"mean": 0.1, "std": 0.0, "values": [0.1]}
    assert summary([math.nan]) == {"mean": None, "std": None, "values": [None]}
    got = summary(np.array([0.1, np.nan]).tolist())
    assert json.dumps(got, allow_nan=False) == '{"mean": null, "std": null, "values": [0.1, null]}'
    with pytest.raises(ValueError, match="no values"):
        summary([])
