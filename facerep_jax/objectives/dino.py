"""DINO: a teacher's distribution over prototypes, of a large crop, is predicted from all other crops."""

from collections.abc import Mapping
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax import schedules
from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.models import crops
from facerep_jax.models.layers import Linear, gelu, trunc_normal
from facerep_jax.models.projector import bounded, spread, unit
from facerep_jax.models.teachers import follow, teacher_of
from facerep_jax.models.views import encode
from facerep_jax.streams import stream
from facerep_jax.typing import Batch, Carried, Encoder, Features, Metrics, Tree, Views, loss_at_once

MOMENTUM = plain(spec(schedules.cosine, first=0.996, last=1.0))
TEMPERATURE = plain(spec(schedules.cosine, first=0.04, last=0.07, duration_share=0.3))


class Head(nnx.Module):
    """Three linear layers with GELUs, a vector of length one, and its products with prototypes of length one.

    Source: facebookresearch/dino, DINOHead, without batch normalisation and with norm_last_layer.
    """

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int, *, rngs: nnx.Rngs):
        widths = (width, hidden, hidden, bottleneck)
        self.layers = nnx.List(Linear(*pair, init=trunc_normal(0.02), rngs=rngs) for pair in pairwise(widths))
        self.prototypes = nnx.Param(bounded(bottleneck**-0.5)(rngs.params(), (prototypes, bottleneck)))

    def __call__(self, x: Float[Array, "b d"]) -> Float[Array, "b k"]:
        *hidden, last = self.layers
        for layer in hidden:
            x = gelu(layer(x))
        return unit(last(x)) @ unit(self.prototypes[...]).T


class DINO(nnx.Module):
    """Mean over large crops i of the teacher and all other crops v of the student of - sum_k p_i[k] log q_v[k].

    p = softmax((teacher's products - centre) / teacher's temperature) has no gradient; q = softmax(student's products /
    temperature). The centre follows the mean of the teacher's products: it keeps one prototype from taking all, and the
    low temperature keeps all from being used alike. `teacher_entropy` tells: 0 in the one case, `chance` in the other.

    Source: 2104.14294, algorithm 1 and equations 1 to 4; facebookresearch/dino. Freeze the prototypes in the first
    epoch: `freeze=(("prototypes$", STEPS),)`.
    Changed: the teacher's temperature rises by half a cosine over the first 0.3 of the run, published is a straight
    line over 30 of 100 epochs, for large networks.

    Args:
        large, small: how many crops of each size an example has; the teacher sees the large ones.
        prototypes, hidden, bottleneck: sizes of the head.
        temperature: the student's.
        teacher_temperature, momentum: specs of schedules of the teacher's temperature, and of its momentum.
        centre_momentum: of the centre.
    """

    offers = (("teacher", "teacher"),)
    loss = loss_at_once

    def __init__(
        self,
        encoder: Encoder,
        *,
        large: int = 2,
        small: int = 8,
        prototypes: int = 65_536,
        hidden: int = 2048,
        bottleneck: int = 256,
        temperature: float = 0.1,
        teacher_temperature: Spec = TEMPERATURE,
        momentum: Spec = MOMENTUM,
        centre_momentum: float = 0.9,
        steps: int,
        rngs: nnx.Rngs,
    ):
        if large < 1 or large + small < 2:
            raise ValueError(f"DINO needs a large crop and another one, not {large} large and {small} small ones")
        self.needs, self.crops = crops.keys_of(large, small), crops.names_of(large, small)
        self.head = Head(encoder.width, hidden, bottleneck, prototypes, rngs=rngs)
        self.teacher, self.teacher_head = teacher_of(encoder), teacher_of(self.head)
        self.centre = Carried(jnp.zeros(prototypes))
        self.large, self.small, self.temperature = large, small, temperature
        self.teacher_temperature: schedules.Schedule = build(teacher_temperature, steps=steps)
        self.momentum: schedules.Schedule = build(momentum, steps=steps)
        self.centre_momentum = centre_momentum

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Let the teacher follow; at the first step it is the student, so that nothing moves."""
        momentum = self.momentum(step)
        follow(self.teacher, encoder, momentum)
        follow(self.teacher_head, self.head, momentum)

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return crops.views_of(batch, self.large, self.small)

    def representations(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> Tree:
        large = {name: views[name] for name in self.crops[: self.large]}
        taught = encode(self.teacher, large, train=True, rng=stream(rng, "teacher"))
        products = [jax.lax.stop_gradient(self.teacher_head(taught[name].pooled.astype(jnp.float32))) for name in large]
        temperature, centre = self.teacher_temperature(step), self.centre[...][None]
        log_p = [jax.nn.log_softmax((x - centre) / temperature) for x in products]
        vectors = [seen[name].pooled.astype(jnp.float32) for name in self.crops]
        log_q = [jax.nn.log_softmax(self.head(x) / self.temperature) for x in vectors]
        pairs = [(i, v) for i in range(len(log_p)) for v in range(len(log_q)) if i != v]
        return {
            "loss": jnp.stack([-(jnp.exp(log_p[i]) * log_q[v]).sum(-1) for i, v in pairs]).mean(0),
            "products": jnp.stack(products).mean(0),
            "use": jnp.exp(log_p[0]),
            "teacher_entropy": -(jnp.exp(log_p[0]) * log_p[0]).sum(-1),
            "vectors": jax.lax.stop_gradient(vectors[0]),
        }

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        rows = representations
        loss, now, use = (rows[name].mean(0) for name in ("loss", "products", "use"))
        self.centre.set_value(self.centre_momentum * self.centre[...] + (1 - self.centre_momentum) * now)
        return loss, {
            "loss": loss,
            "chance": jnp.log(jnp.float32(len(now))),
            "teacher_entropy": rows["teacher_entropy"].mean(),
            "prototypes_used": jnp.exp(-(use * jnp.log(use + 1e-12)).sum()),
            "spread": spread(unit(rows["vectors"])),
        }
