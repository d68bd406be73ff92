"""Planted and seen red: unknown points counted in the heatmaps' loss."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.ndimage import map_coordinates

from facerep_jax.config import build, spec
from facerep_jax.evaluation.metrics import NME
from facerep_jax.evaluation.tasks.landmarks import ALPHAS, Heatmaps, Landmarks, small
from facerep_jax.models.uper import UPerHead
from facerep_jax.models.vit import ViT
from facerep_jax.typing import Features

POINTS, SIZE = 5, 32


@pytest.fixture(scope="module")
def encoder():
    return ViT(
        variant="Nano/8", image_size=SIZE, width=16, depth=2, heads=2, dtype="float32", remat="none", rngs=nnx.Rngs(0)
    )


@pytest.fixture
def task(encoder):
    return Landmarks(encoder, taps=(0.5, 1.0), label_shape=(POINTS, 2), image_size=SIZE, meta={}, rngs=nnx.Rngs(0))


def features(count: int, seed: int = 0) -> dict[str, Features]:
    rng = np.random.default_rng(seed)
    maps = {tap: jnp.asarray(rng.normal(3, 2, (count, 4, 4, 16)), jnp.float32) for tap in range(2)}
    return {"image": Features(pooled=jnp.zeros((count, 16)), tokens=jnp.zeros((count, 16, 16)), maps=maps)}


def labels(count: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, SIZE, (count, POINTS, 2)).astype(np.float32)


def loss_of(task: Landmarks, seen, batch) -> jax.Array:
    return task.loss(
        seen, {}, batch, encoder=None, step=jnp.zeros((), jnp.int32), rng=jax.random.split(jax.random.key(0), 4)
    )[0]


def test_before_it_learns_the_head_gives_the_mean_shape_of_the_training_labels(task):
    truth = labels(6)
    truth[0, 1] = np.nan
    task.calibrate(features(6), {"landmarks": jnp.asarray(truth)})
    predicted = task.predict(features(3, seed=5), {})
    np.testing.assert_allclose(predicted, np.broadcast_to(np.nanmean(truth, 0), (3, POINTS, 2)), rtol=1e-5)


def test_features_are_standardised_per_channel(task):
    task.calibrate(features(6), {"landmarks": jnp.asarray(labels(6))})
    x = np.asarray(task.head.standardise(task.head.averaged(features(6)["image"].at((0, 1)))))
    np.testing.assert_allclose(x.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(x.std((0, 1, 2)), 1, atol=1e-4)


def test_the_loss_is_the_mean_distance_over_known_points_in_units_of_the_spread(task):
    truth = labels(4)
    task.calibrate(features(4), {"landmarks": jnp.asarray(truth)})
    mean, spread = np.asarray(task.head.mean_shape[...]), float(task.head.spread[...])
    truth[1, 2] = np.nan
    known = np.isfinite(truth).all(-1)
    distance = np.linalg.norm((truth - mean) / spread, axis=-1)
    found = loss_of(task, features(4), {"landmarks": jnp.asarray(truth)})
    np.testing.assert_allclose(found, distance[known].mean(), rtol=1e-5)


def test_points_that_are_not_annotated_give_no_gradient_and_no_nan(task):
    truth = labels(4)
    task.calibrate(features(4), {"landmarks": jnp.asarray(truth)})
    graph, params, rest = nnx.split(task, nnx.Param, ...)

    def gradient(batch):
        return jax.grad(lambda p: loss_of(nnx.merge(graph, p, rest), features(4), batch))(params)

    truth[:, 2] = np.nan
    kernel = gradient({"landmarks": jnp.asarray(truth)})["head"]["linear"]["kernel"]
    kernel = np.asarray(kernel[...]).reshape(-1, POINTS, 2)
    assert np.isfinite(kernel).all()
    assert (kernel[:, 2] == 0).all()
    assert (kernel[:, 1] != 0).any()


def test_a_point_without_a_label_starts_at_the_centre_and_spoils_nothing(task):
    """Planted and seen red: its mean left NaN, which is then in all losses."""
    truth = labels(6)
    truth[:, 3] = np.nan
    task.calibrate(features(4), {"landmarks": jnp.asarray(truth)})  # more labels than features
    predicted = np.asarray(task.predict(features(3), {}))
    np.testing.assert_allclose(predicted[:, 3], (SIZE - 1) / 2)
    np.testing.assert_allclose(predicted[0, 0], truth[:, 0].mean(0), rtol=1e-5)
    assert np.isfinite(loss_of(task, features(4), {"landmarks": jnp.asarray(truth[:4])}))
    with pytest.raises(ValueError, match="none of 6 training examples has a known landmark"):
        task.calibrate(features(6), {"landmarks": jnp.full((6, POINTS, 2), jnp.nan)})


@pytest.fixture(scope="module")
def heatmaps(encoder):
    """Heatmaps from a linear head, so that no batch normalisation joins the examples."""
    task = Landmarks(
        encoder,
        taps=(0.5, 1.0),
        label_shape=(POINTS, 2),
        head=spec(Heatmaps),
        image_size=SIZE,
        meta={},
        rngs=nnx.Rngs(0),
    )
    task.head.dense.linear.kernel.set_value(30 * task.head.dense.linear.kernel[...])  # logits of about 1
    task.calibrate(features(6), {"landmarks": jnp.asarray(labels(6))})
    return task


def heatmap_losses(logits, truth):
    """Mean distance in sides of the image, and mean binary cross-entropy at 128 x 128, of known points; in NumPy."""
    distances, surprises = [], []
    rows, columns = np.meshgrid(*[(np.arange(128) + 0.5) * 4 / 128 - 0.5] * 2, indexing="ij")
    place = np.arange(128)
    for n, k in np.ndindex(*truth.shape[:2]):
        if not np.isfinite(truth[n, k]).all():
            continue
        point = (truth[n, k].astype(np.float64) + 0.5) / SIZE
        weight = 1 / (1 + np.exp(-logits[n, :, :, k]))
        mean = [(weight * np.arange(4)).sum() / weight.sum(), (weight * np.arange(4)[:, None]).sum() / weight.sum()]
        distances.append(np.linalg.norm((np.array(mean) + 0.5) / 4 - point))
        square = (place - (point[0] * 128 - 0.5)) ** 2 + (place[:, None] - (point[1] * 128 - 0.5)) ** 2
        heat = np.where(square <= 25, np.exp(-square * 16 / 50), 0)
        z = map_coordinates(logits[n, :, :, k], (rows, columns), order=1, mode="nearest")
        surprises.append((np.log1p(np.exp(z)) - heat * z).mean())
    return np.mean(distances), np.mean(surprises)


def test_the_losses_of_heatmaps_are_farls_over_known_points(heatmaps):
    truth = labels(4)
    truth[1, 2], truth[3] = np.nan, np.nan
    truth[2, 0, 1] = np.nan  # half a point is none
    seen = features(4)
    loss, metrics = heatmaps.loss(
        seen,
        {},
        {"landmarks": jnp.asarray(truth)},
        encoder=None,
        step=jnp.zeros((), jnp.int32),
        rng=jax.random.split(jax.random.key(0), 4),
    )
    expected = heatmap_losses(np.asarray(heatmaps.head.dense(seen["image"].at((0, 1))), np.float64), truth)
    np.testing.assert_allclose(metrics["coordinates"], expected[0], rtol=1e-4)
    np.testing.assert_allclose(metrics["heatmaps"], expected[1], rtol=1e-4)
    np.testing.assert_allclose(loss, sum(expected), rtol=1e-4)
    np.testing.assert_allclose(metrics["known"], 13 / 20)


def test_heatmaps_are_read_in_pixels_of_the_image(heatmaps):
    logits = np.asarray(heatmaps.head.dense(features(3)["image"].at((0, 1))), np.float64)
    weight = 1 / (1 + np.exp(-logits))
    mean = np.stack([np.einsum("bhwk,w->bk", weight, np.arange(4)), np.einsum("bhwk,h->bk", weight, np.arange(4))], -1)
    mean /= weight.sum((1, 2))[..., None]
    found = heatmaps.predict(features(3), {})
    np.testing.assert_allclose(found, 8 * mean + 3.5, rtol=1e-5)  # a token is 8 pixels, its centre between 3 and 4


def test_points_that_are_not_annotated_give_heatmaps_no_gradient_and_no_nan(heatmaps):
    truth = labels(4)
    truth[:, 2] = np.nan
    graph, params, rest = nnx.split(heatmaps, nnx.Param, ...)
    batch = {"landmarks": jnp.asarray(truth)}
    kernel = jax.grad(lambda p: loss_of(nnx.merge(graph, p, rest), features(4), batch))(params)
    kernel = np.asarray(kernel["head"]["dense"]["linear"]["kernel"][...])
    assert np.isfinite(kernel).all()
    assert (kernel[:, 2] == 0).all()
    assert (kernel[:, 1] != 0).any()


@pytest.mark.slow
def test_farls_head_learns_eight_faces(learnt):
    """Scored in evaluation mode: with running statistics and without dropout."""
    head = spec(Heatmaps, dense=spec(UPerHead, channels=16), size=48)  # drawn smaller than FaRL's, which take long
    faces, _, prediction = learnt(Landmarks, head=head, steps=250)
    truth = faces["landmarks"]
    error, of_the_mean_shape = (
        np.linalg.norm(points - truth, axis=-1).mean() for points in (prediction, truth.mean(0, keepdims=True))
    )
    assert error < of_the_mean_shape / 2


def test_a_head_has_as_many_points_as_a_label(encoder):
    shape = dict(taps=(0.5, 1.0), image_size=SIZE, meta={}, rngs=nnx.Rngs(0))
    assert Landmarks(encoder, label_shape=(7, 2), **shape).predict(features(3), {}).shape == (3, 7, 2)


def test_the_metric_is_that_of_the_data_set():
    described = {"landmarks": {"normaliser": {"kind": "inter_ocular", "left": 0, "right": 1}}}
    assert isinstance(build(Landmarks.metric(described)), NME)
    assert build(Landmarks.metric(described)).headline == "nme_inter_ocular"
    assert build(Landmarks.metric({})).headline == "nme_box"


def test_baselines_are_the_mean_shape_and_ridge_from_the_definition():
    rng = np.random.default_rng(0)
    splits = [
        {"image": rng.integers(0, 255, (n, SIZE, SIZE, 3), dtype=np.uint8), "landmarks": labels(n, seed=n)}
        for n in (20, 8, 6)
    ]
    found = Landmarks.baselines(*splits, {})
    truth = splits[0]["landmarks"].astype(np.float64)
    np.testing.assert_allclose(found["mean_shape"][3], truth.mean(0))

    x = small(splits[0]["image"])
    y = (truth - truth.mean(0)).reshape(20, -1)
    centred = x - x.mean(0)
    errors, predictions = [], []
    for alpha in ALPHAS:
        weights = centred.T @ np.linalg.solve(centred @ centred.T + alpha * np.eye(20), y - y.mean(0))
        held, test = (
            truth.mean(0) + ((small(s["image"]) - x.mean(0)) @ weights + y.mean(0)).reshape(-1, POINTS, 2)
            for s in splits[1:]
        )
        errors.append(np.linalg.norm(held - splits[1]["landmarks"], axis=-1).mean())
        predictions.append(test)
    np.testing.assert_allclose(found["linear_pixels"], predictions[int(np.argmin(errors))], atol=1e-6)


def test_ridge_takes_each_point_from_the_faces_that_have_it():
    """No face has all points, one point is in none; what is regressed of a point is as if there were no others."""
    rng = np.random.default_rng(0)
    train, validation, test = (
        {"image": rng.integers(0, 255, (n, SIZE, SIZE, 3), dtype=np.uint8), "landmarks": labels(n, seed=n)}
        for n in (12, 4, 3)
    )
    train["landmarks"][:6, 0] = train["landmarks"][6:, 1] = np.nan
    train["landmarks"][:, 2] = np.nan
    validation["landmarks"][:, 2:] = np.nan
    validation["landmarks"][0] = np.nan
    found = Landmarks.baselines(train, validation, test, {})
    for points in found.values():
        assert np.isfinite(points).all()
        np.testing.assert_allclose(points[:, 2], (SIZE - 1) / 2)
    single = [{name: x[:, :1] if name == "landmarks" else x for name, x in s.items()} for s in (train, validation)]
    single[0] = {name: x[6:] for name, x in single[0].items()}
    blind = {**validation, "landmarks": np.full_like(validation["landmarks"], np.nan)}
    strongest = Landmarks.baselines(train, blind, test, {})["linear_pixels"]
    alone = Landmarks.baselines(single[0], {**single[1], "landmarks": blind["landmarks"][:, :1]}, test, {})
    np.testing.assert_allclose(strongest[:, :1], alone["linear_pixels"])
    shape = found["mean_shape"]
    assert np.abs(strongest - shape).max() < np.abs(found["linear_pixels"] - shape).max() + 1e-9  # the largest penalty


def test_pictures_have_the_points_where_they_are():
    picture = np.asarray(
        Landmarks.draw(np.zeros((SIZE, SIZE, 3), np.uint8), np.array([[8.0, 4.0]]), np.array([[20.0, np.nan]]), scale=4)
    )
    assert picture.shape == (4 * SIZE, 4 * SIZE, 3)
    down, across = np.argwhere(picture[..., 1] > 200).mean(0)  # of the ring
    assert (round(across), round(down)) == (34, 18)  # (8 + 0.5) * 4 across, (4 + 0.5) * 4 down
    assert (picture[..., 0] > 200).sum() == 0  # a prediction that is no number is not drawn
    both = Landmarks.draw(np.zeros((SIZE, SIZE, 3), np.uint8), np.array([[8.0, 4.0]]), np.array([[20.0, 4.0]]), scale=4)
    assert np.asarray(both)[18, 82].tolist() == [255, 60, 60]
    assert np.asarray(both)[18, 58].min() > 200  # a line joins the two
