"""BYOL: a teacher's vector of one crop is predicted from another crop."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax import schedules
from facerep_jax.config import Spec, build, plain, spec
from facerep_jax.models import crops
from facerep_jax.models.projector import Projector, spread, unit
from facerep_jax.models.teachers import follow, teacher_of
from facerep_jax.models.views import encode
from facerep_jax.streams import stream
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Views

MOMENTUM = plain(spec(schedules.cosine, first=0.996, last=1.0))


class BYOL(nnx.Module):
    """|unit(q(z1)) - unit(z2')|^2 + |unit(q(z2)) - unit(z1')|^2, mean over examples.

    z are projections by the encoder, z' by the teacher, which follows encoder and projector, and q is a predictor. Each
    crop has a pass of its own in each network. The loss is 4 of unrelated vectors and 0 where all are alike: `spread`
    tells one from the other.

    Source: 2006.07733, equations 1 to 3; projector and predictor of appendix J: 4096 hidden units, 256 dimensions. In
    FRL's code it is there, unfinished.

    Args:
        hidden: width of the hidden layers.
        width: of the vectors.
        momentum: spec of the schedule of the teacher's momentum.
        norm_groups: see `models.resnet.ResNet`; of projector and predictor.
    """

    needs = crops.keys_of(2, 0)
    offers = (("teacher", "teacher"),)
    indivisible = "its projector and predictor are normalised by statistics of the whole batch"

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 4096,
        width: int = 256,
        momentum: Spec = MOMENTUM,
        norm_groups: int = 1,
        steps: int,
        rngs: nnx.Rngs,
    ):
        self.projector = Projector((encoder.width, hidden, width), norm_groups=norm_groups, rngs=rngs)
        self.predictor = Projector((width, hidden, width), norm_groups=norm_groups, rngs=rngs)
        self.teacher, self.teacher_projector = teacher_of(encoder), teacher_of(self.projector)
        self.momentum: schedules.Schedule = build(momentum, steps=steps)

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Let the teacher follow; at the first step it is the encoder, so that nothing moves."""
        momentum = self.momentum(step)
        follow(self.teacher, encoder, momentum)
        follow(self.teacher_projector, self.projector, momentum)

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
        names = crops.names_of(2, 0)
        own = {name: views[name] for name in names}
        taught = encode(self.teacher, own, train=True, rng=stream(rng, "teacher"))
        targets = [jax.lax.stop_gradient(self.teacher_projector(taught[name].pooled)) for name in names]
        vectors = [self.projector(seen[name].pooled) for name in names]
        one, two = (self.predictor(x) for x in vectors)
        loss = (distances(one, targets[1]) + distances(two, targets[0])).mean()
        return loss, {"loss": loss, "spread": spread(unit(vectors[0]))}


def distances(x: Float[Array, "b d"], y: Float[Array, "b d"]) -> Float[Array, "b"]:
    """Squared distances between rows that are scaled to length one."""
    return jnp.square(unit(x) - unit(y)).sum(-1)
