"""Our models against open_clip's CLIP and timm's VisionTransformer, side by side in float32."""

import importlib
from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from published import CAPTIONS, FROZEN, MODELS, assert_close, make, ours, text, torch_names

from facerep_jax.models.layers import LayerNorm, cubic_matrix
from facerep_jax.models.vit import sincos
from facerep_jax.train.state import count

torch, _, open_clip, _ = (
    pytest.importorskip(library, reason=f"{library} is not installed; the extra `parity` has it")
    for library in ("torch", "torchvision", "open_clip", "timm")
)
freeze = importlib.import_module("freeze")
pytestmark = pytest.mark.slow


def test_outputs_are_equal(case):
    flavour, name, model = case
    for size in MODELS[name][3]:
        assert_close(ours(model, name, size), freeze.theirs(flavour, torch_names(model), name, size, torch.float32))


@pytest.mark.parametrize("flavour", ["clip", "mae"])
def test_frozen_outputs_are_what_the_libraries_give(small, flavour):
    for size in MODELS["small"][3]:
        outputs = freeze.theirs(flavour, torch_names(small[flavour]), "small", size, torch.float64)
        with np.load(FROZEN) as frozen:
            for key, value in outputs.items():
                np.testing.assert_allclose(frozen[f"{flavour} small {size} {key}"], value, rtol=1e-5, atol=1e-6)


def test_mean_pooling_is_the_norm_of_mean_tokens(small):
    """MAE is fine-tuned so: timm's fc_norm, in place of the norm of all tokens."""
    weights = {
        name.replace("norm.", "fc_norm.") if name.startswith("norm.") else name: value
        for name, value in torch_names(small["mae"]).items()
    }
    published = freeze.mae(weights, "small", 32, torch.float32, global_pool="avg")
    with torch.no_grad():
        pooled = published(freeze.pixels("mae", 32, torch.float32)).numpy()
    tokens = jnp.asarray(ours(small["mae"], "small", 32)["tokens"])
    assert_close({"mean": np.asarray(small["mae"].encoder.norm_out(tokens.mean(1)))}, {"mean": pooled})


@pytest.mark.parametrize("flavour", ["clip", "mae"])
def test_bfloat16_is_about_as_close_to_float32_as_under_autocast(small, flavour):
    """MAE's residual stream is float32 under autocast, CLIP's bfloat16; ours is of the config's dtype."""
    weights, exact = torch_names(small[flavour]), ours(small[flavour], "small", 32)["tokens"]
    graph = nnx.graphdef(nnx.eval_shape(partial(make, flavour, "small", dtype="bfloat16")))
    half = ours(nnx.merge(graph, nnx.state(small[flavour])), "small", 32)["tokens"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        published = freeze.theirs(flavour, weights, "small", 32, torch.float32)["tokens"]
    error, allowed = (np.linalg.norm(np.asarray(x, np.float32) - exact) for x in (half, published))
    assert 0 < error < (1.5 if flavour == "clip" else 3) * allowed


@pytest.mark.parametrize("flavour", ["clip", "mae"])
def test_norms_and_parameters_of_b16_are_the_published(flavour):
    with torch.device("meta"):
        config = open_clip.get_model_config("ViT-B-16-quickgelu")
        published = open_clip.CLIP(**config) if flavour == "clip" else freeze.timm.create_model("vit_base_patch16_224")
    fixed = (
        0 if flavour == "clip" else published.pos_embed.numel() + sum(p.numel() for p in published.head.parameters())
    )
    b16 = nnx.eval_shape(partial(make, flavour, "B/16"))
    norms = [module for _, module in nnx.iter_modules(b16) if isinstance(module, LayerNorm)]
    assert {norm.eps for norm in norms} == {m.eps for m in published.modules() if isinstance(m, torch.nn.LayerNorm)}
    assert count(nnx.state(b16, nnx.Param)) == sum(p.numel() for p in published.parameters()) - fixed


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
