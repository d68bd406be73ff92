"""Parity: torchvision's ResNet, as resnet.npz holds it.

Planted and seen red: stride 2 in the first convolution of a bottleneck; "SAME" frames; biased running variances; a
shortcut without normalisation.
"""

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.models.resnet import SIZES, ResNet, Sizes
from facerep_jax.train.model import arrays_of, filled
from facerep_jax.train.state import abstract, count, flat, merge, split
from facerep_jax.typing import View
from facerep_jax.weights import torchvision_resnet

found = importlib.util.spec_from_file_location("resnet_reference", Path(__file__).with_name("resnet.py"))
reference = importlib.util.module_from_spec(found)
found.loader.exec_module(reference)

SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("basic", "wide")]
VARIANTS = {"basic": "18", "bottleneck": "50", "wide": "50-wide"}


def make(case):
    _, blocks, _ = reference.CASES[case]
    settings = dict(dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    return ResNet(variant=VARIANTS[case], blocks=blocks, **settings)


def loaded(case):
    """The network with torch's weights, through the importer of their layout."""
    empty = nnx.eval_shape(lambda: make(case))
    theirs = {}
    for path, x in arrays_of(empty).items():
        name = torchvision_resnet.their_name(path)
        shape = tuple(x.shape[axis] for axis in (3, 2, 0, 1)) if x.ndim == 4 else x.shape
        theirs[name] = reference.weight(name, shape)
    return filled(empty, torchvision_resnet.imported(theirs), "the reference")


@pytest.fixture(scope="module", params=[SLOW[0], "bottleneck", SLOW[1]])
def case(request):
    """What torchvision gave and what ours gives, by name."""
    graph, params, variables, frozen = split(loaded(request.param))
    image = jnp.asarray(reference.image())

    @jax.jit
    def run(params, variables, direction):
        def loss(params, train):
            model = merge(graph, params, variables, frozen)
            seen = model(View(image, taps=(0, 1, 2, 3)), train=train)
            return (seen.pooled * direction).sum(), (seen, split(model)[2])

        return {mode: jax.value_and_grad(loss, has_aux=True)(params, mode == "train") for mode in ("eval", "train")}

    width = merge(graph, params, variables, frozen).width
    direction = reference.draws("loss", (reference.IMAGES, width)).astype(np.float32)
    ours = {}
    for mode, ((_, (seen, statistics)), gradients) in run(params, variables, direction).items():
        ours[f"{mode} pooled"] = seen.pooled
        ours |= {f"{mode} map {tap}": x[..., :: reference.KEPT] for tap, x in seen.maps.items()}
        names = torchvision_resnet.exported({path: np.asarray(x) for path, x in flat(gradients).items()})
        ours |= {f"{mode} gradient {name}": reference.summed(name, x) for name, x in names.items()}
        if mode == "train":
            after = torchvision_resnet.exported({path: np.asarray(x) for path, x in flat(statistics).items()})
            ours |= {f"statistics {name}": x for name, x in after.items()}
    with np.load(reference.PATH) as stored:
        prefix = f"{request.param} "
        theirs = {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}
    return {name: np.asarray(x) for name, x in ours.items()}, theirs


def test_outputs_gradients_and_statistics_equal_those_of_torchvision(case):
    ours, theirs = case
    assert ours.keys() == theirs.keys()
    for name, expected in theirs.items():
        # Of a gradient, the norm comes first: it is what its values are small against.
        difference, size = np.abs(ours[name] - expected).max(), np.abs(expected).max()
        # Theirs are of float64. In training, some value of a map is so near to 0 that a ReLU of float32 cuts it off.
        limit = (1e-3 if name.startswith("train gradient") else 1e-4) * size
        assert difference <= limit, f"{name}: differs by {difference:.2e} of {size:.2e}"
    for mode in ("eval", "train"):
        assert theirs[f"{mode} pooled"].std() > 0.1
    assert np.abs(theirs["eval pooled"] - theirs["train pooled"]).max() > 0.1


@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("18", 11_176_512), ("34", 21_284_672), ("50", 23_508_032), ("101", 42_500_160), ("50-wide", 66_834_240)],
)
def test_it_has_as_many_parameters_as_torchvisions(variant, parameters):
    """Without its classifier of 1000 classes."""

    def make():
        return ResNet(variant=variant, dtype="float32", remat="none", rngs=nnx.Rngs(params=0))

    assert count(abstract(make)[1]) == parameters


def test_sizes_are_those_of_the_layout():
    """`weights` imports no models, so that it has the table again."""
    assert {name: Sizes(*sizes) for name, sizes in torchvision_resnet.SIZES.items()} == SIZES
