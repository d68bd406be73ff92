"""A weighted sum of objectives on one encoder."""

from collections.abc import Mapping

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build, nearest
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Objective, View

MICRO_BATCHES = ("exact", "cached", "refuse")  # from the freest to the strictest


class Combined(nnx.Module):
    """Terms that share the encoder's passes: views of equal names are encoded once.

    Args:
        terms: name -> spec of an objective.
        weights: name -> factor of its loss; 1 where a name is missing.
    """

    def __init__(
        self, encoder: Encoder, *, terms: Mapping[str, Spec], weights: Mapping[str, float] | None = None, rngs: nnx.Rngs
    ):
        weights = dict(weights or {})
        for name in weights:
            if name not in terms:
                raise ValueError(f"a weight is given for {name!r}, which is no term; {nearest(name, terms)}")
        self.terms = nnx.Dict({name: build(term, encoder, rngs=rngs) for name, term in terms.items()})
        self.weights = tuple(float(weights.get(name, 1.0)) for name in self.terms)
        self.needs = tuple(sorted({key for term in self.terms.values() for key in term.needs}))
        self.taps = tuple(sorted({tap for term in self.terms.values() for tap in term.taps}))
        self.micro_batches = max((term.micro_batches for term in self.terms.values()), key=MICRO_BATCHES.index)

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        for term in self.terms.values():
            term.begin(encoder, step)

    def views(self, batch: Batch, rng: Key[Array, "b"]) -> Mapping[str, View]:
        views: dict[str, View] = {}
        for term in self.terms.values():
            views |= term.views(batch, rng)
        return views

    def loss(
        self,
        seen: Mapping[str, Features],
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> tuple[Float[Array, ""], Metrics]:
        total, metrics = jnp.zeros(()), dict[str, Array]()
        for weight, term in zip(self.weights, self.terms.values(), strict=True):
            own = {name: features._replace(maps=self.maps_of(term, features)) for name, features in seen.items()}
            loss, more = term.loss(own, batch, encoder=encoder, step=step, rng=rng)
            total += weight * loss
            metrics |= more
        return total, metrics

    def maps_of(self, term: Objective, features: Features) -> tuple[Array, ...]:
        """The maps of a term's own taps, out of those of all terms."""
        return tuple(features.maps[self.taps.index(tap)] for tap in term.taps)
