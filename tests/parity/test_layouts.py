"""Files of published layouts against the frozen outputs of the libraries that they are of; see `layouts.py`.

Planted and seen red: the halves of MoCo v3's positions not swapped; registers taken for patches; the class token
turned by rotary positions, and these from corners of patches, columns first, or to 1 / 10000; biases of keys that a
mask takes; no layer scale; quick GELU for GELU by tanh; no norm in the pooling attention; positions of registers left
out; MCF's online encoder for its target.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from layouts import CASES, PATH, PIECES, SIZE, SIZES, SPACE, TEXT, frozen, image, state_of, text
from published import assert_close
from safetensors.numpy import save_file

from facerep_jax import weights
from facerep_jax.config import build, spec
from facerep_jax.evaluation import text_towers
from facerep_jax.models.text import TextTransformer
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.train.model import filled
from facerep_jax.typing import View


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """The name of a case, its arrays, and our encoder with them."""
    arrays = state_of(request.param)
    layout = weights.load(CASES[request.param].layout)
    return request.param, arrays, encoder_of(layout.encoder(arrays), layout.imported(arrays))


def encoder_of(described, arrays):
    empty = nnx.eval_shape(lambda: build(described, dtype="float32", remat="none", rngs=nnx.Rngs(params=0)))
    return filled(empty, arrays, "it")


@jax.jit
def see(encoder, image):
    seen = encoder(View(image))
    return {"pooled": seen.pooled, "tokens": seen.tokens, "normed": encoder.norm_out(seen.tokens)}


def test_outputs_equal_those_of_published_code(case):
    name, _, encoder = case
    assert encoder.image_size == (224 if "dinov3" in name else SIZE)
    for size in SIZES:
        theirs = frozen(name, size)
        ours = see(encoder, jnp.asarray(image(size)))
        named = {key: np.asarray(ours[key]) for key in ours.keys() & theirs.keys()}
        assert {"pooled"} < named.keys()
        assert_close(named, {key: theirs[key] for key in named})


def test_a_layout_is_recognised_and_means_the_same(case):
    name, arrays, _ = case
    found = weights.recognised(arrays)
    expected = weights.load("hf_clip" if name == "hf_clip_gelu" else CASES[name].layout)
    assert found.encoder(arrays) == expected.encoder(arrays)
    assert found is expected or name == "mae"


def test_ours_come_back_by_way_of_their_names(case):
    """Bit for bit, but where a table of positions was split up; then the outputs are the same."""
    name, arrays, encoder = case
    layout = weights.load(CASES[name].layout)
    if not hasattr(layout, "exported"):
        return
    ours, described = layout.imported(arrays), layout.encoder(arrays)
    theirs = weights.exported(layout, ours, described)
    again = layout.imported(theirs)
    assert again.keys() == ours.keys()
    moved = [path for path, x in ours.items() if not np.array_equal(x, again[path])]
    assert moved == (["class_token", "positions"] if name == "timm_placed_registers" else [])
    if moved:
        there, here = (see(each, jnp.asarray(image(SIZE))) for each in (encoder_of(described, again), encoder))
        assert_close({"pooled": np.asarray(there["pooled"])}, {"pooled": np.asarray(here["pooled"])})


def test_captions_equal_those_of_transformers():
    arrays, layout = state_of("hf_clip"), weights.load("hf_clip")
    encoder = encoder_of(layout.encoder(arrays), layout.imported(arrays))
    tower = spec(TextTransformer, **TEXT)
    make = partial(Contrastive, encoder, text_encoder=tower, embedding=SPACE)
    objective = filled(nnx.eval_shape(lambda: make(rngs=nnx.Rngs(params=0))), layout.imported_objective(arrays), "it")

    @jax.jit
    def compare(objective, pooled, text):
        images, texts = objective.embed_image(pooled), objective.embed_text(text)
        return {"images": images, "texts": texts, "logits": objective.scale() * images @ texts.T}

    pooled = see(encoder, jnp.asarray(image(SIZE)))["pooled"]
    ours = compare(objective, pooled, jnp.asarray(text(), jnp.int32))
    theirs = frozen("hf_clip", SIZE)
    assert_close({key: np.asarray(x) for key, x in ours.items()}, {key: theirs[key] for key in ours})
    back = layout.exported(layout.imported(arrays)) | layout.exported_objective(layout.imported_objective(arrays))
    assert {name: x.shape for name, x in back.items()} == {name: x.shape for name, x in arrays.items()}
    for name, x in arrays.items():
        np.testing.assert_array_equal(back[name], x)


@pytest.mark.parametrize("name", ["hf_siglip_texts", "open_clip_siglip"])
def test_captions_equal_those_of_siglip(name, tmp_path):
    arrays = state_of(name)
    file = tmp_path / "siglip.safetensors"
    save_file({key: np.ascontiguousarray(x).reshape(x.shape) for key, x in arrays.items()}, file)
    tower = text_towers.text_tower(str(file))
    theirs = frozen(name, SIZE)

    @jax.jit
    def compare(tower, pooled, text):
        images, texts = tower.embed_image(pooled), tower.embed_text(text)
        return {"images": images, "texts": texts, "logits": tower.scale() * images @ texts.T + tower.bias[...]}

    ours = compare(tower, jnp.asarray(theirs["pooled"]), jnp.asarray(PIECES, jnp.int32))
    named = {key: np.asarray(ours[key]) for key in ours.keys() & theirs.keys()}
    assert {"texts", "logits"} <= named.keys()
    assert_close(named, {key: theirs[key] for key in named})
    with pytest.raises(ValueError, match="texts of 15 tokens are not padded to the context of 16"):
        tower.embed_text(jnp.asarray(PIECES[:, 1:], jnp.int32))


def test_frozen_outputs_are_small_and_say_what_gave_them():
    assert PATH.stat().st_size < 2e6
    with np.load(PATH) as stored:
        assert [line.split()[0] for line in stored["versions"]] == ["torch", "timm", "transformers"]
