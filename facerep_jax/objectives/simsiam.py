"""SimSiam: one crop's vector is predicted from another's, without negatives, queue or teacher."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.models import crops
from facerep_jax.models.projector import Projector, spread, unit
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Views


class SimSiam(nnx.Module):
    """- cos(p1, z2) / 2 - cos(p2, z1) / 2, where z are projections of two crops and p predictions from them.

    No gradient goes into z where it is the target. Each crop has a pass, and so batch statistics, of its own. The loss
    is -1 also where all vectors are alike: `spread` tells, which is near 1 of vectors that point everywhere.

    Source: 2011.10566, algorithm 1 and section 3; facebookresearch/simsiam. In FRL's code it is one of the choices.

    Args:
        hidden: width of the projector's layers and of its output.
        bottleneck: width of the predictor's hidden layer.
        norm_groups: see `models.resnet.ResNet`; of projector and predictor.
    """

    needs = crops.keys_of(2, 0)
    offers = ()
    indivisible = "its projector and predictor are normalised by statistics of the whole batch"

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        bottleneck: int = 512,
        norm_groups: int = 1,
        rngs: nnx.Rngs,
    ):
        settings: dict[str, Any] = dict(hidden_bias=False, norm_groups=norm_groups, rngs=rngs)
        self.projector = Projector((encoder.width, hidden, hidden, hidden), norm_out=True, **settings)
        self.predictor = Projector((hidden, bottleneck, hidden), **settings)

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Nothing is carried from step to step but statistics."""

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return crops.views_of(batch, 2, 0, apart=True)

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
        z1, z2 = (self.projector(seen[name].pooled) for name in crops.names_of(2, 0))
        p1, p2 = self.predictor(z1), self.predictor(z2)
        loss = -(cosine(p1, jax.lax.stop_gradient(z2)) + cosine(p2, jax.lax.stop_gradient(z1))) / 2
        return loss, {"loss": loss, "spread": spread(unit(z1))}


def cosine(x: Float[Array, "b d"], y: Float[Array, "b d"]) -> Float[Array, ""]:
    """The mean cosine between rows."""
    return jnp.sum(unit(x) * unit(y), axis=-1).mean()
