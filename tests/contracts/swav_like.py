"""Plug-in: SwAV in small. Two large and six small crops, Sinkhorn, frozen prototypes, a queue, and SGD with LARC.

Source: 2006.09882; facebookresearch/swav main_swav.py.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax import schedules
from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.data.transforms import Example, RandomResizedCrop
from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import Linear, trunc_normal
from facerep_jax.models.views import deinterleaved, interleaved
from facerep_jax.train.optim import Freeze, Optimizer, frozen_at_first
from facerep_jax.typing import Batch, Carried, Encoder, Features, Metrics, Tree, View, Views

LARGE, SMALL = 2, 6
CROPS = (*(f"large{i}" for i in range(LARGE)), *(f"small{i}" for i in range(SMALL)))  # names of its views
CONSTANT = plain(spec(schedules.warmup_cosine, last=1e-3))


class MultiCrop:
    """`image_large` (2, h, w, 3) and `image_small` (6, h, w, 3): random crops of the image, at two resolutions."""

    reads = ()

    def __init__(self, *, large: int = 32, small: int = 16):
        self.large = RandomResizedCrop(size=large, scale=(0.5, 1.0))
        self.small = RandomResizedCrop(size=small, scale=(0.1, 0.5))

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        large = np.stack([self.large(example, rng)["image"] for _ in range(LARGE)])
        small = np.stack([self.small(example, rng)["image"] for _ in range(SMALL)])
        return {**example, "image_large": large, "image_small": small}


class SwAV(nnx.Module):
    """Codes of one large crop, found by Sinkhorn, are predicted from all other crops.

    Args:
        prototypes: how many.
        width: of the space that they lie in.
        queue: past examples whose features help to find codes.
    """

    needs = ("image_large", "image_small")
    offers = ()

    def __init__(
        self,
        encoder: Encoder,
        *,
        prototypes: int = 12,
        width: int = 8,
        queue: int = 16,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        rngs: nnx.Rngs,
    ):
        self.first = Linear(encoder.width, 2 * width, init=trunc_normal(0.02), rngs=rngs)
        self.norm = BatchNorm(2 * width)
        self.second = Linear(2 * width, width, init=trunc_normal(0.02), rngs=rngs)
        self.prototypes = nnx.Param(jax.random.normal(rngs.params(), (width, prototypes)))
        self.queue = Carried(jnp.zeros((LARGE, queue, width)))
        self.temperature, self.epsilon = temperature, epsilon

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        self.prototypes.set_value(normalised(self.prototypes[...], axis=0))

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        images = [batch["image_large"][:, i] for i in range(LARGE)] + [batch["image_small"][:, i] for i in range(SMALL)]
        return dict(zip(CROPS, map(View, images), strict=True))

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
        # Batch normalisation of the projector sees the rows of all crops at once.
        pooled = interleaved([seen[name].pooled.astype(jnp.float32) for name in CROPS])
        features = normalised(self.second(jax.nn.relu(self.norm(self.first(pooled), train=True))), axis=-1)
        crops = deinterleaved(features, len(CROPS))
        log_p = [jax.nn.log_softmax(x @ self.prototypes[...] / self.temperature) for x in crops]
        losses, queue = [], self.queue[...]
        for index in range(LARGE):
            now = jax.lax.stop_gradient(crops[index])
            known = jnp.concatenate([now, queue[index]])
            scores = known @ jax.lax.stop_gradient(self.prototypes[...])
            codes = sinkhorn(scores / self.epsilon, jnp.square(known).sum(-1) > 0)[: len(now)]
            losses += [-(codes * log_p[i]).sum(-1).mean() for i in range(len(crops)) if i != index]
            queue = queue.at[index].set(known[: queue.shape[1]])
        self.queue.set_value(queue)
        loss = jnp.stack(losses).mean()
        used = jnp.exp(log_p[0]).mean(0)
        return loss, {"loss": loss, "chance": jnp.log(jnp.float32(len(used))), "entropy": -(used * jnp.log(used)).sum()}


def sinkhorn(scores: Float[Array, "n k"], there: Array, rounds: int = 3) -> Float[Array, "n k"]:
    """Codes whose columns weigh alike and whose rows sum to 1; rows that are not `there` have none of them."""
    q = jnp.exp(scores - scores.max()) * there[:, None]
    for _ in range(rounds):
        q = q / jnp.maximum(q.sum(0, keepdims=True), 1e-12) / q.shape[1]
        q = q / jnp.maximum(q.sum(1, keepdims=True), 1e-12)
    return q


def normalised(x: Array, axis: int) -> Array:
    """`x` with vectors of length one along an axis."""
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis, keepdims=True) + 1e-12)


def larc_sgd(
    *,
    learning_rate: float = 0.3,
    schedule: Spec = CONSTANT,
    momentum: float = 0.9,
    weight_decay: float = 1e-6,
    trust: float = 1e-3,
    freeze: Freeze = (),
    steps: int,
) -> Optimizer:
    """SGD with momentum whose steps are scaled per array by the ratio of norms. Source: 1708.03888; apex's LARC."""

    def scaled(updates: Tree, state: optax.EmptyState, params: Tree) -> tuple[Tree, optax.EmptyState]:
        def one(g: Array, p: Array) -> Array:
            norm_p, norm_g = jnp.linalg.norm(p.ravel()), jnp.linalg.norm(g.ravel())
            ratio = trust * norm_p / (norm_g + weight_decay * norm_p + 1e-8)
            return jnp.where((norm_p > 0) & (norm_g > 0), ratio * (g + weight_decay * p), g)

        return jax.tree.map(one, updates, params), state

    rates = build(schedule, peak=learning_rate, steps=steps)
    larc = optax.GradientTransformation(lambda params: optax.EmptyState(), scaled)
    return Optimizer(frozen_at_first(optax.chain(larc, optax.sgd(rates, momentum)), freeze), rates)
