"""LoRA: low-rank updates of an encoder's attention, and a head, trained on augmented images."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.config import Spec
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.training import HEAD, Training, learner
from facerep_jax.models.layers import Block, Linear
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Encoder, Frozen, as_kind

PROJECTIONS = ("query", "key", "value", "out")  # of attention, those that can be updated


class LoRA:
    """Low-rank updates of the attention of a vision transformer and a head, trained together on augmented images.

    All weights of the encoder stay as they are. What is kept of it for `facerep predict` are its weights with the
    updates added to them, which give the same predictions.

    Source: 2106.09685, equation 3; section 4.2 adapts attention alone, sections 5 and 7.1 query and value.

    Args:
        rank: of each update.
        alpha: updates are multiplied by alpha / rank.
        targets: projections that are updated, of `PROJECTIONS`.
        steps, rounds, batch_size, optimizer, ema: see `training.Training`.
    """

    name = "lora"
    explains = (
        "LoRA: the encoder's weights stay as they are; low-rank updates of its attention and the head learn together "
        "from the labels."
    )
    trains_encoder = True
    compares = False

    def __init__(
        self,
        *,
        rank: int = 8,
        alpha: float = 16.0,
        targets: tuple[str, ...] = ("query", "value"),
        steps: int = 1000,
        rounds: int = 5,
        batch_size: int = 32,
        optimizer: Spec = HEAD,
        ema: float = 0.0,
    ):
        if rank < 1 or not alpha > 0:
            raise ValueError(f"LoRA has a rank of at least 1 and an alpha above 0, not rank={rank}, alpha={alpha:g}")
        for target in targets or ("",):
            if target not in PROJECTIONS:
                raise ValueError(f"LoRA has no target {target!r}; {nearest(target, PROJECTIONS)}")
        self.rank, self.alpha, self.targets = rank, alpha, tuple(targets)
        self.training = Training(optimizer=optimizer, steps=steps, rounds=rounds, batch_size=batch_size, ema=ema)

    def prepare(self, problem: Problem) -> Learn:
        encoder = adapted(problem.encoder, self.rank, self.alpha, self.targets)
        return learner(self.training, problem, encoder, plain=merged)


PROTOCOL = LoRA


class LowRank(nnx.Module):
    """A linear layer W and its update, h = W x + (alpha / r) B A x, where A reduces x to r dimensions.

    A is drawn and B is zero, so that a network begins as it was.

    Source: 2106.09685, equation 3.
    Changed: the deviation of A's normal distribution, which the paper does not say, is width^-1/2.

    Args:
        linear: of stacked blocks, with a leading depth axis, which W, A and B have alike.
    """

    def __init__(self, linear: Linear, rank: int, alpha: float, rngs: nnx.Rngs):
        depth, width_in, width_out = linear.kernel.shape
        if rank > min(width_in, width_out):
            raise ValueError(f"a rank of {rank} is not low in a projection of {width_in} x {width_out}")
        self.linear, self.factor = linear, alpha / rank
        self.down = nnx.Param(width_in**-0.5 * jax.random.normal(rngs.params(), (depth, width_in, rank)))
        self.up = nnx.Param(jnp.zeros((depth, rank, width_out)))

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        flat, dtype = x.reshape(-1, x.shape[-1]), self.linear.dtype
        update = flat.astype(dtype) @ self.down[...].astype(dtype) @ self.up[...].astype(dtype)
        return self.linear(x) + self.factor * update.reshape(*x.shape[:-1], -1)

    def merged(self) -> Linear:
        """The linear layer with the update added to its weights."""
        linear = nnx.clone(self.linear)
        linear.kernel.set_value(self.linear.kernel[...] + self.factor * (self.down[...] @ self.up[...]))
        return linear


def adapted(encoder: Encoder, rank: int, alpha: float, targets: tuple[str, ...]) -> Encoder:
    """An encoder like `encoder` whose weights are frozen and have updates, the same ones at each call.

    Raises:
        ValueError: it is no stack of transformer blocks.
    """
    if not isinstance(getattr(encoder, "blocks", None), Block):
        raise ValueError(
            f"protocol=lora updates the attention of a vision transformer, and {type(encoder).__name__} has none: "
            "choose protocol=finetune"
        )
    found: Any = as_kind(encoder, Frozen)
    rngs = nnx.Rngs(params=0)
    for target in targets:
        setattr(found.blocks, target, LowRank(getattr(found.blocks, target), rank, alpha, rngs))
    return found


def merged(encoder: Any) -> Any:
    """An encoder as it was before it was adapted, with the updates added to its weights."""
    found = nnx.clone(encoder)
    for target in PROJECTIONS:
        if isinstance(layer := getattr(found.blocks, target), LowRank):
            setattr(found.blocks, target, layer.merged())
    return found
