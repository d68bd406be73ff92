"""Parity: insightface's IResNet, as iresnet.npz holds it.

Planted and seen red: the last layer's columns not reordered; the stride in the first convolution; a ReLU for a PReLU; a
scale of the last normalisation.
"""

import iresnet as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.iresnet import BLOCKS, IResNet
from facerep_jax.train.model import arrays_of, filled
from facerep_jax.train.state import abstract, count, flat, merge, split
from facerep_jax.typing import Encoder, View
from facerep_jax.weights import insightface


def make(**settings):
    return IResNet(**settings, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def loaded():
    """The network with published weights, through the importer of their layout."""
    empty = nnx.eval_shape(lambda: make(blocks=reference.BLOCKS))
    shapes = insightface.exported({path: np.zeros(x.shape, np.float32) for path, x in arrays_of(empty).items()})
    theirs = {name: reference.array(name, x.shape) for name, x in shapes.items()}
    ours = insightface.imported(theirs)
    back = insightface.exported(ours)
    assert all(np.array_equal(back[name], x.astype(np.float32)) for name, x in theirs.items())
    return filled(empty, ours, "the reference")


def test_outputs_gradients_and_statistics_equal_those_of_insightface(loaded):
    graph, params, variables, frozen = split(loaded)
    direction = reference.draws("loss", (reference.IMAGES, 512)).astype(np.float32)

    @jax.jit
    def run(params, variables, image):
        def loss(params, train):
            model = merge(graph, params, variables, frozen)
            pooled = model(View(image), train=train).pooled
            return (pooled * direction).sum(), (pooled, split(model)[2])

        return {mode: jax.value_and_grad(loss, has_aux=True)(params, mode == "train") for mode in ("eval", "train")}

    ours = {}
    for mode, ((_, (pooled, after)), gradients) in run(params, variables, jnp.asarray(reference.image())).items():
        ours[f"{mode} pooled"] = np.asarray(pooled)
        # The exporter wants all arrays: statistics stand beside the gradients.
        arrays = {path: np.asarray(x) for path, x in (flat(after) | flat(gradients)).items()}
        named = insightface.exported(arrays)
        learnt = named.keys() - {insightface.ONES} - {name for name in named if "running" in name}
        ours |= {f"{mode} gradient {name}": reference.summed(name, named[name]) for name in learnt}
        if mode == "train":
            ours |= {f"statistics {n}": x for n, x in named.items() if "running" in n}
    with np.load(reference.PATH) as stored:
        theirs = {name: stored[name] for name in stored.files if name != "versions"}
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        difference, size = np.abs(ours[name] - expected).max(), np.abs(expected).max()
        limit = (1e-3 if name.startswith("train gradient") else 1e-4) * size  # see test_resnet
        # Of a bias before a normalisation the gradient is 0, but for the rounding of far larger ones.
        rounding = 1e-6 * max(np.abs(x).max() for other, x in theirs.items() if "gradient" in other)
        assert difference <= max(limit, rounding), f"{name}: differs by {difference:.2e} of {size:.2e}"


def test_it_has_as_many_parameters_as_insightfaces():
    """43.59 million in its tables; the scale of the last normalisation is counted there, and never trained."""
    assert count(abstract(make)[1]) == 43_590_848 - 512


def test_it_is_an_encoder_for_images_of_one_size():
    encoder = nnx.eval_shape(lambda: make(variant="18", image_size=64, channels=4))
    assert isinstance(encoder, Encoder)
    assert (encoder.width, encoder.stages, encoder.grid((64, 64))) == (32, 4, (4, 4))
    assert (encoder.tap_widths((0, 3)), encoder.tap_strides((0, 3))) == ((4, 32), (2, 16))

    def see(image):
        return make(variant="18", image_size=64, channels=4)(View(image, taps=(0, 3)))

    seen = jax.eval_shape(see, jax.ShapeDtypeStruct((2, 64, 64, 3), np.uint8))
    assert {tap: x.shape for tap, x in seen.maps.items()} == {0: (2, 32, 32, 4), 3: (2, 4, 4, 32)}
    assert (seen.pooled.shape, seen.tokens.shape) == ((2, 32), (2, 16, 32))
    with pytest.raises(ValueError, match="sees images of 64 x 64 pixels alone, not 48 x 48"):
        encoder(View(jnp.zeros((1, 48, 48, 3))))
    with pytest.raises(ValueError, match="multiple of 16 pixels, not 100"):
        make(image_size=100)
    with pytest.raises(ValueError, match="no IResNet '51'"):
        make(variant="51")


@pytest.fixture(scope="module")
def theirs():
    empty = nnx.eval_shape(lambda: make(variant="18", image_size=32, channels=4))
    return insightface.exported({path: np.zeros(x.shape, np.float32) for path, x in arrays_of(empty).items()})


def test_the_variant_is_told_by_names_and_shapes(theirs):
    assert insightface.BLOCKS == BLOCKS
    expected = {"call": "facerep_jax.models.iresnet:IResNet", "variant": "18", "image_size": 32, "channels": 4}
    assert insightface.encoder(theirs | {"bn1.num_batches_tracked": np.zeros(())}) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("layer1.1.bn3.bias"), r"no array 'layer1\.1\.bn3\.bias'"),
        (lambda x: x.pop("fc.weight"), r"no array 'fc\.weight'"),
        (lambda x: x.update({"head.weight": np.ones(4)}), r"the array 'head\.weight' is unknown"),
        (lambda x: x.update({"layer3.2.conv1.weight": np.ones((4, 4, 3, 3))}), "is no published one"),
        (lambda x: x.update({"features.weight": np.full(32, 2.0)}), r"features\.weight is not 1"),
    ],
)
def test_missing_and_unknown_arrays_are_named(theirs, change, message):
    changed = dict(theirs)
    change(changed)
    with pytest.raises(ValueError, match=message):
        insightface.encoder(changed)
