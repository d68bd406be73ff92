"""Our models against open_clip's CLIP and timm's VisionTransformer, side by side in float32."""

import importlib
from functools import cache, partial

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from published import CAPTIONS, CASES, FROZEN, assert_close, drawn, make, ours, text, torch_names

from facerep_jax.models.layers import LayerNorm, cubic_matrix
from facerep_jax.models.vit import sincos
from facerep_jax.train.state import abstract, count

torch, _, open_clip, _ = (
    pytest.importorskip(library, reason=f"{library} is not installed; the extra `parity` has it")
    for library in ("torch", "torchvision", "open_clip", "timm")
)
freeze = importlib.import_module("freeze")
pytestmark = pytest.mark.slow


@cache
def model(flavour, name):
    return drawn(partial(make, flavour, name))


def theirs(flavour, name, size, dtype=torch.float32):
    built = freeze.BUILD[flavour](torch_names(model(flavour, name)), name, size, dtype)
    return built, freeze.theirs(built, flavour, name, size, dtype)


@pytest.mark.parametrize(("flavour", "name", "size"), CASES)
def test_outputs_are_equal(flavour, name, size):
    assert_close(ours(model(flavour, name), name, size), theirs(flavour, name, size)[1])


@pytest.mark.parametrize(("flavour", "name", "size"), [case for case in CASES if case[1] == "small"])
def test_frozen_outputs_are_what_the_libraries_give(flavour, name, size):
    outputs = theirs(flavour, name, size, torch.float64)[1]
    with np.load(FROZEN) as frozen:
        for key, value in outputs.items():
            np.testing.assert_allclose(frozen[f"{flavour} {name} {size} {key}"], value, rtol=1e-5, atol=1e-6)


def test_mean_pooling_is_the_norm_of_mean_tokens():
    """MAE is fine-tuned so: timm's fc_norm, in place of the norm of all tokens."""
    weights = torch_names(model("mae", "small"))
    weights = {
        name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: v for name, v in weights.items()
    }
    built = freeze.mae(weights, "small", 32, torch.float32, global_pool="avg")
    with torch.no_grad():
        pooled = built(freeze.pixels("mae", 32, torch.float32)).numpy()
    tokens = jnp.asarray(ours(model("mae", "small"), "small", 32)["tokens"])
    assert_close({"mean": np.asarray(model("mae", "small").encoder.norm_out(tokens.mean(1)))}, {"mean": pooled})


@pytest.mark.parametrize(("flavour", "name"), [("clip", "B/16"), ("mae", "B/16")])
def test_norms_and_parameters_are_as_many_and_the_same(flavour, name):
    built, _ = theirs(flavour, name, 224)
    ours = model(flavour, name)
    norms = [module for _, module in nnx.iter_modules(ours) if isinstance(module, LayerNorm)]
    assert {norm.eps for norm in norms} == {m.eps for m in built.modules() if isinstance(m, torch.nn.LayerNorm)}
    fixed = 0 if flavour == "clip" else built.pos_embed.numel()
    assert count(abstract(partial(make, flavour, name))[1]) == sum(p.numel() for p in built.parameters()) - fixed


@pytest.mark.parametrize("side", [14, 4])
def test_sincos_positions_are_timms(side):
    np.testing.assert_allclose(sincos(side, side, 64)[1:], freeze.mae_positions(side, 64), atol=1e-5)


@pytest.mark.parametrize(
    ("old", "new"), [((14, 14), (28, 28)), ((14, 14), (10, 7)), ((3, 5), (7, 2)), ((1, 4), (3, 9))]
)
def test_cubic_matrices_resize_as_torch(old, new):
    x = np.random.default_rng(0).normal(size=(*old, 6)).astype(np.float32)
    ours = np.einsum("hi,wj,ijd->hwd", cubic_matrix(old[0], new[0]), cubic_matrix(old[1], new[1]), x)
    reference = freeze.interpolate(torch.from_numpy(x).permute(2, 0, 1)[None], new, mode="bicubic", align_corners=False)
    assert_close({"grid": ours}, {"grid": reference[0].permute(1, 2, 0).numpy()})


def test_token_ids_are_open_clips():
    np.testing.assert_array_equal(text(), open_clip.get_tokenizer("ViT-B-16-quickgelu")(list(CAPTIONS)).numpy())
