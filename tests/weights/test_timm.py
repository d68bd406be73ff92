"""MAE's layout, against its description and against what timm made of the same arrays.

Planted and seen red: halves of the positions swapped; no class token's position; a matrix not turned.
"""

from functools import partial

import numpy as np
import pytest
import safetensors.numpy

from facerep_jax.models.vit import sincos
from facerep_jax.train import handover
from facerep_jax.train.state import Model
from facerep_jax.weights import timm
from tests.parity import published


@pytest.fixture(scope="module")
def model():
    return published.drawn(partial(published.make, "mae", "small"))


@pytest.fixture(scope="module")
def ours(model):
    return published.on_host(model.encoder)


@pytest.fixture(scope="module")
def theirs(ours):
    return timm.exported(ours)


def described(width, depth, patch, side):
    """Names and shapes of the encoder, as facebookresearch/mae's models_mae.py makes them."""
    shapes = {
        "cls_token": (1, 1, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for index in range(depth):
        shapes |= {
            f"blocks.{index}.norm1.weight": (width,),
            f"blocks.{index}.norm1.bias": (width,),
            f"blocks.{index}.attn.qkv.weight": (3 * width, width),
            f"blocks.{index}.attn.qkv.bias": (3 * width,),
            f"blocks.{index}.attn.proj.weight": (width, width),
            f"blocks.{index}.attn.proj.bias": (width,),
            f"blocks.{index}.norm2.weight": (width,),
            f"blocks.{index}.norm2.bias": (width,),
            f"blocks.{index}.mlp.fc1.weight": (4 * width, width),
            f"blocks.{index}.mlp.fc1.bias": (4 * width,),
            f"blocks.{index}.mlp.fc2.weight": (width, 4 * width),
            f"blocks.{index}.mlp.fc2.bias": (width,),
        }
    arrays = {name: np.broadcast_to(np.float32(0), shape) for name, shape in shapes.items()}
    return arrays | {"pos_embed": sincos(side, side, width)[None]}


def assert_equal(found, expected):
    """The same names, shapes and bits."""
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert found[name].shape == x.shape, name
        np.testing.assert_array_equal(found[name], x)


def test_ours_come_back_to_the_bit(ours, theirs):
    assert_equal(timm.imported(theirs), ours)
    assert_equal(timm.exported(timm.imported(theirs)), theirs)


def test_names_and_shapes_are_those_described_but_for_positions(theirs):
    expected = described(64, 3, 8, 4)
    del expected["pos_embed"]
    assert {name: x.shape for name, x in theirs.items()} == {name: x.shape for name, x in expected.items()}


def test_arrays_lie_as_torch_multiplies_by_them(ours, theirs):
    x = np.random.default_rng(0).normal(size=64).astype(np.float32)
    qkv = theirs["blocks.2.attn.qkv.weight"] @ x + theirs["blocks.2.attn.qkv.bias"]
    for part, found in zip(("query", "key", "value"), np.split(qkv, 3), strict=True):
        expected = x @ ours[f"blocks/{part}/kernel"][2] + ours[f"blocks/{part}/bias"][2]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(theirs["blocks.0.mlp.fc2.weight"], ours["blocks/down/kernel"][0].T)
    np.testing.assert_array_equal(theirs["cls_token"][0, 0], ours["class_token"])
    row, column, colour, out = 3, 7, 2, 11
    pixel = ours["embed/kernel"][(row * 8 + column) * 3 + colour, out]
    assert theirs["patch_embed.proj.weight"][out, colour, row, column] == pixel


@pytest.mark.parametrize(
    ("width", "depth", "patch", "side", "variant", "heads"),
    [(768, 12, 16, 14, "B/16", 12), (1024, 24, 16, 14, "L/16", 16), (1280, 32, 14, 16, "H/14", 16)],
)
def test_the_encoder_is_told_by_shapes(width, depth, patch, side, variant, heads):
    """As MAE's paper has its sizes, of which no array shows the heads."""
    assert timm.encoder(described(width, depth, patch, side)) == {
        "call": "facerep_jax.models.vit:ViT",
        "flavour": "mae",
        "variant": variant,
        "image_size": 224,
        "width": width,
        "depth": depth,
        "heads": heads,
    }


def test_positions_tell_the_size_of_images_and_those_of_mae_and_moco_are_left_out(ours, theirs):
    positions = {"pos_embed": sincos(4, 4, 64)[None]}
    assert timm.encoder(theirs)["image_size"] == 224
    assert timm.encoder(theirs | positions)["image_size"] == 32
    assert "positions" not in timm.encoder(theirs | positions)
    assert_equal(timm.imported(theirs | positions), ours)
    swapped = {"pos_embed": np.roll(sincos(4, 4, 64), 32, axis=1)[None]}  # MoCo v3's have the halves swapped
    assert timm.encoder(theirs | swapped)["positions"] == "sincos_rows"
    assert_equal(timm.imported(theirs | swapped), ours)


def test_learned_positions_are_read_with_or_without_one_of_the_class_token(ours, theirs):
    learned = np.random.RandomState(0).normal(0, 0.02, (1, 17, 64)).astype(np.float32)
    assert timm.encoder({**theirs, "pos_embed": learned})["positions"] == "learned"
    assert_equal(timm.imported({**theirs, "pos_embed": learned}), ours | {"positions": learned[0]})
    bare = timm.imported({**theirs, "pos_embed": learned[:, 1:]})["positions"]
    np.testing.assert_array_equal(bare, np.concatenate([np.zeros((1, 64)), learned[0, 1:]]))


@pytest.mark.parametrize(
    ("positions", "message"),
    [
        (np.zeros((1, 15, 64)), "15 positions are of no square grid of patches"),
        (np.zeros((17, 64)), r"pos_embed has shape \(17, 64\), \(1, tokens, width\) is expected"),
    ],
)
def test_positions_of_no_square_grid_are_refused(theirs, positions, message):
    with pytest.raises(ValueError, match=message):
        timm.encoder({**theirs, "pos_embed": positions})


def test_what_is_written_for_timms_own_reader_holds_fixed_positions(ours, theirs):
    spec = timm.encoder(theirs) | {"image_size": 32}
    assert_equal(timm.exported(ours, spec), theirs | {"pos_embed": sincos(4, 4, 64)[None]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("norm.bias"), r"no array 'norm\.bias'"),
        (lambda x: x.pop("blocks.1.attn.qkv.bias"), r"no array 'blocks\.1\.attn\.qkv\.bias'"),
        (lambda x: x.update({"blocks.0.ls1.gamma": np.ones(64)}), r"no array 'blocks\.0\.ls2\.gamma'"),
        (lambda x: x.update({"fc_norm.bias": np.zeros(64)}), r"the array 'fc_norm\.bias' is unknown"),
        (lambda x: x.update({"decoder_pred.bias": np.zeros(64)}), r"the array 'decoder_pred\.bias' is unknown"),
    ],
)
def test_missing_and_unknown_arrays_are_named(theirs, change, message):
    changed = dict(theirs)
    change(changed)
    for read in (timm.encoder, timm.imported):
        with pytest.raises(ValueError, match=message):
            read(changed)


def test_a_classifier_is_left_out(ours, theirs):
    more = {"head.weight": np.zeros((1000, 64)), "head.bias": np.zeros(1000)}
    assert timm.encoder(theirs | more) == timm.encoder(theirs)
    assert_equal(timm.imported(theirs | more), ours)


def test_ours_that_are_missing_or_unknown_are_named(ours):
    with pytest.raises(ValueError, match="the array 'stem' is unknown"):
        timm.exported({**ours, "stem": np.zeros((17, 64))})
    with pytest.raises(ValueError, match="no array 'norm_out/bias'"):
        timm.exported({path: x for path, x in ours.items() if path != "norm_out/bias"})


@pytest.mark.parametrize(
    ("name", "layout"), [("small", "@tests.weights.small_timm"), pytest.param("B/16", "@timm", marks=pytest.mark.slow)]
)
def test_a_file_gives_what_timm_made_of_it(model, tmp_path, name, layout):
    """`frozen.npz` holds timm's outputs."""
    model = model if name == "small" else published.drawn(partial(published.make, "mae", name))
    size, patch = published.MODELS[name][0]["image_size"], model.encoder.patch
    positions = sincos(size // patch, size // patch, model.encoder.width)[None]
    file = tmp_path / "mae.safetensors"
    safetensors.numpy.save_file({**published.torch_names(model), "pos_embed": positions}, file)
    handed = handover.encoder(f"{file}{layout}")
    assert handed.image_size == size
    found = published.ours(Model(handed.encoder, None), name, size)
    published.assert_close(found, published.frozen("mae", name, size))
