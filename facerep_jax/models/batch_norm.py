"""Batch normalisation."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.typing import Statistics


class BatchNorm(nnx.Module):
    """Normalisation of each channel over a batch and its pixels, as torch's, with statistics in float32.

    In training a channel is normalised by its mean and biased variance over a group of rows, and the running statistics
    move by `momentum` towards them (towards the unbiased variance). Otherwise the running statistics are used.

    Groups are formed by consecutive rows, so which examples share statistics depends on the order of the batch, and so
    on the number of hosts that read it. One group of all rows is torch's SyncBatchNorm: statistics of the global batch,
    which no order changes. Smaller groups stand for devices that exchange nothing.

    Groups have a size, `rows`, or there is a number of them, `groups`. Of passes of different numbers of crops of the
    same examples, such as SwAV's, each has the same examples in its groups only if it is their number that is given.

    If several views share a pass (see `models.views.encode`), a row is one view of one example, and all views of an
    example lie side by side.

    Source: 1502.03167, algorithms 1 and 2; torch.nn.BatchNorm2d.
    Changed: the running statistics follow the mean over groups; torch keeps those of one device.

    Args:
        width: channels.
        eps: added to the variance.
        momentum: share of the new statistics in the running ones.
        rows: how many rows share statistics; 0 for all rows of the batch.
        groups: how many groups the batch is divided into, if `rows` does not say how large they are.
        scaled, shifted: whether the result is multiplied by a learnt scale, and whether a learnt bias is added.

    With `fixed` set, the running statistics are used in training too and do not move.
    """

    def __init__(
        self,
        width: int,
        *,
        eps: float = 1e-5,
        momentum: float = 0.1,
        rows: int = 0,
        groups: int = 1,
        scaled: bool = True,
        shifted: bool = True,
    ):
        if groups < 1 or (rows and groups > 1):
            raise ValueError(
                f"batch normalisation has groups of so many rows or so many groups, not {rows=}, {groups=}"
            )
        self.scale = nnx.Param(jnp.ones(width)) if scaled else None
        self.bias = nnx.Param(jnp.zeros(width)) if shifted else None
        self.mean = Statistics(jnp.zeros(width))
        self.variance = Statistics(jnp.ones(width))
        self.eps, self.momentum, self.rows, self.groups = eps, momentum, rows, groups
        self.fixed = False

    def __call__(self, x: Float[Array, "b *n d"], *, train: bool) -> Float[Array, "b *n d"]:
        """Normalise `x`. Raises ValueError if groups do not divide the rows or hold a single value of a channel."""
        mean, variance = self.mean[...][None], self.variance[...][None]
        y = x.astype(jnp.float32)
        if train and not self.fixed:
            if x.shape[0] % self.groups:
                raise ValueError(f"{x.shape[0]} rows do not divide into {self.groups} groups of batch normalisation")
            if x.shape[0] % (rows := self.rows or x.shape[0] // self.groups):
                raise ValueError(f"{x.shape[0]} rows do not divide into groups of {rows} rows of batch normalisation")
            y = y.reshape(x.shape[0] // rows, -1, x.shape[-1])
            if (count := y.shape[1]) < 2:
                raise ValueError(f"batch normalisation needs two values of a channel in each group, not {count}")
            mean = y.mean(1)
            variance = jnp.square(y - mean[:, None]).mean(1)
            self.follow(self.mean, mean)
            self.follow(self.variance, variance * (count / (count - 1)))
        else:
            y = y.reshape(1, -1, x.shape[-1])
        factor = jax.lax.rsqrt(variance + self.eps)
        if self.scale is not None:
            factor = factor * self.scale[...][None]
        y = (y - mean[:, None]) * factor[:, None]
        if self.bias is not None:
            y = y + self.bias[...].reshape(1, 1, -1)
        return y.reshape(x.shape).astype(x.dtype)

    def follow(self, running: nnx.Variable, found: Float[Array, "groups d"]) -> None:
        """Move a running statistic, which is `Carried` in a teacher, towards what the groups of a batch have."""
        running.set_value((1 - self.momentum) * running[...] + self.momentum * jax.lax.stop_gradient(found).mean(0))
