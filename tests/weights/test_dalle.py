"""The layout of DALL-E's encoder; what the published package makes of it is held in tests/parity/test_dvae.py."""

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from facerep_jax.models.dvae import DVAEEncoder
from facerep_jax.train import handover
from facerep_jax.train.model import arrays_of
from facerep_jax.weights import dalle

SPEC = dict(channels=8, groups=3, blocks=2, codes=12)


@pytest.fixture(scope="module")
def ours():
    """Arrays of an encoder's paths and shapes, all different."""
    empty = nnx.eval_shape(lambda: DVAEEncoder(**SPEC, dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    rng = np.random.default_rng(0)
    shapes = {"/".join(map(str, path)): x.shape for path, x in nnx.to_flat_state(nnx.state(empty))}
    return {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}


@pytest.fixture(scope="module")
def theirs(ours):
    return dalle.exported(ours)


def test_ours_come_back_to_the_bit(ours, theirs):
    found = dalle.imported(theirs)
    assert found.keys() == ours.keys()
    for path, x in ours.items():
        np.testing.assert_array_equal(found[path], x)


def test_names_and_shapes_are_those_of_the_published_package(theirs):
    """openai/DALL-E, dall_e/encoder.py and utils.py: Conv2d holds `w` and `b`, and counts from 1."""
    shapes = {name: x.shape for name, x in theirs.items()}
    expected = {
        "blocks.input.w": (8, 3, 7, 7),
        "blocks.input.b": (8,),
        "blocks.group_1.block_1.res_path.conv_1.w": (2, 8, 3, 3),
        "blocks.group_1.block_2.res_path.conv_4.w": (8, 2, 1, 1),
        "blocks.group_2.block_1.id_path.w": (16, 8, 1, 1),
        "blocks.group_3.block_2.res_path.conv_4.b": (32,),
        "blocks.output.conv.w": (12, 32, 1, 1),
        "blocks.output.conv.b": (12,),
    }
    assert {name: shapes.get(name) for name in expected} == expected
    assert len(shapes) == 2 * (2 + 3 * 2 * 4 + 2)  # input, output, four a block, and where the width changes
    assert not [name for name in shapes if "group_1" in name and "id_path" in name]


def test_kernels_are_turned_axis_by_axis(ours, theirs):
    out, colour, row, column = 3, 2, 6, 1
    assert theirs["blocks.input.w"][out, colour, row, column] == ours["stem/kernel"][row, column, colour, out]


def test_the_encoder_is_told_by_names_and_shapes(theirs):
    assert dalle.encoder(theirs) == {"call": "facerep_jax.models.dvae:DVAEEncoder", **SPEC}


def test_a_file_gives_the_encoder(ours, theirs, tmp_path):
    file = tmp_path / "dvae.safetensors"
    safetensors.numpy.save_file(theirs, file)
    handed = handover.encoder(str(file))
    assert (handed.image_size, handed.origin["weights"]) == (None, "dalle")
    for path, x in arrays_of(handed.encoder).items():
        np.testing.assert_array_equal(x, ours[path])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("blocks.input.w"), r"no array 'blocks\.input\.w'"),
        (lambda x: x.pop("blocks.output.conv.w"), r"no array 'blocks\.output\.conv\.w'"),
        (lambda x: x.update({"blocks.more.w": np.zeros(3)}), r"has no array 'blocks\.more\.w'"),
        (lambda x: x.update({"blocks.input.g": np.zeros(3)}), r"has no array 'blocks\.input\.g'"),
    ],
)
def test_missing_and_unknown_arrays_are_named(theirs, change, message):
    changed = dict(theirs)
    change(changed)
    with pytest.raises(ValueError, match=message):
        dalle.encoder(changed)


def test_a_path_that_no_dvae_has_is_an_error():
    assert dalle.their_name("groups/0/1/convs/2/kernel") == "blocks.group_1.block_2.res_path.conv_3.w"
    assert dalle.their_name("codebook/bias") == "blocks.input.b"  # of the decoder
    with pytest.raises(ValueError, match="embed/kernel is no parameter of a dVAE"):
        dalle.their_name("embed/kernel")
