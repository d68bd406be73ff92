"""The encoder that is judged, where it comes from published weights and the config describes it too."""

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import OPEN, spec
from facerep_jax.evaluation.encoders import load_encoder
from facerep_jax.models.vit import ViT
from facerep_jax.train.model import arrays_of
from facerep_jax.weights import timm


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """MAE's layout at a size of its own."""
    sizes = dict(flavour="mae", variant="Nano/8", image_size=16, width=64, depth=1, heads=1)
    empty = nnx.eval_shape(lambda: ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    path = tmp_path_factory.mktemp("mae") / "encoder.safetensors"
    arrays = {path: np.zeros(x.shape, np.float32) for path, x in arrays_of(empty).items()}
    safetensors.numpy.save_file(timm.exported(arrays), path)
    return path


def loaded(file, **said):
    described = spec(ViT, **{"flavour": "mae", "image_size": OPEN, "unroll": 4, **said})
    return load_encoder(ConfigDict(dict(encoder=described, encoder_seed=0, weights="params", remat="none")), str(file))


def test_a_variant_that_matches_published_weights_is_taken(file):
    """It leaves width, depth and heads unsaid, which the file tells."""
    found = loaded(file, variant="Nano/8")
    assert (found.encoder.width, found.encoder.depth, found.encoder.heads) == (64, 1, 1)
    assert (found.spec["unroll"], found.image_size) == (4, found.spec["image_size"])


@pytest.mark.parametrize(
    ("said", "message"),
    [({"variant": "S/8"}, "variant: Nano/8 -> S/8"), ({"variant": "Nano/8", "depth": 2}, "depth: 1 -> 2")],
)
def test_another_one_is_refused(file, said, message):
    with pytest.raises(ValueError, match=f"another encoder than config.encoder: {message}"):
        loaded(file, **said)
