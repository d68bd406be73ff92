"""Plug-in: MCF in small. Momentum contrast and masked features read one masked forward pass of the encoder.

Source: 2309.03575, sections 3.2 and 3.3, with everything made small and the pseudo-image left out.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax import schedules
from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import Block, Linear, scan, stack, trunc_normal
from facerep_jax.models.teachers import follow, teacher_of
from facerep_jax.models.views import RandomPatches, encode
from facerep_jax.streams import stream
from facerep_jax.typing import Batch, Carried, Encoder, Features, Frozen, Metrics, View, Views, as_kind

MOMENTUM = plain(spec(schedules.cosine, first=0.9, last=1.0))


class Projector(nnx.Module):
    """Linear, batch normalisation, ReLU, linear."""

    def __init__(self, width: int, outputs: int, *, rngs: nnx.Rngs):
        self.first = Linear(width, 2 * outputs, init=trunc_normal(0.02), rngs=rngs)
        self.norm = BatchNorm(2 * outputs)
        self.second = Linear(2 * outputs, outputs, init=trunc_normal(0.02), rngs=rngs)

    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b e"]:
        """Vectors of length one; statistics are those of the batch."""
        y = self.second(jax.nn.relu(self.norm(self.first(x.astype(jnp.float32)), train=True)))
        return y * jax.lax.rsqrt(jnp.square(y).sum(-1, keepdims=True) + 1e-12)


class MomentumContrast(nnx.Module):
    """InfoNCE between an encoder's masked view and its teacher's other one, against a queue of the teacher's past.

    Args:
        view: name of the shared view that the encoder sees.
        share: of the patches that the teacher sees.
        width: of the common space.
        queue: vectors that are kept.
        momentum: spec of the schedule of the teacher's momentum.
    """

    needs = ("image",)
    offers = (("teacher", "teacher"),)

    def __init__(
        self,
        encoder: Encoder,
        *,
        view: str = "kept",
        share: float = 0.5,
        width: int = 8,
        queue: int = 32,
        temperature: float = 0.2,
        momentum: Spec = MOMENTUM,
        steps: int,
        rngs: nnx.Rngs,
    ):
        self.projector = Projector(encoder.width, width, rngs=rngs)
        self.teacher, self.teacher_projector = teacher_of(encoder), teacher_of(self.projector)
        draw = jax.random.normal(rngs.params(), (queue, width))
        self.queue = Carried(draw / jnp.linalg.norm(draw, axis=1, keepdims=True))
        self.place = Carried(jnp.zeros((), jnp.int32))
        self.view, self.temperature = view, temperature
        self.other = RandomPatches(share=share)
        self.momentum: schedules.Schedule = build(momentum, steps=steps)

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        momentum = self.momentum(step)
        follow(self.teacher, encoder, momentum)
        follow(self.teacher_projector, self.projector, momentum)

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return {}

    def loss(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        query = self.projector(seen[self.view].pooled)
        other = self.other(batch, encoder=encoder, rng=stream(rng, "other"))
        taught = encode(self.teacher, {"other": other}, train=True, rng=stream(rng, "teacher"))["other"]
        key = jax.lax.stop_gradient(self.teacher_projector(taught.pooled))
        past = self.queue[...]
        logits = jnp.concatenate([(query * key).sum(-1, keepdims=True), query @ past.T], 1) / self.temperature
        loss = -jax.nn.log_softmax(logits)[:, 0].mean()
        rows = (self.place[...] + jnp.arange(len(key))) % len(past)
        self.queue.set_value(past.at[rows].set(key))
        self.place.set_value((self.place[...] + len(key)) % len(past))
        return loss, {"loss": loss, "chance": jnp.log(jnp.float32(logits.shape[1]))}


class MaskedFeatures(nnx.Module):
    """A frozen network's patch features, predicted from the patches that the encoder kept.

    Args:
        network: spec of an encoder with as many patches.
        weights: of the network, see `train.frozen.Given`.
        view: name of the shared view that the encoder sees.
    """

    needs = ("image",)
    offers = ()

    def __init__(
        self, encoder: Encoder, *, network: Spec, weights: str, view: str = "kept", heads: int = 2, rngs: nnx.Rngs
    ):
        self.network = as_kind(build(network, dtype=encoder.dtype, remat="none", rngs=rngs), Frozen)
        self.weights, self.view = weights, view
        self.mask_token = nnx.Param(0.02 * jax.random.normal(rngs.params(), (encoder.width,)))
        self.blocks = stack(lambda rngs: Block(encoder.width, heads, dtype=encoder.dtype, rngs=rngs), 1, rngs)
        self.head = Linear(encoder.width, self.network.width, init=trunc_normal(0.02), rngs=rngs)

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step."""

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return {}

    def loss(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        targets = encode(self.network, {"whole": View(batch["image"])})["whole"].tokens.astype(jnp.float32)
        tokens, keep = seen[self.view].tokens, views[self.view].keep
        b, n, _ = targets.shape
        hidden = jnp.broadcast_to(self.mask_token[...].astype(tokens.dtype), (b, n, tokens.shape[-1]))
        rows = jnp.arange(b)[:, None]
        x, _ = scan(self.blocks, hidden.at[rows, keep].set(tokens), remat=encoder.remat)
        masked = jnp.ones((b, n)).at[rows, keep].set(0)
        errors = jnp.abs(self.head(x).astype(jnp.float32) - targets).mean(-1)
        loss = (errors * masked).sum() / masked.sum()
        return loss, {"loss": loss, "masked": masked.mean()}
