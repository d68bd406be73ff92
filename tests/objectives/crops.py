"""A model of few numbers on crops of a few colours, for objectives that learn from several crops."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from facerep_jax.train.state import Model
from facerep_jax.train.step import look_at_views
from tests.train.tiny import TinyEncoder

B = 8


def model(objective, **settings):
    """An encoder of mean colours and an objective of it."""
    encoder = TinyEncoder(dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    return Model(encoder, objective(encoder, **settings, rngs=nnx.Rngs(params=1)))


def batch(small=3, seed=0):
    """Crops that differ from one another by noise, and by far more from those of other examples."""
    rng = np.random.default_rng(seed)
    shapes = {"image": (B, 8, 8, 3), "image_large": (B, 1, 8, 8, 3), "image_small": (B, small, 4, 4, 3)}
    colour = rng.integers(0, 200, (B, 1, 1, 1, 3))
    noise = {name: rng.integers(0, 56, shape) for name, shape in shapes.items()}
    made = {name: (x + (colour if x.ndim == 5 else colour[:, 0])).astype(np.uint8) for name, x in noise.items()}
    return jax.tree.map(jnp.asarray, {**made, "position": np.arange(B, dtype=np.uint32)})


def look(built, data):
    """Views and features of a batch."""
    keys = jax.random.split(jax.random.key(0), B)
    return look_at_views(built.encoder, built.objective, data, keys)


def loss(built, data, step=0, *, begin=True):
    """Loss and metrics of a batch."""
    keys = jax.random.split(jax.random.key(0), B)
    if begin:
        built.objective.begin(built.encoder, jnp.int32(step))
    views, seen = look(built, data)
    return built.objective.loss(seen, views, data, encoder=built.encoder, step=jnp.int32(step), rng=keys)


def linear(layer, x):
    """A linear layer in float64."""
    y = x @ np.asarray(layer.kernel[...], np.float64)
    return y if layer.bias is None else y + np.asarray(layer.bias[...], np.float64)


def norm(x):
    """Batch normalisation as it is at first."""
    return (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5)


def projected(projector, x):
    """A `models.projector.Projector` in float64."""
    *hidden, last = projector.linear
    for layer in hidden:
        x = np.maximum(norm(linear(layer, x)), 0)
    x = linear(last, x)
    return x if projector.norm_out is None else norm(x)


def pooled(seen, name):
    """The pooled features of a view in float64."""
    return np.asarray(seen[name].pooled, np.float64)


def unit(x):
    """Rows of length one."""
    return x / np.linalg.norm(x, axis=-1, keepdims=True)
