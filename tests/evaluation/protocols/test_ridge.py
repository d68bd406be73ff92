"""Ridge regression in closed form, against scikit-learn and from its definition."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from sklearn.linear_model import Ridge as Reference

from facerep_jax import cli
from facerep_jax.config import spec
from facerep_jax.evaluation import cache
from facerep_jax.evaluation.protocols.ridge import Ridge, System, by_features, by_rows, head_of
from facerep_jax.evaluation.tasks.landmarks import Heatmaps, Landmarks, Regression
from facerep_jax.evaluation.tasks.parsing import Parsing
from facerep_jax.models.heads import PerToken
from facerep_jax.models.uper import UPerHead
from tests.evaluation.problems import HELD_OUT, ROWS, SIZE, error, make_encoder, mean_shape_error

FEATURES, PENALTIES = 12, (1e-4, 1e-2, 1.0)


def drawn(rows):
    """Designs far from zero, and targets some of which are not known: of 4 and 5 the weights are shares, of 6 none."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 1, (rows, FEATURES)), rng.normal(size=(rows, 7))
    w = np.ones((rows, 7))
    w[::3, 1] = w[::3, 2] = w[1::4, 3] = w[:, 6] = 0
    w[:, 4] = w[:, 5] = rng.uniform(size=rows)
    return System(*(part.astype(np.float32) for part in (x, y, w)))


def expected(system, penalty):
    """Kernel and bias of each output by scikit-learn in float64; zero if no row counts."""
    x, y, w = (part.astype(np.float64) for part in system)
    kernel, bias = np.zeros((x.shape[1], y.shape[1])), np.zeros(y.shape[1])
    for of in np.unique(w, axis=1).T:
        if of.any():
            outputs = np.flatnonzero((w == of[:, None]).all(0))
            trace = (of[:, None] * np.square(x - np.average(x, axis=0, weights=of))).sum()
            fitted = Reference(penalty * trace, solver="svd").fit(x, y[:, outputs], sample_weight=of)
            kernel[:, outputs], bias[outputs] = np.atleast_2d(fitted.coef_).T, fitted.intercept_
    return kernel, bias


@pytest.mark.parametrize("form", ["features", "rows"])
@pytest.mark.parametrize("rows", [30, 9])
def test_both_forms_are_ridge_regression(form, rows, tmp_path):
    system = drawn(rows)
    parts = [System(*(part[at] for part in system)) for at in np.array_split(np.arange(rows), 3)]
    solution = by_features(parts) if form == "features" else by_rows(parts, rows, FEATURES, tmp_path)
    for penalty in PENALTIES:
        for got, wanted in zip(solution(penalty), expected(system, penalty), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())


def test_designs_that_are_all_alike_give_the_mean(tmp_path):
    system = System(np.full((4, 6), 0.7, np.float32), np.arange(8, dtype=np.float32).reshape(4, 2), np.ones((4, 2)))
    for solution in (by_features([system]), by_rows([system], 4, 6, tmp_path)):
        kernel, bias = solution(1e-3)
        np.testing.assert_allclose(np.full(6, 0.7) @ kernel + bias, [3, 4])


@pytest.fixture
def parts_of_sixteen(monkeypatch):
    monkeypatch.setattr(cache, "ROWS", 16)  # so that the last part of 47 is filled up


@pytest.mark.parametrize("cells", [7, 1])
def test_the_penalty_is_that_which_is_best_on_validation(problem, parts_of_sixteen, cells):
    """In the kernel form with 1024 features of 47 faces, in the other with 32."""

    def make_task(seed):
        settings = dict(taps=(0.5, 1.0) if cells > 1 else (0.5,), head=spec(Regression, cells=cells))
        runtime = dict(label_shape=(68, 2), image_size=SIZE, meta={}, rngs=nnx.Rngs(seed))
        return Landmarks(problem.encoder, **settings, **runtime)

    # Points that few faces lack: coordinates of two patterns.
    train = problem.splits["train"]
    train = {**train, "landmarks": train["landmarks"].copy()}
    train["landmarks"][1:20, 7] = np.nan
    problem = problem._replace(make_task=make_task, task=make_task(0), splits={**problem.splits, "train": train})
    outcome = Ridge(penalties=PENALTIES).prepare(problem)(ROWS, HELD_OUT, 0)

    task, extract = make_task(0), cache.extractor(problem.encoder, problem.task.taps)
    seen = {role: cache.given(extract(of["image"]))["image"].at(task.taps) for role, of in problem.splits.items()}
    labels = train["landmarks"][ROWS]
    task.head.fit(tuple(x[ROWS] for x in seen["train"]), jnp.asarray(labels))
    designs = {role: np.asarray(task.head.designs(maps)) for role, maps in seen.items()}
    flat = labels.reshape(len(labels), -1)
    system = System(designs["train"][ROWS], np.nan_to_num(flat), np.isfinite(flat).astype(np.float32))
    scores, predictions = {}, {}
    for penalty in PENALTIES:
        kernel, bias = expected(system, penalty)
        points = {role: (x @ kernel + bias).reshape(-1, 68, 2) for role, x in designs.items()}
        validation = problem._replace(splits={"test": problem.splits["validation"]})
        scores[penalty], predictions[penalty] = error(validation, points["validation"]), points["test"]
    best = min(scores, key=scores.get)
    assert outcome.selected == {"penalty": best, "validation": pytest.approx(scores[best], rel=1e-4)}
    np.testing.assert_allclose(outcome.prediction, predictions[best], atol=1e-3 * SIZE)
    assert error(problem, outcome.prediction) < mean_shape_error(problem, ROWS[20:])


def test_the_last_of_one_penalty_needs_no_validation_and_images_do_as_well_as_features(problem):
    last = problem._replace(selection="last")
    nobody = np.zeros(0, int)
    assert not Ridge(penalties=(1e-2,)).compares
    outcomes = [
        Ridge(penalties=(1e-2,), cache_gigabytes=gigabytes).prepare(last)(ROWS, nobody, 0) for gigabytes in (20.0, 0.0)
    ]
    assert outcomes[0].selected == {"penalty": 1e-2}
    np.testing.assert_allclose(outcomes[0].prediction, outcomes[1].prediction, atol=2e-3)
    assert not list(problem.folder.iterdir())
    assert Ridge().compares
    with pytest.raises(ValueError, match="learning rates or penalties takes validation examples, and there are none"):
        Ridge(penalties=PENALTIES).prepare(last)(ROWS, nobody, 0)


def test_a_token_s_equations_are_the_shares_of_the_pixels_of_its_parts():
    head = PerToken(nnx.eval_shape(make_encoder), 3, taps=(0,), cells=2, rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    maps = (jnp.asarray(rng.normal(size=(2, 4, 4, 32)), jnp.float32),)
    mask = rng.integers(0, 3, (2, 32, 32)).astype(np.uint8)
    mask[:, :6] = 255
    found = head.equations(maps, jnp.asarray(mask))
    assert (found.designs.shape, found.targets.shape) == ((2, 16, 32), (2, 16, 12))
    targets, weights = (np.asarray(x).reshape(2, 4, 4, 2, 2, 3) for x in (found.targets, found.weights))
    for n, row, column, y, x in np.ndindex(2, 4, 4, 2, 2):
        pixels = mask[n, 8 * row + 4 * y :, 8 * column + 4 * x :][:4, :4]
        known = (pixels != 255).sum()
        np.testing.assert_allclose(weights[n, row, column, y, x], known / 16)
        shares = [(pixels == index).sum() / max(known, 1) for index in range(3)]
        np.testing.assert_allclose(targets[n, row, column, y, x], shares, atol=1e-6)


def test_a_head_that_is_not_linear_is_refused_in_a_line():
    encoder = nnx.eval_shape(make_encoder)
    settings = dict(image_size=SIZE, rngs=nnx.Rngs(0))
    landmarks = dict(taps=(0.5, 1.0), label_shape=(68, 2), meta={}, **settings)
    parsing = dict(meta={"classes": ["background", "skin"]}, **settings)
    assert head_of(Landmarks(encoder, **landmarks)).linear
    assert head_of(Parsing(encoder, taps=(0.5,), **parsing)).linear
    for task, name in (
        (Landmarks(encoder, head=spec(Heatmaps), **landmarks), "Heatmaps"),
        (Parsing(encoder, taps=(0.1, 0.4, 0.7, 1.0), head=spec(UPerHead, channels=4), **parsing), "UPerHead"),
    ):
        with pytest.raises(ValueError, match=f"protocol=ridge solves for a linear head, .* and {name} is none") as said:
            head_of(task)
        assert "\n" not in str(said.value)


def test_what_cannot_be_is_said():
    for penalties in ((), (1e-3, 0.0)):
        with pytest.raises(ValueError, match="penalties are above 0, and there is at least one"):
            Ridge(penalties=penalties)


@pytest.mark.parametrize(("task", "headline"), [("landmarks", "nme_box"), ("parsing", "f1_mean_foreground")])
def test_an_evaluation_goes_the_whole_way(task, headline, tmp_path):
    config = f"configs/evaluate/{task}.py:protocol=ridge,fraction=0.2,small,variant=Nano/8,size=48"
    data = "generated_faces:size=48,train=40,validation=12,test=16"
    where = (f"--config={config}", f"--config.data.dataset={data}", "--checkpoint=random", f"--workdir={tmp_path}")
    assert cli.main(["facerep", "evaluate", *where, "--config.seeds=(0,1)", "--config.baselines=()"]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["protocol"], results["labels"], results["validation_labels"]) == ("ridge", 8, 10)
    assert np.isfinite(results["metrics"][headline]["mean"])
    for subset in json.loads((tmp_path / "subsets.json").read_text()):
        assert set(subset["selected"]) == {"penalty", "validation"}
