"""An encoder with running statistics and an objective with a teacher, of a few numbers each, and runs of them."""

import json

import jax
import jax.numpy as jnp
from flax import nnx

from facerep_jax.config import plain
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.teachers import teacher_of
from facerep_jax.train.checkpoint import Checkpoints
from facerep_jax.train.model import arrays_of, filled
from facerep_jax.train.state import state_of
from facerep_jax.typing import Features, View
from tests.tapless import Tapless


class TinyEncoder(Tapless):
    """The mean colour of each image, turned by a matrix and normalised."""

    def __init__(self, *, width=4, dtype, remat, rngs):
        self.width, self.dtype, self.remat = width, dtype, remat
        self.kernel = nnx.Param(nnx.initializers.normal()(rngs.params(), (3, width)))
        self.norm = BatchNorm(width)

    def __call__(self, view: View, *, train=False, rng=None):
        x = view.image.astype(jnp.float32).mean((1, 2)) / 255 @ self.kernel[...]
        x = self.norm(x, train=train)
        return Features(pooled=x, tokens=x[:, None])


class TinyObjective(nnx.Module):
    """A teacher and a head."""

    needs = ("image",)
    offers = (("teacher", "teacher"), ("head", ""))

    def __init__(self, encoder, *, rngs):
        self.teacher = teacher_of(encoder)
        self.scale = nnx.Param(nnx.initializers.normal()(rngs.params(), (encoder.width,)))

    def begin(self, encoder, step):
        pass

    def views(self, batch, *, encoder, rng):
        return {"image": View(batch["image"])}

    def loss(self, seen, views, batch, *, encoder, step, rng):
        loss = jnp.square(seen["image"].pooled * self.scale[...][None] - 1).mean()
        return loss, {"loss": loss}


def numbered(module):
    """The module with arrays that all differ, as training might leave them."""
    arrays = arrays_of(module)
    return filled(module, {path: jnp.full_like(arrays[path], n) for n, path in enumerate(sorted(arrays), 1)}, "a test")


def write_run(workdir, config, model, *, step=3, ema=False):
    """Leave a config and a checkpoint of a model, as a pre-training does; an average is ten times its weights."""
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(json.dumps(plain(config)))
    state = state_of(model, lambda params: {}, ema=ema)
    if ema:
        state = state._replace(ema=jax.tree.map(lambda x: 10 * x, state.ema))
    checkpoints = Checkpoints(workdir / "checkpoints")
    checkpoints.save(step, state, {})
    checkpoints.close()
