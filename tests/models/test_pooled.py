"""Reference: NumPy from the definitions, least squares by NumPy.

Planted and seen red: unknown targets counted in the equations, one norm for all vectors, a dropout drawn for the batch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.evaluation.tasks.reconstruction_3d import Basis
from facerep_jax.models.pooled import Layers, Linear, Projection, Targets
from facerep_jax.models.resnet import ResNet
from facerep_jax.models.vit import ViT
from facerep_jax.train.state import Model, flat, merge, split
from facerep_jax.typing import ClosedForm, Features, View

WIDTH, OUTPUTS = 16, 3


def encode(labels, outputs):
    known = jnp.isfinite(labels)
    return Targets(jnp.where(known, labels, 0), known)


@pytest.fixture(scope="module")
def encoder():
    return ViT(
        variant="Nano/8", image_size=32, width=16, depth=2, heads=2, dtype="float32", remat="none", rngs=nnx.Rngs(0)
    )


def features(count, seed=0):
    rng = np.random.default_rng(seed)
    maps = {tap: jnp.asarray(rng.normal(3, 2, (count, 4, 4, WIDTH)), jnp.float32) for tap in range(2)}
    pooled = jnp.asarray(rng.normal(1, 2, (count, WIDTH)), jnp.float32)
    return Features(pooled=pooled, tokens=jnp.zeros((count, 16, WIDTH)), maps=maps)


def labels(count, seed=1):
    found = np.random.default_rng(seed).normal([40, 0, -3], [10, 1, 0.1], (count, OUTPUTS)).astype(np.float32)
    found[0, 1] = found[2] = np.nan
    return found


def test_the_pooled_feature_is_a_map_of_one_cell():
    seen = features(3)
    (one,) = seen.at(())
    np.testing.assert_array_equal(one[:, 0, 0], seen.pooled)
    assert one.shape == (3, 1, 1, WIDTH)


def test_before_it_learns_a_scaled_head_gives_the_mean_of_the_labels_that_are_known(encoder):
    head = Linear(encoder, OUTPUTS, encode, scaled=True, taps=(), rngs=nnx.Rngs(0))
    head.fit(features(6), jnp.asarray(labels(9)))  # of more labels than features
    np.testing.assert_allclose(head(features(2, seed=5))[1], np.nanmean(labels(9), 0), rtol=1e-5)
    np.testing.assert_allclose(head.units.deviation[...], np.nanstd(labels(9), 0), rtol=1e-4)
    plain = Linear(encoder, OUTPUTS, encode, scaled=False, taps=(), rngs=nnx.Rngs(0))
    plain.fit(features(6), jnp.asarray(labels(9)))
    assert not plain(features(2)).any()


def test_the_equations_are_solved_by_what_gives_the_labels(encoder):
    """Labels that are linear in the feature, each missing in some examples, are found by least squares."""
    seen, rng = features(60), np.random.default_rng(2)
    wanted = np.asarray(seen.pooled) @ rng.normal(size=(WIDTH, OUTPUTS)) + [40, 0, -3]
    given = np.where(rng.random(wanted.shape) < 0.3, np.nan, wanted).astype(np.float32)
    head = Linear(encoder, OUTPUTS, encode, scaled=True, taps=(), rngs=nnx.Rngs(0))
    assert isinstance(head, ClosedForm)
    head.fit(seen, jnp.asarray(given))
    x, y, w = (np.asarray(part)[:, 0].astype(np.float64) for part in head.equations(seen.at(()), jnp.asarray(given)))
    np.testing.assert_array_equal(w > 0, np.isfinite(given))
    one = np.column_stack([x, np.ones(60)])
    solved = [np.linalg.lstsq(one[w[:, o] > 0], y[w[:, o] > 0, o], rcond=None)[0] for o in range(OUTPUTS)]
    head.linear.kernel.set_value(jnp.asarray(np.stack(solved, 1)[:-1], jnp.float32))
    head.linear.bias.set_value(jnp.asarray(np.stack(solved, 1)[-1], jnp.float32))
    np.testing.assert_allclose(head(seen), wanted, rtol=1e-3, atol=1e-2)


def norm(x):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)


def test_the_head_of_layers_is_a_weighted_mean_of_means_maxima_and_the_pooled_feature(encoder):
    head = Layers(encoder, OUTPUTS, encode, scaled=False, taps=(0, 1, 1), rngs=nnx.Rngs(0))
    assert not isinstance(head, ClosedForm)
    rng = np.random.default_rng(3)
    logits, scales = rng.normal(size=5), rng.uniform(0.5, 2, (5, WIDTH))
    head.weights.set_value(jnp.asarray(logits, jnp.float32))
    for layer, scale in zip(head.norms, scales, strict=True):
        layer.scale.set_value(jnp.asarray(scale, jnp.float32))
    seen = features(4)
    maps = [np.asarray(seen.maps[tap], np.float64) for tap in (0, 1)]  # the last once, though it is named twice
    vectors = [pooled for x in maps for pooled in (x.mean((1, 2)), x.max((1, 2)))] + [np.asarray(seen.pooled)]
    shares = np.exp(logits) / np.exp(logits).sum()
    mean = sum(share * scale * norm(x) for share, scale, x in zip(shares, scales, vectors, strict=True))
    expected = mean @ np.asarray(head.output.kernel[...], np.float64)
    np.testing.assert_allclose(head(seen), expected, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def resnet():
    """A small ResNet-50, whose stages have 8, 16, 32 and 64 channels."""
    sizes = dict(variant="50", channels=2, blocks=(1, 1, 1, 1))
    return ResNet(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(0))


def test_stages_of_other_widths_are_brought_to_that_of_the_pooled_feature(resnet):
    """tried: the last one projected too; projected vectors in the order of the others."""
    head = Layers(resnet, OUTPUTS, encode, scaled=False, taps=(0, 1, 2, 3), rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    maps = {tap: rng.normal(3, 2, (3, 4, 4, width)) for tap, width in enumerate((8, 16, 32, 64))}
    vectors = []
    for tap, project in enumerate(head.projections):
        both = [maps[tap].mean((1, 2)), maps[tap].max((1, 2))]
        vectors += both if tap == 3 else [each @ np.asarray(project.kernel[...], np.float64) for each in both]
    vectors.append(rng.normal(1, 2, (3, 64)))
    expected = np.mean([norm(x) for x in vectors], 0) @ np.asarray(head.output.kernel[...], np.float64)
    given = {tap: jnp.asarray(x, jnp.float32) for tap, x in maps.items()}
    seen = Features(pooled=jnp.asarray(vectors[-1], jnp.float32), tokens=jnp.zeros((3, 16, 64)), maps=given)
    np.testing.assert_allclose(head(seen), expected, rtol=1e-4, atol=1e-5)


def test_a_residual_network_and_all_of_a_basis_on_it_learn(resnet):
    inner = spec(Layers)
    basis = Basis(resnet, OUTPUTS, encode, scaled=True, taps=(0, 3), components=2, inner=inner, rngs=nnx.Rngs(0))
    images = jnp.asarray(np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)), jnp.uint8)
    basis.mean.set_value(jnp.zeros(OUTPUTS)), basis.basis.set_value(jnp.asarray([[1.0, 0, 1], [0, 1, 1]]))
    graph, params, *rest = split(Model(resnet, basis))

    @jax.jit
    @jax.grad
    def gradient(params):
        model = merge(graph, params, *rest)
        return jnp.square(model.objective(model.encoder(View(images, taps=(0, 3)), train=True)) - 1).mean()

    found = flat(gradient(params))
    assert all(np.isfinite(x).all() for x in found.values())
    learnt = {path for path, x in found.items() if np.abs(x).max() > 0}
    assert {path for path in learnt if "projections" in path} == {
        f"objective/inner/projections/0/{name}" for name in ("kernel", "bias")
    }
    assert {"encoder/stem/kernel", "encoder/groups/0/0/convs/0/kernel", "objective/inner/output/kernel"} <= learnt


def test_where_widths_are_equal_there_is_no_further_parameter(encoder):
    head = Layers(encoder, OUTPUTS, encode, scaled=False, taps=(0, 1), rngs=nnx.Rngs(0))
    paths = set(flat(nnx.to_pure_dict(nnx.state(head, nnx.Param))))
    norms = {f"norms/{index}/{name}" for index in range(5) for name in ("scale", "bias")}
    assert paths == {"weights", "output/kernel", "output/bias"} | norms


def test_dropout_goes_with_the_key_of_an_example_and_not_its_row(encoder):
    head = Layers(encoder, OUTPUTS, encode, scaled=False, taps=(1,), dropout=0.5, rngs=nnx.Rngs(0))
    seen, keys, order = features(4), jax.random.split(jax.random.key(0), 4), np.array([2, 0, 3, 1])
    turned = Features(seen.pooled[order], seen.tokens[order], {tap: x[order] for tap, x in seen.maps.items()})
    one = np.asarray(head(seen, keys))
    np.testing.assert_allclose(head(turned, keys[order]), one[order], rtol=1e-5)
    assert np.abs(one - np.asarray(head(seen))).min() > 1e-6
    again = np.asarray(head(seen, keys[order]))
    assert np.abs(one - again).max() > 1e-4


def test_what_does_not_fit_is_named(encoder):
    for taps, given in (((), {}), ((0,), {"dropout": 1.0})):
        with pytest.raises(ValueError, match=r"give it one tap at least|dropout is a share"):
            Layers(encoder, OUTPUTS, encode, scaled=False, taps=taps, **given, rngs=nnx.Rngs(0))
    for kind, taps in ((Linear, ()), (Layers, (1,))):
        head = kind(encoder, OUTPUTS, encode, scaled=True, taps=taps, rngs=nnx.Rngs(0))
        with pytest.raises(ValueError, match="none of 4 training examples has a known label"):
            head.fit(features(4), jnp.full((4, OUTPUTS), jnp.nan))


def test_a_projection_begins_with_the_angles_between_standardised_features(encoder):
    head = Projection(encoder, 2048, encode, scaled=False, taps=(), rngs=nnx.Rngs(0))
    seen = features(40)
    head.fit(seen, jnp.asarray(np.ones((40, 1))))
    x = np.asarray(seen.pooled, np.float64)
    standard, found = (x - x.mean(0)) / x.std(0), np.asarray(head(seen), np.float64)
    kernel = np.asarray(head.output.kernel[...], np.float64)
    np.testing.assert_allclose(found, standard @ kernel, atol=1e-4)
    before, after = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (standard, found))
    assert np.abs(before @ before.T - after @ after.T).max() < 0.1
    assert not isinstance(head, ClosedForm)
    with pytest.raises(ValueError, match="none of 2 training examples has a known label"):
        head.fit(features(2), jnp.full((2, 1), np.nan))
    with pytest.raises(ValueError, match="a direction, which has no units"):
        Projection(encoder, 2, encode, scaled=True, taps=(), rngs=nnx.Rngs(0))
