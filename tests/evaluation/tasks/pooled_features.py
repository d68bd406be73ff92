"""Features, an encoder and a loss, for tests of tasks that read one vector of an image."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from facerep_jax.models.vit import ViT
from facerep_jax.typing import Features

WIDTH = 16


def make_encoder():
    sizes = dict(variant="Nano/8", image_size=32, width=WIDTH, depth=2, heads=2)
    return ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(0))


def seen(count, seed=0):
    rng = np.random.default_rng(seed)
    maps = {tap: jnp.asarray(rng.normal(3, 2, (count, 4, 4, WIDTH)), jnp.float32) for tap in range(2)}
    pooled = jnp.asarray(rng.normal(1, 2, (count, WIDTH)), jnp.float32)
    return {"image": Features(pooled=pooled, tokens=jnp.zeros((count, 16, WIDTH)), maps=maps)}


def loss_of(task, features, batch):
    keys = jax.random.split(jax.random.key(0), len(features["image"].pooled))
    return task.loss(features, {}, batch, encoder=None, step=jnp.zeros((), jnp.int32), rng=keys)


def gradient_of(task, features, batch):
    """The gradient of the head's linear layer."""
    graph, params, rest = nnx.split(task, nnx.Param, ...)
    found = jax.grad(lambda p: loss_of(nnx.merge(graph, p, rest), features, batch)[0])(params)
    return np.asarray(found["head"]["linear"]["kernel"][...])


def with_kernel(task, seed=0):
    """The task with a linear layer that is not 0."""
    rng = np.random.default_rng(seed)
    kernel = task.head.linear.kernel
    kernel.set_value(jnp.asarray(rng.normal(size=kernel.shape), jnp.float32))
    return task


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (count, 32, 32, 3), dtype=np.uint8)
