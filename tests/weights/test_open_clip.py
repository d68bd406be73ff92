"""CLIP's and FaRL's layout, against its description and against what open_clip made of the same arrays.

Planted and seen red: rows of query and key swapped; a matrix not turned; colours before rows in the patch embedding.
"""

from functools import partial

import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from facerep_jax import weights
from facerep_jax.train import handover
from facerep_jax.train.model import filled
from facerep_jax.train.state import Model
from facerep_jax.weights import open_clip
from tests.parity import published


@pytest.fixture(scope="module")
def model():
    return published.drawn(partial(published.make, "clip", "small"))


@pytest.fixture(scope="module")
def ours(model):
    return published.on_host(model.encoder)


@pytest.fixture(scope="module")
def theirs(model):
    return published.torch_names(model)


def described(width, depth, patch, side, name="visual.transformer.resblocks"):
    """Names and shapes of the visual tower, as openai/CLIP's model.py makes them."""
    shapes = {
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (side**2 + 1, width),
        "visual.proj": (width, 512),
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.ln_pre.weight": (width,),
        "visual.ln_pre.bias": (width,),
        "visual.ln_post.weight": (width,),
        "visual.ln_post.bias": (width,),
    }
    for index in range(depth):
        shapes |= {
            f"{name}.{index}.ln_1.weight": (width,),
            f"{name}.{index}.ln_1.bias": (width,),
            f"{name}.{index}.attn.in_proj_weight": (3 * width, width),
            f"{name}.{index}.attn.in_proj_bias": (3 * width,),
            f"{name}.{index}.attn.out_proj.weight": (width, width),
            f"{name}.{index}.attn.out_proj.bias": (width,),
            f"{name}.{index}.ln_2.weight": (width,),
            f"{name}.{index}.ln_2.bias": (width,),
            f"{name}.{index}.mlp.c_fc.weight": (4 * width, width),
            f"{name}.{index}.mlp.c_fc.bias": (4 * width,),
            f"{name}.{index}.mlp.c_proj.weight": (width, 4 * width),
            f"{name}.{index}.mlp.c_proj.bias": (width,),
        }
    return {name: np.broadcast_to(np.float16(0), shape) for name, shape in shapes.items()}


def assert_equal(found, expected):
    """The same names, shapes and bits."""
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        assert found[name].shape == np.shape(x), name
        np.testing.assert_array_equal(found[name], x)


def test_ours_come_back_to_the_bit(model, ours):
    assert_equal(open_clip.imported(open_clip.exported(ours)), ours)
    objective = published.on_host(model.objective)
    assert_equal(open_clip.imported_objective(open_clip.exported_objective(objective)), objective)


def test_the_whole_state_dict_gives_encoder_and_objective(model, ours, theirs):
    assert_equal(open_clip.imported(theirs), ours)
    assert_equal(open_clip.imported_objective(theirs), published.on_host(model.objective))


def test_names_and_shapes_are_those_described(ours, theirs):
    small = described(64, 3, 8, 4) | {"visual.proj": np.zeros((64, 24))}
    assert {n: x.shape for n, x in theirs.items() if n.startswith("visual.")} == {n: x.shape for n, x in small.items()}
    assert open_clip.exported(ours).keys() == small.keys() - {"visual.proj"}
    of_text = {name: x.shape for name, x in theirs.items() if not name.startswith(("visual.", "transformer."))}
    assert of_text == {
        "token_embedding.weight": (49408, 32),
        "positional_embedding": (77, 32),
        "ln_final.weight": (32,),
        "ln_final.bias": (32,),
        "text_projection": (32, 24),
        "logit_scale": (),
    }
    assert {name.split(".")[2] for name in theirs if name.startswith("transformer.")} == {"0", "1"}


def test_arrays_lie_as_torch_multiplies_by_them(ours, theirs):
    block = "visual.transformer.resblocks.1"
    x = np.random.default_rng(0).normal(size=64).astype(np.float32)
    qkv = theirs[f"{block}.attn.in_proj_weight"] @ x + theirs[f"{block}.attn.in_proj_bias"]
    for part, found in zip(("query", "key", "value"), np.split(qkv, 3), strict=True):
        expected = x @ ours[f"blocks/{part}/kernel"][1] + ours[f"blocks/{part}/bias"][1]
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(theirs[f"{block}.mlp.c_fc.weight"], ours["blocks/up/kernel"][1].T)
    np.testing.assert_array_equal(theirs[f"{block}.ln_2.weight"], ours["blocks/mlp_norm/scale"][1])
    row, column, colour, out = 5, 2, 1, 40
    pixel = ours["embed/kernel"][(row * 8 + column) * 3 + colour, out]
    assert theirs["visual.conv1.weight"][out, colour, row, column] == pixel


@pytest.mark.parametrize(
    ("width", "depth", "patch", "side", "variant", "heads"),
    [(768, 12, 16, 14, "B/16", 12), (1024, 24, 14, 24, "L/14", 16), (1280, 32, 14, 16, "H/14", 16)],
)
def test_the_encoder_is_told_by_shapes(width, depth, patch, side, variant, heads):
    spec = open_clip.encoder(described(width, depth, patch, side))
    assert spec == {
        "call": "facerep_jax.models.vit:ViT",
        "flavour": "clip",
        "variant": variant,
        "image_size": side * patch,
        "width": width,
        "depth": depth,
        "heads": heads,
    }


def test_what_belongs_to_others_is_left_out(theirs):
    """FaRL's branch of masked tokens, whose blocks do not count, and OpenAI's settings; half precision becomes full."""
    farl = {name.replace("transformer", "lm_transformer"): x for name, x in described(64, 9, 8, 4).items()}
    farl = {name: x for name, x in farl.items() if "lm_" in name}
    farl |= {"visual.lm_head.weight": np.zeros((8192, 64)), "visual.ln_lm.bias": np.zeros(64)}
    farl |= {"visual.mask_token": np.zeros(64), "input_resolution": np.array(32), "vocab_size": np.array(49408)}
    half = {name: x.astype(np.float16) for name, x in theirs.items()}
    assert open_clip.encoder(half | farl)["depth"] == 3
    found = open_clip.imported(half | farl)
    assert_equal(found, open_clip.imported(half))
    assert {x.dtype for x in found.values()} == {np.dtype(np.float32)}
    assert_equal(open_clip.imported_objective(half | farl), open_clip.imported_objective(half))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("visual.ln_pre.bias"), r"no array 'visual\.ln_pre\.bias'"),
        (
            lambda x: x.pop("visual.transformer.resblocks.1.mlp.c_fc.bias"),
            r"no array 'visual\.transformer\.resblocks\.1\.mlp\.c_fc\.bias'",
        ),
        (lambda x: x.update({"visual.attnpool.bias": np.zeros(3)}), r"the array 'visual\.attnpool\.bias' is unknown"),
        (lambda x: x.update({"logit_bias": np.zeros(())}), "the array 'logit_bias' is unknown"),
    ],
)
def test_missing_and_unknown_arrays_are_named(theirs, change, message):
    changed = dict(theirs)
    change(changed)
    for read in (open_clip.encoder, open_clip.imported):
        with pytest.raises(ValueError, match=message):
            read(changed)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ours, theirs: open_clip.exported({**ours, "more": np.zeros(3)}), "the array 'more' is unknown"),
        (lambda ours, theirs: open_clip.imported_objective(open_clip.exported(ours)), "no array 'logit_scale'"),
        (
            lambda ours, theirs: open_clip.imported_objective({**theirs, "logit_bias": np.zeros(())}),
            "the array 'logit_bias' is unknown",
        ),
        (lambda ours, theirs: open_clip.exported_objective(ours), "no array 'image_projection'"),
        (lambda ours, theirs: open_clip.encoder(described(96, 1, 8, 4)), r"width 96 .* heads are not known"),
    ],
)
def test_what_does_not_fit_is_an_error(ours, theirs, call, message):
    with pytest.raises(ValueError, match=message):
        call(ours, theirs)


@pytest.mark.parametrize(
    ("name", "layout"), [("small", "@tests.weights.small_open_clip"), pytest.param("B/16", "", marks=pytest.mark.slow)]
)
def test_a_file_gives_what_open_clip_made_of_it(model, tmp_path, name, layout):
    """Features, captions and logits: all weights come from the file. `frozen.npz` holds open_clip's outputs."""
    model = model if name == "small" else published.drawn(partial(published.make, "clip", name))
    file = tmp_path / "clip.safetensors"
    safetensors.numpy.save_file(published.torch_names(model), file)
    handed = handover.encoder(f"{file}{layout}")
    size = published.MODELS[name][0]["image_size"]
    assert handed.image_size == size
    empty = nnx.eval_shape(partial(published.make, "clip", name)).objective
    objective = filled(empty, open_clip.imported_objective(weights.read(file)), "the file")
    found = published.ours(Model(handed.encoder, objective), name, size)
    published.assert_close(found, published.frozen("clip", name, size))
