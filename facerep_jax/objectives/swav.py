"""SwAV: which prototype a crop belongs to, by the other crops of its image."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, Key

from facerep_jax.models import crops
from facerep_jax.models.projector import Projector, bounded, spread, unit
from facerep_jax.models.views import deinterleaved, interleaved
from facerep_jax.typing import Batch, Carried, Encoder, Features, Metrics, Views


class SwAV(nnx.Module):
    """Codes of each large crop are predicted from every other crop; codes share the batch out among the prototypes.

    With scores s of a crop, its vector of length one times the prototypes, and codes q of a large crop i, which come
    from its scores by `sinkhorn` and have no gradient, the loss is the mean over i, over all other crops v, and over
    examples of - sum_k q_i[k] log softmax(s_v / temperature)[k].

    Crops of one size share a pass of the encoder, so that its batch normalisation takes statistics for each size; the
    projector sees the rows of all crops at once. A loss of ln(prototypes), `chance`, is that of codes or predictions
    that are all alike: a healthy run leaves it in the first thousand steps.

    With a `queue`, codes are found for the batch together with vectors of past batches, which a batch of few examples
    needs. The queue is used once it is full. It holds vectors, so that their scores are those of today's prototypes.

    Source: 2006.09882, sections 3.1 and 3.2, equations 2 to 5; facebookresearch/swav; FRL (2103.16554), which trains
    with it. Freeze the prototypes for an epoch at first: `freeze=(("prototypes$", 313),)` of `train.larc`.
    Changed: the queue has one order over all devices, the published one has a queue for each; codes do not depend on
    the order. Sinkhorn's iterations are in the logarithm, where no `epsilon` is too small.

    Args:
        large, small: how many crops of each size an example has, as `data.multi_crop.MultiCrop` gives them.
        prototypes: how many.
        hidden: width of the projector's hidden layer.
        width: of the space of the prototypes.
        temperature: of predictions.
        epsilon: how soft codes are.
        rounds: of Sinkhorn's iteration.
        queue: vectors of past examples; a multiple of the batch. 0 for none.
        queue_steps: the step from which on vectors are kept.
        norm_groups: see `models.resnet.ResNet`; of the projector's batch normalisation.
    """

    offers = ()
    indivisible = "its codes share the prototypes out among all images of the batch, whose statistics normalise them"

    def __init__(
        self,
        encoder: Encoder,
        *,
        large: int = 2,
        small: int = 6,
        prototypes: int = 3000,
        hidden: int = 2048,
        width: int = 128,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        rounds: int = 3,
        queue: int = 0,
        queue_steps: int = 0,
        norm_groups: int = 1,
        rngs: nnx.Rngs,
    ):
        if large < 1 or large + small < 2:
            raise ValueError(f"SwAV needs a large crop and another one, not {large} large and {small} small ones")
        self.needs, self.crops = crops.keys_of(large, small), crops.names_of(large, small)
        self.projector = Projector((encoder.width, hidden, width), norm_groups=norm_groups, rngs=rngs)
        self.prototypes = nnx.Param(bounded(width**-0.5)(rngs.params(), (prototypes, width)))
        self.queue = Carried(jnp.zeros((large, queue, width))) if queue else None
        self.large, self.small, self.queue_steps, self.rounds = large, small, queue_steps, rounds
        self.temperature, self.epsilon = temperature, epsilon

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        """Scale the prototypes to length one: a projection, through which no gradient goes."""
        self.prototypes.set_value(unit(self.prototypes[...]))

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        return crops.views_of(batch, self.large, self.small)

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
        self.require_enough(len(batch["image"]))
        pooled = interleaved([seen[name].pooled.astype(jnp.float32) for name in self.crops])
        rows = unit(self.projector(pooled))
        vectors = deinterleaved(rows, len(self.crops))
        log_p = deinterleaved(jax.nn.log_softmax(rows @ self.prototypes[...].T / self.temperature), len(self.crops))
        losses = []
        for index in range(self.large):
            codes = self.codes(index, jax.lax.stop_gradient(vectors[index]), step)
            others = [log_p[i] for i in range(len(self.crops)) if i != index]
            losses.append(-jnp.stack([(codes * other).sum(-1).mean() for other in others]).mean())
        loss = jnp.stack(losses).mean()
        use = jnp.exp(log_p[0]).mean(0)
        return loss, {
            "loss": loss,
            "chance": jnp.log(jnp.float32(len(use))),
            "prototypes_used": jnp.exp(-(use * jnp.log(use + 1e-12)).sum()),  # as many, were they used alike
            "spread": spread(vectors[0]),
        }

    def codes(self, index: int, now: Float[Array, "b d"], step: Int[Array, ""]) -> Float[Array, "b k"]:
        """Codes of the vectors of a large crop, which go into its queue, if there is one, behind the past ones' use."""
        prototypes, known, there = jax.lax.stop_gradient(self.prototypes[...]), now, jnp.ones(len(now), bool)
        if self.queue is not None:
            past = self.queue[...][index]
            full = jnp.any(past[-1] != 0)
            known = jnp.concatenate([now, past])
            there = jnp.concatenate([there, jnp.broadcast_to(full, len(past))])
            kept = jnp.where(step >= self.queue_steps, known[: len(past)], past)
            self.queue.set_value(self.queue[...].at[index].set(kept))
        return sinkhorn(known @ prototypes.T, there, epsilon=self.epsilon, rounds=self.rounds)[: len(now)]

    def require_enough(self, batch_size: int) -> None:
        """Check that codes can use all prototypes. Raises ValueError, which says what helps, if there are too few."""
        queue = 0 if self.queue is None else self.queue.shape[1]
        prototypes = self.prototypes.shape[0]
        if queue % batch_size:
            raise ValueError(f"SwAV's queue of {queue} vectors is no multiple of the batch of {batch_size} examples")
        if (enough := batch_size + queue) < prototypes:
            least = -(-(prototypes - batch_size) // batch_size) * batch_size
            raise ValueError(
                f"a batch of {batch_size} examples{f' and a queue of {queue}' if queue else ''} cannot use "
                f"{prototypes} prototypes alike: set objective.queue to at least {least}, objective.prototypes to at "
                f"most {enough}, or a larger data.batch_size"
            )


def sinkhorn(
    scores: Float[Array, "n k"], there: Bool[Array, "n"], *, epsilon: float, rounds: int
) -> Float[Array, "n k"]:
    """Codes: rows sum to 1, and columns, after many rounds, all to n / k. Rows that are not `there` count for nothing.

    Source: 2006.09882, equation 3 and appendix A; 1306.0895. Each round divides by the columns' sums, then by the
    rows', so that rows sum to 1 exactly. Sums are over the whole batch, wherever its rows lie. A constant that is added
    to all scores changes nothing.
    """
    log_q = scores.astype(jnp.float32) / epsilon
    for _ in range(rounds):
        log_q = log_q - jax.nn.logsumexp(log_q, axis=0, keepdims=True, where=there[:, None])
        log_q = log_q - jax.nn.logsumexp(log_q, axis=1, keepdims=True)
    return jnp.exp(log_q)
