"""What self-supervised methods put behind an encoder: linear layers with batch normalisation between them."""

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.models.batch_norm import BatchNorm
from facerep_jax.models.layers import Initializer, Linear


class Projector(nnx.Module):
    """Linear, batch normalisation, ReLU, and so on; a linear layer is last, or its normalisation without parameters.

    It computes in float32, and takes its statistics over all rows that it is given at once, see `batch_norm`.

    Args:
        widths: of the input, of each hidden layer, of the output.
        hidden_bias: whether the layers before a normalisation have a bias, which does nothing but to be decayed.
        bias: whether the last layer has one; it has none before a normalisation.
        norm_out: whether the output is normalised too, without scale and bias.
        norm_groups: how many groups of rows have statistics of their own.
        norm_rows: how many rows such a group has, if `norm_groups` does not say how many groups there are; 0 for all.
        init: of the weights; None for torch's.
    """

    def __init__(
        self,
        widths: tuple[int, ...],
        *,
        hidden_bias: bool = True,
        bias: bool = True,
        norm_out: bool = False,
        norm_groups: int = 1,
        norm_rows: int = 0,
        init: Initializer | None = None,
        rngs: nnx.Rngs,
    ):
        *inputs, last = widths[:-1]
        linear = partial(torch_linear, init=init, rngs=rngs)
        norm = partial(BatchNorm, groups=norm_groups, rows=norm_rows)
        hidden = [linear(i, o, bias=hidden_bias) for i, o in zip(inputs, widths[1:-1], strict=True)]
        self.linear = nnx.List([*hidden, linear(last, widths[-1], bias=bias and not norm_out)])
        self.norms = nnx.List(norm(width) for width in widths[1:-1])
        self.norm_out = norm(widths[-1], scaled=False, shifted=False) if norm_out else None

    def __call__(self, x: Float[Array, "b d"], *, train: bool = True) -> Float[Array, "b e"]:
        x = x.astype(jnp.float32)
        *hidden, last = self.linear
        for linear, norm in zip(hidden, self.norms, strict=True):
            x = jax.nn.relu(norm(linear(x), train=train))
        x = last(x)
        return x if self.norm_out is None else self.norm_out(x, train=train)


def torch_linear(
    width_in: int, width_out: int, *, bias: bool = True, init: Initializer | None = None, rngs: nnx.Rngs
) -> Linear:
    """A linear layer in float32 as torch initialises it: weights and bias uniform within 1 / sqrt(inputs).

    Another initialisation of its weights leaves the bias as it is.
    """
    uniform = bounded(width_in**-0.5)
    linear = Linear(width_in, width_out, init=init or uniform, use_bias=bias, rngs=rngs)
    if linear.bias is not None:
        linear.bias.set_value(uniform(rngs.params(), (width_out,), jnp.float32))
    return linear


def bounded(limit: float) -> Initializer:
    """An initializer that draws uniformly from [-limit, limit]."""
    return lambda key, shape, dtype=jnp.float32: jax.random.uniform(key, shape, dtype, -limit, limit)


def unit(x: Float[Array, "*b d"], axis: int = -1) -> Float[Array, "*b d"]:
    """Vectors along an axis scaled to length one; shorter ones than 1e-12 less so, as torch's `normalize` does."""
    return x * jax.lax.rsqrt(jnp.maximum(jnp.square(x).sum(axis, keepdims=True), 1e-24))


def spread(x: Float[Array, "b d"]) -> Float[Array, ""]:
    """Standard deviation of vectors of length one, mean over dimensions, times sqrt(d): 0 if all are alike, at most 1.

    Source: SimSiam (2011.10566), figure 2, which shows a collapse by it.
    """
    return x.std(0).mean() * x.shape[-1] ** 0.5
