"""Layers of transformers: blocks stacked along a leading depth axis and applied by one scan."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Key

from facerep_jax.config import pick
from facerep_jax.models.attention import EINSUM, PROGRAMS
from facerep_jax.typing import pin

Activation = Callable[[Array], Array]
Initializer = Callable[..., Array]


def trunc_normal(std: float) -> Initializer:
    """An initializer like torch's trunc_normal_: in effect a plain normal distribution.

    torch truncates at -2 and 2 in absolute terms, which never matters for a small `std`. jax's truncated_normal
    truncates at two standard deviations, which would leave 0.88 of `std`.
    """
    return nnx.initializers.normal(std)


def quick_gelu(x: Array) -> Array:
    """x * sigmoid(1.702 x), CLIP's activation. Source: openai/CLIP model.py."""
    return x * jax.nn.sigmoid(1.702 * x)


def gelu(x: Array) -> Array:
    """The exact GELU, computed with the error function."""
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x: Array) -> Array:
    """GELU by the approximation with tanh, which SigLIP has."""
    return jax.nn.gelu(x, approximate=True)


ACTIVATIONS: Mapping[str, Activation] = {"quick_gelu": quick_gelu, "gelu": gelu, "gelu_tanh": gelu_tanh}


class LayerNorm(nnx.Module):
    """Layer normalisation that computes in float32 and returns the type of its input.

    Source: openai/CLIP. FaRL rounds to the input's type before scale and bias, this class after them.
    """

    def __init__(self, width: int, *, eps: float = 1e-5):
        self.scale = nnx.Param(jnp.ones(width))
        self.bias = nnx.Param(jnp.zeros(width))
        self.eps = eps

    def __call__(self, x: Float[Array, "*b d"]) -> Float[Array, "*b d"]:
        y = x.astype(jnp.float32)
        y = y - y.mean(-1, keepdims=True)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        shape = (1,) * (x.ndim - 1) + (-1,)
        return (y * self.scale[...].reshape(shape) + self.bias[...].reshape(shape)).astype(x.dtype)


class Linear(nnx.Module):
    """A linear layer, x @ kernel + bias, with float32 parameters and the product in `dtype`.

    Leading axes are flattened for the product. On a CPU the gradient of a product with three axes makes transposing
    copies, which cost a tenth of a training step. Elsewhere XLA compiles both to the same product.
    """

    def __init__(
        self,
        width_in: int,
        width_out: int,
        *,
        init: Initializer,
        use_bias: bool = True,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        self.kernel = nnx.Param(init(rngs.params(), (width_in, width_out), jnp.float32))
        self.bias = nnx.Param(jnp.zeros(width_out)) if use_bias else None
        self.dtype = dtype

    def __call__(self, x: Float[Array, "*b i"]) -> Float[Array, "*b o"]:
        y = x.reshape(-1, x.shape[-1]).astype(self.dtype) @ self.kernel[...].astype(self.dtype)
        if self.bias is not None:
            y = y + self.bias[...].astype(self.dtype)[None]
        return y.reshape(*x.shape[:-1], -1)


class Block(nnx.Module):
    """A pre-norm transformer block: x + attention(norm(x)), then x + MLP(norm(x)).

    Query, key and value are three projections. On a CPU the transposing copies of a fused projection would cost a
    quarter of the step.

    Args:
        attention: a name of `attention.PROGRAMS`.
        hidden: units of the MLP; by default four times the width.
        layer_scale: initial factor of each channel of both branches, which is then learnt; None has no such factors.
            Source: CaiT (2103.17239), section 2.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        activation: Activation = quick_gelu,
        eps: float = 1e-5,
        causal: bool = False,
        attention: str = EINSUM,
        hidden: int | None = None,
        layer_scale: float | None = None,
        qkv_init: Initializer | None = None,
        out_init: Initializer | None = None,
        up_init: Initializer | None = None,
        down_init: Initializer | None = None,
        dtype: str = "float32",
        rngs: nnx.Rngs,
    ):
        if heads < 1 or width % heads:
            raise ValueError(f"a width of {width} does not divide into {heads} heads; change `width` or `heads`")
        linear = partial(Linear, dtype=dtype, rngs=rngs)
        init = trunc_normal(0.02)
        qkv_init = qkv_init or xavier_uniform_fused(3)
        self.attention_norm = LayerNorm(width, eps=eps)
        self.query = linear(width, width, init=qkv_init)
        self.key = linear(width, width, init=qkv_init)
        self.value = linear(width, width, init=qkv_init)
        self.out = linear(width, width, init=out_init or init)
        self.mlp_norm = LayerNorm(width, eps=eps)
        self.up = linear(width, hidden or 4 * width, init=up_init or init)
        self.down = linear(hidden or 4 * width, width, init=down_init or init)
        self.attention_scale = None if layer_scale is None else nnx.Param(jnp.full(width, layer_scale))
        self.mlp_scale = None if layer_scale is None else nnx.Param(jnp.full(width, layer_scale))
        self.heads, self.causal, self.activation = heads, causal, activation
        self.attend = pick("attention of the encoder", attention, PROGRAMS)

    def __call__(
        self,
        x: Float[Array, "b n d"],
        *,
        kept: Float[Array, "2 b 1 1"] | None = None,
        angles: Float[Array, "_ m e"] | None = None,
    ) -> Float[Array, "b n d"]:
        """Apply the block.

        Args:
            kept: each example's factor of each branch under drop-path, 0 or 1 / (1 - rate).
            angles: by which queries and keys of the last m tokens are turned, see `rotated`.
        """
        y = self.attention_norm(x)
        q, k, v = (split_heads(project(y), self.heads) for project in (self.query, self.key, self.value))
        if angles is not None:
            q, k = rotated(q, angles), rotated(k, angles)
        y = scaled(self.out(self.attend(q, k, v, causal=self.causal).reshape(x.shape)), self.attention_scale)
        x = x + (y if kept is None else y * kept[0])
        y = scaled(self.down(self.activation(self.up(self.mlp_norm(x)))), self.mlp_scale)
        return x + (y if kept is None else y * kept[1])


def scaled(x: Float[Array, "b n d"], scale: nnx.Param | None) -> Float[Array, "b n d"]:
    """`x` times a factor of each channel; None leaves it as it is."""
    return x if scale is None else x * scale[...].astype(x.dtype)[None, None]


def rotated(x: Float[Array, "b n k e"], angles: Float[Array, "_ m e"]) -> Float[Array, "b n k e"]:
    """Queries or keys whose last m tokens are turned: channel i of a head with channel i + e / 2, by an angle.

    Source: RoFormer (2104.09864), in the form of DINOv3's apply_rotary_pos_emb.

    Args:
        angles: in radians, for each example or for all; the halves along e are equal.
    """
    before = x.shape[1] - angles.shape[1]
    turned, wide = x[:, before:].astype(jnp.float32), angles[:, :, None]
    a, b = jnp.split(turned, 2, axis=-1)
    turned = turned * jnp.cos(wide) + jnp.concatenate([-b, a], axis=-1) * jnp.sin(wide)
    return jnp.concatenate([x[:, :before], turned.astype(x.dtype)], axis=1)


def split_heads(x: Float[Array, "b n d"], heads: int) -> Float[Array, "b n k e"]:
    """`x` with its width split over attention heads."""
    return x.reshape(*x.shape[:-1], heads, -1)


def xavier_uniform_fused(parts: int) -> Initializer:
    """An initializer of one projection as part of torch's xavier-uniform matrix of `parts` square projections.

    Source: torch.nn.MultiheadAttention, whose fused in_proj_weight (3 d, d) FaRL leaves at torch's default.
    """

    def init(key: Array, shape: tuple[int, int], dtype: type) -> Array:
        limit = (6 / (shape[0] + parts * shape[1])) ** 0.5
        return jax.random.uniform(key, shape, dtype, -limit, limit)

    return init


def stack(make: Callable[[nnx.Rngs], nnx.Module], depth: int, rngs: nnx.Rngs) -> nnx.Module:
    """A module like `make(rngs)` whose parameters have a leading axis of `depth` independent draws."""
    graph = nnx.graphdef(nnx.eval_shape(lambda: make(nnx.Rngs(params=0))))

    def draw(key: Array) -> dict:
        return nnx.to_pure_dict(nnx.state(make(nnx.Rngs(params=key)), nnx.Param))

    return nnx.merge(graph, jax.vmap(draw)(jax.random.split(rngs.params(), depth)))


def scan(
    blocks: nnx.Module,
    x: Float[Array, "b n d"],
    *,
    remat: str,
    drop_path: float = 0.0,
    rng: Key[Array, "b"] | None = None,
    angles: Float[Array, "_ m e"] | None = None,
    collect: bool = False,
    unroll: int = 1,
) -> tuple[Float[Array, "b n d"], Float[Array, "depth b n d"] | None]:
    """Apply stacked blocks one after the other; returns the last output and, if `collect`, those of all blocks.

    Args:
        blocks: a module from `stack`.
        remat: name of a rematerialisation policy, see `remat_policy`.
        drop_path: rate of the last block; rates grow linearly from 0 at the first.
        rng: one key per example; None drops nothing.
        angles: of rotary positions, which are the same in all blocks, see `rotated`.
        collect: whether to return every block's output.
        unroll: number of blocks that each iteration of the loop lays out in sequence. On CPUs, unrolling makes small
            models a quarter faster.
    """
    graph, params = nnx.split(blocks)
    depth = jax.tree.leaves(params)[0].shape[0]
    rates = np.linspace(0, drop_path, depth, dtype=np.float32)

    def body(x: Array, layer: tuple) -> tuple[Array, Array | None]:
        params, index, rate = layer
        x = pin(x)  # to the batch axes: XLA otherwise reshards the residual stream inside the loop
        kept = None
        if rng is not None and drop_path > 0:
            # The block's index is folded into each example's key, so that no draw depends on the example's row.
            keys = jax.vmap(jax.random.fold_in, (0, None))(rng, index)
            draws = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, (2,)))(keys)
            kept = (draws / (1 - rate)).astype(x.dtype).T[..., None, None]  # attention and MLP are dropped apart
        y = nnx.merge(graph, params)(x, kept=kept, angles=angles)
        return y, y if collect else None

    if (policy := remat_policy(remat)) is not None:
        # Inside a scan, XLA cannot merge the recomputation with the forward pass, so no barrier against that is needed.
        body = jax.checkpoint(body, policy=policy, prevent_cse=False)
    return jax.lax.scan(body, x, (params, jnp.arange(depth), jnp.asarray(rates)), unroll=unroll)


def applied(block: nnx.Module, x: Array, remat: str, **keywords: Any) -> Any:
    """The output of a block for `x`, with rematerialisation by a named policy, see `remat_policy`.

    Variables that the block writes, such as running statistics, are updated in `block`. Keywords are static.
    """
    if (policy := remat_policy(remat)) is None:
        return block(x, **keywords)
    graph, state = nnx.split(block)

    def run(state: Any, x: Array) -> tuple[Any, Any]:
        inside = nnx.merge(graph, state)
        result = inside(x, **keywords)
        return result, nnx.state(inside, nnx.Not(nnx.Param))

    result, written = jax.checkpoint(run, policy=policy)(state, x)
    nnx.update(block, written)
    return result


def remat_policy(name: str) -> Callable[..., bool] | None:
    """A policy of `jax.checkpoint_policies` by name, or None for "none". Raises ValueError if the name is unknown."""
    if name == "none":
        return None
    policy = getattr(jax.checkpoint_policies, name, None)
    if policy is None:
        known = [n for n in dir(jax.checkpoint_policies) if n.endswith("saveable")]
        raise ValueError(f"remat is 'none' or one of {', '.join(known)}, not {name!r}")
    return policy


def cubic_matrix(size_in: int, size_out: int) -> Float[np.ndarray, "o i"]:
    """The matrix that resizes a signal by torch's bicubic kernel (a = -0.75, edges repeated, no antialiasing).

    Source: torch.nn.functional.interpolate(mode="bicubic", align_corners=False), with which FaRL resizes positions.
    jax.image.resize has a = -0.5 and smooths if it shrinks.
    """
    a = -0.75
    # Each output pixel's centre in units of input pixels, if both lines have the same ends (align_corners=False).
    centres = (np.arange(size_out) + 0.5) * size_in / size_out - 0.5
    first = np.floor(centres).astype(int)
    matrix = np.zeros((size_out, size_in))
    # The kernel reaches two pixels to either side, so four input pixels contribute: two on the left, two on the right.
    for offset in range(-1, 3):
        t = np.abs(centres - (first + offset))
        near = (a + 2) * t**3 - (a + 3) * t**2 + 1
        far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
        weight = np.where(t <= 1, near, np.where(t < 2, far, 0))
        # Beyond an edge the edge pixel is repeated. It may then be hit several times, so weights are added, not set.
        np.add.at(matrix, (np.arange(size_out), np.clip(first + offset, 0, size_in - 1)), weight)
    return matrix.astype(np.float32)
