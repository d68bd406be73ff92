"""What embeds patches of images where one linear map, as published, does not suffice."""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from facerep_jax.models.layers import Initializer, Linear

FLOOR = 1e-3  # added to the variance of a patch, whose values vary by about 1, so that noise in flat ones stays small


class ContrastStem(nnx.Module):
    """An embedding of patches by their contrast: a layer of ReLUs behind a normalisation of each patch.

    A patch loses its mean and is divided by its standard deviation; mean and logarithm of the deviation are put beside
    it. Then light changes two numbers of a patch and not its structure, and a code of structure need not be learnt by
    the blocks. In minutes of training and with few labels that is worth as much for landmarks as the training itself,
    and nothing for parsing (RESULTS.md).
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
        contrast, mean, variance = normalised(patches, FLOOR)
        seen = jnp.concatenate([contrast, mean, jnp.log(jnp.sqrt(variance + FLOOR))], axis=-1)
        return self.down(jax.nn.relu(self.up(seen)))


def normalised(
    patches: Float[Array, "b n p"], floor: float
) -> tuple[Float[Array, "b n p"], Float[Array, "b n 1"], Float[Array, "b n 1"]]:
    """Patches without their means, over their deviations; these means, and the variances, to which `floor` is added."""
    mean, variance = patches.mean(-1, keepdims=True), patches.var(-1, keepdims=True)
    return (patches - mean) / jnp.sqrt(variance + floor), mean, variance
