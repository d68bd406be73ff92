"""Reference: scikit-learn's ROC curve, SciPy's root finding, and loops; a bootstrap draw counts as its rows repeated.

Planted and seen red: an accuracy whose threshold is chosen on its own fold, a query that finds itself.
"""

import numpy as np
import pytest
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import average_precision_score, roc_curve

from facerep_jax.evaluation.metrics import score
from facerep_jax.evaluation.person_metrics import Retrieval, Verification, drawn_pairs, pairs_in
from facerep_jax.typing import Metric, Rows


def pairs(n=300, seed=0):
    """Similarity with ties, whether it is one person, fold; and counts of draws."""
    rng = np.random.default_rng(seed)
    same = rng.random(n) < 0.5
    alike = np.round(np.where(same, 0.5, 0.1) + rng.normal(0, 0.25, n), 2)
    drawn, fold = [np.bincount(rng.integers(n, size=n), minlength=n) for _ in range(2)], np.arange(n) % 10
    weights = np.stack([np.ones(n), *drawn, np.array([3, 1, 0, 1, 2, 1, 1, 0, 1, 0])[fold]])  # folds are drawn as well
    return np.column_stack([alike, same, fold]), weights.astype(np.float64)


def repeated(statistics, w):
    alike, same, fold = np.repeat(statistics, w.astype(int), axis=0).T
    return alike, same > 0, fold


def crossing(far, tar):
    """Where false accepts are as frequent as false rejects."""
    return brentq(lambda x: 1 - x - interp1d(far, tar)(x), 0, 1)


def test_rates_are_those_of_the_roc_curve():
    statistics, weights = pairs()
    metric = Verification()
    assert isinstance(metric, Metric)
    found = metric.compute(statistics, weights)
    for row, w in enumerate(weights):
        alike, same, _ = repeated(statistics, w)
        far, tar, _ = roc_curve(same, alike, drop_intermediate=False)
        assert found["eer"][row] == pytest.approx(crossing(far, tar), abs=1e-9)
        for k in (1, 2):
            assert found[f"tar_at_far_1e-{k}"][row] == tar[far <= 10.0**-k].max()
        for k in range(3, 7):  # too few pairs
            assert np.isnan(found[f"tar_at_far_1e-{k}"][row])
        assert (found["pairs_same"][row], found["pairs_different"][row]) == (same.sum(), (~same).sum())


def test_a_folds_threshold_comes_from_the_others():
    statistics, weights = pairs()
    found = Verification().compute(statistics, weights)["accuracy_ten_fold"]
    for row, w in enumerate(weights):
        alike, same, fold = repeated(statistics, w)
        thresholds, shares = np.append(np.inf, np.unique(statistics[:, 0])[::-1]), []
        for each in np.unique(fold):
            inside = fold == each
            others = [((alike[~inside] >= t) == same[~inside]).sum() for t in thresholds]
            best = thresholds[int(np.argmax(others))]  # the strictest of the best
            shares.append(((alike[inside] >= best) == same[inside]).mean())
        times = [w[statistics[:, 2] == each].mean() for each in np.unique(fold)]
        assert found[row] == pytest.approx(np.average(shares, weights=times))


def test_pairs_that_are_not_there_or_there_twice():
    place = {"a": 0, "b": 1, "c": 2}
    table = dict(first=["a", "a", "x", "a"], second=["b", "c", "a", "b"], same=[1, 0, 1, 1])
    first, second, same, fold = pairs_in(table, place, "pairs")
    assert (first.tolist(), second.tolist(), same.tolist(), fold.tolist()) == ([0, 0], [1, 2], [True, False], [0, 1])
    with pytest.raises(ValueError, match="of none of the 4 pairs of table 'pairs' both images are test examples"):
        pairs_in(table, {"x": 0}, "pairs")


def test_verification_by_hand():
    """Four pairs of each kind in two folds; one wrong pair is more alike than half of the right ones."""
    alike, same = np.array([0.9, 0.8, 0.4, 0.4, 0.6, 0.1, 0.2, 0.0]), np.array([1, 1, 1, 1, 0, 0, 0, 0])
    statistics = np.column_stack([alike, same, [0, 1] * 4])
    found = score(Verification(), statistics)
    assert np.isnan(found["tar_at_far_1e-1"])  # four pairs of two persons say nothing about one in ten
    assert found["eer"] == 0.25  # at 0.4: a quarter is accepted falsely; none rejected just below, half above
    again = score(Verification(), np.repeat(statistics, 3, axis=0))
    assert again["tar_at_far_1e-1"] == 0.5
    # Fold 1 is right throughout at 0.4, which lets the pair of 0.6 of fold 0 in; fold 0 is best at 0.9 already.
    assert found["accuracy_ten_fold"] == pytest.approx((3 / 4 + 2 / 4) / 2)


def test_pairs_of_one_kind_and_constant_features_have_names_for_what_is_not_defined():
    only = score(Verification(), np.column_stack([np.linspace(0, 1, 20), np.ones(20), np.arange(20) % 10]))
    assert np.isnan(only["eer"])
    assert np.isnan(only["tar_at_far_1e-1"])
    statistics, _ = pairs()
    statistics[:, 0] = 1.0
    found = score(Verification(), statistics)
    assert found["eer"] == pytest.approx(0.5)
    assert found["tar_at_far_1e-1"] == 0
    single = score(Verification(), np.column_stack([[0.5, 0.4], [1, 0], [3, 3]]))
    assert np.isnan(single["accuracy_ten_fold"])


def test_a_fold_without_a_pair_of_one_person_is_scored_by_the_others_thresholds():
    """Fold 1 has pairs of two persons alone: right are those below 0.5, the threshold of fold 0."""
    alike = [0.9, 0.5, 0.2, 0.1, 0.6, 0.3, 0.2, 0.1]
    statistics = np.column_stack([alike, [1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1, 1, 1]])
    found = score(Verification(), statistics)
    # Fold 1 alone knows no pair of one person, so that its best threshold accepts none: half of fold 0 is right.
    assert found["accuracy_ten_fold"] == pytest.approx((2 / 4 + 3 / 4) / 2)
    assert np.isfinite(found["eer"])
    rows = Rows([f"{i} {i}" for i in range(8)], ["fold 0"] * 8, statistics)
    assert Verification().notes(rows) == (
        "fold 1 has no pair of one person: ten-fold accuracy counts such a fold as any other",
    )
    statistics[2:4, 1] = 1
    assert "fold 0 has no pair of two persons, fold 1 has no pair of one person: " in Verification().notes(rows)[0]
    statistics[[2, 5], 1] = 0, 1
    assert Verification().notes(rows) == ()


def test_a_person_with_one_image_is_in_pairs_of_two_persons_alone():
    split = faces(persons=8)
    lone = {name: [*x, *np.arange(90, 94)] for name, x in split.items() if name != "id"}
    given = {"id": [*split["id"], *(f"lone_{i}" for i in range(4))]}
    given |= {name: np.array(x, np.int32) for name, x in lone.items()}
    first, second, same, _ = drawn_pairs(given)
    with_lone = (first >= 32) | (second >= 32)
    assert with_lone.any()
    assert not same[with_lone].any()


def test_pairs_of_a_table_are_cosines_of_their_images():
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(4, 5)), ["a", "b", "c", "d"]
    table = {
        "first": np.array(["a", "c", "a"]),
        "second": np.array(["b", "d", "elsewhere"]),
        "same": np.array([1, 0, 1]),
    }
    rows = Verification("pairs").rows(x, {"id": ids, "tables": {"pairs": table | {"fold": np.array([0, 1, 2])}}})
    cosine = [x[i] @ x[j] / np.linalg.norm(x[i]) / np.linalg.norm(x[j]) for i, j in ((0, 1), (2, 3))]
    np.testing.assert_allclose(rows.statistics, np.column_stack([cosine, [1, 0], [0, 1]]))
    assert (rows.ids, rows.units) == (["a b", "c d"], ["fold 0", "fold 1"])
    without = Verification("pairs").rows(x, {"id": ids, "tables": {"pairs": table}})
    assert without.statistics[:, 2].tolist() == [0, 1]
    with pytest.raises(ValueError, match="table 'pairs' of pairs has no column 'same'; it has: first, second"):
        Verification("pairs").rows(x, {"id": ids, "tables": {"pairs": {k: table[k] for k in ("first", "second")}}})


def faces(persons=12, each=4, sessions=2):
    """A split: images of persons, some of each session, in a random order."""
    order = np.random.default_rng(3).permutation(persons * each)
    identity, session = np.divmod(np.arange(persons * each), each)
    return {
        "id": [f"face_{i:03d}" for i in order],
        "identity": identity[order].astype(np.int32),
        "session": (session % sessions)[order].astype(np.int32),
    }


def test_pairs_are_drawn_within_folds_that_share_no_person():
    split = faces()
    first, second, same, fold = drawn_pairs(split)
    person, session = split["identity"], split["session"]
    np.testing.assert_array_equal(person[first] == person[second], same)
    assert same.sum() == (~same).sum() == 12 * 4  # two images of a session with two of another, for each person
    assert (session[first][same] != session[second][same]).all()
    folds_of = {who: {*fold[(person[first] == who) | (person[second] == who)].tolist()} for who in range(12)}
    assert {len(found) for found in folds_of.values()} == {1}
    assert len({*fold.tolist()}) == 6  # of two persons each
    assert len({(a, b) for a, b in zip(first.tolist(), second.tolist(), strict=True)}) == len(first)
    other = np.random.default_rng(4).permutation(48)  # the order of the examples is of no account
    moved = {"id": [split["id"][i] for i in other], "identity": person[other], "session": session[other]}
    names = [{(of["id"][a], of["id"][b]) for a, b in zip(*drawn_pairs(of)[:2], strict=True)} for of in (split, moved)]
    assert names[0] == names[1]


def test_a_set_without_pairs_says_so():
    with pytest.raises(ValueError, match="no pairs can be drawn from 12 images of 12 known persons"):
        drawn_pairs(faces(each=1))
    with pytest.raises(ValueError, match="two images of one person, of different sessions where these are known"):
        drawn_pairs(faces(sessions=1))
    with pytest.raises(ValueError, match="the test examples have no 'identity'"):
        drawn_pairs({"id": ["a", "b"]})
    unknown = faces()
    unknown["identity"] = np.full(48, -1, np.int32)
    with pytest.raises(ValueError, match="of 0 known persons"):
        drawn_pairs(unknown)


def test_retrieval_is_what_a_loop_finds():
    split, rng = faces(), np.random.default_rng(0)
    split["identity"][:3] = -1
    x = rng.normal(size=(12, 8))[split["identity"]] + 1.2 * rng.normal(size=(48, 8))
    metric = Retrieval()
    assert isinstance(metric, Metric)
    rows = metric.rows(x, split)
    expected = []
    for query, (who, when) in enumerate(zip(split["identity"], split["session"], strict=True)):
        found = []
        for other, (person, session) in enumerate(zip(split["identity"], split["session"], strict=True)):
            if other != query and not (person == who >= 0 and session == when):
                cosine = x[query] @ x[other] / np.linalg.norm(x[query]) / np.linalg.norm(x[other])
                found.append((cosine, person == who >= 0))
        if any(hit for _, hit in found):
            hits = [hit for _, hit in sorted(found, key=lambda pair: -pair[0])]
            precision = average_precision_score([hit for _, hit in found], [cosine for cosine, _ in found])
            expected.append([hits[0], any(hits[:5]), any(hits[:10]), precision])
    found = score(metric, rows.statistics)
    assert found["queries"] == len(expected) < 48
    assert [found[name] for name in metric.columns] == pytest.approx(np.mean(expected, axis=0).tolist())
    assert rows.units[4] == f"person {split['identity'][4]}"


def test_retrieval_by_hand():
    """On a circle: the second image of a is nearer to b's than to a's first."""
    angle = np.radians([0, 40, 60, 90])
    x, split = np.column_stack([np.cos(angle), np.sin(angle)]), {"id": list("wxyz"), "identity": np.array([0, 0, 1, 1])}
    found = score(Retrieval(), Retrieval().rows(x, split).statistics)
    assert found["rank_1"] == 0.5  # w finds x, x finds y, y finds x, z finds y
    assert found["rank_5"] == 1
    assert found["map"] == pytest.approx((1 + 0.5 + 0.5 + 1) / 4)
    with pytest.raises(ValueError, match="none of 4 test images has another one of the same person"):
        Retrieval().rows(x, {**split, "identity": np.arange(4)})
