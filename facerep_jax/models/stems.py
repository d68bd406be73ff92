"""What embeds patches of images where one linear map, as published, does not suffice."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.models.layers import Initializer, Linear

FLOOR = (
    1e-3  # added to the variance of a patch, of images normalised to a variance near 1: noise in flat ones stays small
)


class ContrastStem(nnx.Module):
    """An embedding of patches by their contrast: a layer of ReLUs behind a normalisation of each patch.

    A patch loses its mean and is divided by its standard deviation; mean and logarithm of the deviation are put beside
    it. Then light changes two numbers of a patch and not its structure, and a code of structure need not be learnt by
    the blocks: with few images and labels this helps more than anything that a pre-training brings (RESULTS.md).
    Source: the normalisation is that of Coates, Lee, Ng, "An analysis of single-layer networks in unsupervised feature
    learning" (2011), section 3.1; the layer is ours and takes the place of their k-means.

    Args:
        values: of a patch.
        hidden: units of the layer.
        width: of the result.
        init: of the second of the two linear maps; that of a linear patch embedding, so that positions, which are added
            to the result, weigh as much as they do there.
    """

    def __init__(self, values: int, *, hidden: int, width: int, init: Initializer, dtype: str, rngs: nnx.Rngs):
        self.up = Linear(values + 2, hidden, init=nnx.initializers.lecun_normal(), dtype=dtype, rngs=rngs)
        self.down = Linear(hidden, width, init=init, dtype=dtype, rngs=rngs)

    def __call__(self, patches: Float[Array, "b n p"]) -> Float[Array, "b n d"]:
        mean, variance = patches.mean(-1, keepdims=True), patches.var(-1, keepdims=True)
        deviation = jnp.sqrt(variance + FLOOR)
        seen = jnp.concatenate([(patches - mean) / deviation, mean, jnp.log(deviation)], axis=-1)
        return self.down(jax.nn.relu(self.up(seen)))
