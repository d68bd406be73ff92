"""What is compared with published code: models with weights that need no file, what they see, and what it gives.

A weight is a function of its path and shape: NumPy's RandomState, whose draws never change, seeded by the path's CRC.
`torch_names` has the same weights under the names and in the layouts of open_clip and timm.
"""

import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.data.transforms import tokens
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.train.model import arrays_of
from facerep_jax.train.state import Model
from facerep_jax.typing import View
from facerep_jax.weights import open_clip, timm

FROZEN = Path(__file__).parent / "frozen.npz"
TOLERANCE = 1e-4  # of the largest value

SMALL = dict(variant="Nano/8", image_size=32, width=64, depth=3, heads=4)
SMALL_TEXT = dict(context=77, width=32, depth=2, heads=4)
MODELS = {  # name: encoder, text tower, width of the common space, sizes of images in pixels
    "small": (SMALL, SMALL_TEXT, 24, (32, 48, 16)),
    "B/16": (dict(variant="B/16", image_size=224), {}, 512, (224, 448)),
}
TAPS = {"small": (0, 1, 2), "B/16": (3, 5, 7, 11)}  # the latter are those that FaRL's heads read
CASES = [(flavour, model) for model in MODELS for flavour in ("clip", "mae")]
CAPTIONS = (
    "a photo of a face",
    "Élodie, 27, smiling at the café &amp; reading",
    "",
    "東京の街角で笑う女性 😀",
    "the man on the left, who wears glasses and a hat, " * 12,
)


def make(flavour: str, model: str, dtype: str = "float32") -> Any:
    """MAE's encoder, or CLIP: an encoder and the contrastive objective, which owns the text tower."""
    sizes, text, embedding, _ = MODELS[model]
    rngs = nnx.Rngs(params=0)
    encoder = ViT(flavour=flavour, **sizes, dtype=dtype, remat="none", rngs=rngs)
    if flavour == "mae":
        return Model(encoder, None)
    return Model(
        encoder, Contrastive(encoder, text_encoder=spec(TextTransformer, **text), embedding=embedding, rngs=rngs)
    )


def drawn(make: Callable[[], Any]) -> Any:
    """The model with weights drawn by path: of a size that keeps activations near 1, and none of them at 0 or 1.

    The class token is small: where nothing large is added to it, the norm's eps counts.
    """
    model = nnx.eval_shape(make)
    for path, variable in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        name = "/".join(str(part) for part in path)
        draws = np.random.RandomState(zlib.crc32(name.encode())).uniform(-(3**0.5), 3**0.5, variable.shape)
        if path[-1] == "scale":
            draws = 1 + 0.2 * draws
        elif path[-1] == "kernel" or name.endswith("projection"):
            draws *= variable.shape[-2] ** -0.5
        else:
            draws *= 0.003 if path[-1] == "class_token" else 0.3
        variable.set_value(jnp.asarray(draws, jnp.float32))
    return model


def image(size: int) -> np.ndarray:
    """Two uint8 images, (2, size, size, 3)."""
    return np.random.RandomState(size).randint(0, 256, (2, size, size, 3), np.uint8)


def text() -> np.ndarray:
    """Token ids of the captions, int32 (n, 77)."""
    return np.stack([tokens(caption)[0] for caption in CAPTIONS])


def places(model: str, patches: int) -> np.ndarray:
    """The patches whose tokens are compared: all of the small model, five of B/16."""
    return np.arange(patches) if model == "small" else np.linspace(0, patches - 1, 5).astype(int)


def ours(built: Any, model: str, size: int) -> dict[str, np.ndarray]:
    """What our model gives for the images of a size, by name; CLIP also for the captions."""
    taps = TAPS[model]

    @jax.jit
    def see(built: Any, image: jax.Array, text: jax.Array) -> dict[str, jax.Array]:
        seen = built.encoder(View(image, taps=taps))
        where = places(model, seen.tokens.shape[1])
        tokens = seen.tokens[:, where]
        outputs = {"pooled": seen.pooled, "cls": seen.cls, "tokens": tokens, "normed": built.encoder.norm_out(tokens)}
        for tap, layer in seen.maps.items():
            outputs[f"block_{tap}"] = layer.reshape(*seen.tokens.shape)[:, where]
        if built.objective is not None:
            images, texts = built.objective.embed_image(seen.pooled), built.objective.embed_text(text)
            outputs |= {"images": images, "texts": texts, "logits": built.objective.scale() * images @ texts.T}
        return outputs

    return jax.tree.map(np.asarray, see(built, jnp.asarray(image(size)), jnp.asarray(text())))


def torch_names(model: Any) -> dict[str, np.ndarray]:
    """The parameters as a state dict of open_clip's CLIP, or of timm's VisionTransformer for MAE's flavour."""
    encoder = on_host(model.encoder)
    if model.objective is None:
        return timm.exported(encoder)
    return open_clip.exported(encoder) | open_clip.exported_objective(on_host(model.objective))


def on_host(module: Any) -> dict[str, np.ndarray]:
    """The arrays of a module by path, as NumPy's."""
    return {path: np.asarray(x) for path, x in arrays_of(module).items()}


def frozen(flavour: str, model: str, size: int) -> dict[str, np.ndarray]:
    """What `ours` gives, of the published model, as `frozen.npz` holds it."""
    prefix = f"{flavour} {model} {size} "
    with np.load(FROZEN) as stored:
        return {key.removeprefix(prefix): stored[key] for key in stored.files if key.startswith(prefix)}


def assert_close(ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]) -> None:
    """Each value to within 1e-4 of the largest of its name."""
    assert set(ours) == set(theirs)
    for name, reference in theirs.items():
        difference, limit = np.abs(ours[name] - reference).max(), TOLERANCE * np.abs(reference).max()
        assert difference <= limit, f"{name}: differs by {difference:.2e}, more than {limit:.2e}"
