"""Weighted sum of objectives on one encoder."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Key

from facerep_jax.config import Spec, build, build_with
from facerep_jax.streams import stream
from facerep_jax.suggestions import nearest
from facerep_jax.typing import Batch, Encoder, Features, Metrics, Tree, View, Views, why_indivisible


class Combined(nnx.Module):
    """A weighted sum of terms that share the encoder's passes: each view is encoded once, however many terms read it.

    The name of a term is the prefix of its metrics and selects its streams of randomness, so that in training one more
    term changes no draw of the others. Initial weights are drawn one after the other, in the order of the terms' names:
    one more term changes those of the terms behind it. All terms must mean the same view by the same name: a random
    view that several terms read is drawn once, by `views`.

    Args:
        terms: name -> spec of an objective. None is called `encoder`, which names the encoder's own stream.
        weights: name -> factor of its loss; missing names have factor 1.
        views: name -> spec of a view that terms share, such as `models.views.RandomPatches`; it may have `needs` too.
        steps: length of the run.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        terms: Mapping[str, Spec],
        weights: Mapping[str, float] | None = None,
        views: Mapping[str, Spec] | None = None,
        steps: int,
        rngs: nnx.Rngs,
    ):
        if "encoder" in terms:
            raise ValueError(
                "no term is called 'encoder', whose random draws would be the encoder's; call it otherwise"
            )
        weights = dict(weights or {})
        for name in weights:
            if name not in terms:
                raise ValueError(f"a weight is given for {name!r}, which is no term; {nearest(name, terms)}")
        ordered = sorted(terms.items())  # as nnx.Dict orders them once a model was taken apart and merged
        built = {name: build_with(term, {"steps": steps}, encoder, rngs=rngs) for name, term in ordered}
        self.terms = nnx.Dict(built)
        self.weights = tuple(float(weights.get(name, 1.0)) for name in built)
        self.shared = tuple((name, build(view)) for name, view in (views or {}).items())
        parts = (*built.values(), *(view for _, view in self.shared))
        self.needs = tuple(sorted({key for part in parts for key in getattr(part, "needs", ())}))
        often = Counter(name for term in built.values() for name, _ in term.offers)
        self.offers = tuple(
            (name if often[name] == 1 else f"{owner}.{name}", f"terms/{owner}/{path}".rstrip("/"))
            for owner, term in built.items()
            for name, path in term.offers
        )

    def begin(self, encoder: Encoder, step: Int[Array, ""]) -> None:
        for term in self.terms.values():
            term.begin(encoder, step)

    def views(self, batch: Batch, *, encoder: Encoder, rng: Key[Array, "b"]) -> Views:
        """The shared views and the views of all terms. Raises ValueError if one name means two different views."""
        views = {name: make(batch, encoder=encoder, rng=stream(rng, f"view {name}")) for name, make in self.shared}
        owners = dict.fromkeys(views, "`views`")
        for owner, term in self.terms.items():
            for name, view in term.views(batch, encoder=encoder, rng=stream(rng, owner)).items():
                if name in views and arrays_of(view) != arrays_of(views[name]):
                    raise ValueError(
                        f"{owners[name]} and the term {owner!r} both call a view {name!r} and mean different ones: "
                        "give one another name, or let both read it from the objective's `views`"
                    )
                taps = {*view.taps, *views[name].taps} if name in views else view.taps
                views[name] = replace(view, taps=tuple(sorted(taps)))
                owners.setdefault(name, f"the term {owner!r}")
        return views

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
        return self.total(
            {
                name: term.loss(seen, views, batch, encoder=encoder, step=step, rng=stream(rng, name))
                for name, term in self.terms.items()
            }
        )

    @property
    def indivisible(self) -> str:
        """Why a term needs the whole batch at once; empty if none does."""
        reasons = ((name, why_indivisible(term)) for name, term in self.terms.items())
        return next((f"of its term {name!r}, {reason}" for name, reason in reasons if reason), "")

    def representations(
        self,
        seen: Mapping[str, Features],
        views: Views,
        batch: Batch,
        *,
        encoder: Encoder,
        step: Int[Array, ""],
        rng: Key[Array, "b"],
    ) -> Tree:
        return {
            name: term.representations(seen, views, batch, encoder=encoder, step=step, rng=stream(rng, name))
            for name, term in self.terms.items()
        }

    def loss_of(self, representations: Tree, batch: Batch, *, step: Int[Array, ""]) -> tuple[Float[Array, ""], Metrics]:
        return self.total(
            {name: term.loss_of(representations[name], batch, step=step) for name, term in self.terms.items()}
        )

    def total(self, terms: Mapping[str, tuple[Float[Array, ""], Metrics]]) -> tuple[Float[Array, ""], Metrics]:
        """The weighted sum of the terms' losses, and their metrics."""
        total, metrics = jnp.zeros(()), dict[str, Array]()
        for weight, (name, (loss, more)) in zip(self.weights, terms.items(), strict=True):
            total += weight * loss
            metrics |= {f"{name}/{metric}": value for metric, value in more.items()}
        return total, metrics


def arrays_of(view: View) -> tuple:
    """The identities of a view's arrays, which are equal for two views of the same arrays."""
    return (*map(id, (view.image, view.keep, view.masked, view.fill)), view.apart)
