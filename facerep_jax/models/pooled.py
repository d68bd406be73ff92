"""Heads that give some outputs for an image from one vector, and not for each place in it.

A head is built as `Head(encoder, outputs, encode, scaled=scaled, taps=taps, rngs=rngs)`. `encode(labels, outputs)` says
what the outputs should be (`Targets`). Before the head learns, `fit(features, labels)` sets what it takes from training
examples; with `scaled`, outputs are then counted from the mean of the targets in units of their deviation, as suits
numbers such as ages, and not so logits. `head(features, rng)` gives the outputs; `rng` holds one key per example and is
given in training only.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Key

from facerep_jax.config import plain, spec
from facerep_jax.models import layers
from facerep_jax.models.heads import Maps, Standardise, at, each_once
from facerep_jax.models.uper import kept_channels
from facerep_jax.typing import Carried, Encoder, Equations, Features


class Targets(NamedTuple):
    """What outputs should be."""

    values: Float[Array, "b o"]  # finite, also where they are not known
    known: Bool[Array, "b o"]


Encode = Callable[[Array, int], Targets]


class Units(nnx.Module):
    """In what outputs are counted: from a mean, in units of a deviation."""

    def __init__(self, outputs: int):
        self.mean, self.deviation = Carried(jnp.zeros(outputs)), Carried(jnp.ones(outputs))

    def fit(self, targets: Targets) -> None:
        """Take mean and deviation of the targets that are known; an output without one stays as it is."""
        count = targets.known.sum(0)
        share = 1 / jnp.maximum(count, 1)
        mean = jnp.where(targets.known, targets.values, 0).sum(0) * share
        square = jnp.where(targets.known, jnp.square(targets.values - mean[None]), 0).sum(0) * share
        self.mean.set_value(mean)
        self.deviation.set_value(jnp.where(count > 1, jnp.sqrt(square), 1) + 1e-6)

    def __call__(self, x: Float[Array, "b o"]) -> Float[Array, "b o"]:
        return self.mean[...][None] + self.deviation[...][None] * x

    def inverse(self, y: Float[Array, "b o"]) -> Float[Array, "b o"]:
        return (y - self.mean[...][None]) / self.deviation[...][None]


class Linear(nnx.Module):
    """A linear map of the pooled feature, standardised per channel.

    Args:
        taps: of no account, the head reads none.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        encode: Encode,
        *,
        scaled: bool,
        taps: tuple[int, ...],
        rngs: nnx.Rngs,
    ):
        self.outputs, self.encode, self.scaled = outputs, encode, scaled
        self.standardise, self.units = Standardise(encoder.width), Units(outputs)
        self.linear = layers.Linear(encoder.width, outputs, init=nnx.initializers.zeros, rngs=rngs)

    def fit(self, features: Features, labels: Array) -> None:
        """Set the statistics of features and, of scaled outputs, targets; ValueError if no label is known."""
        targets = known_targets(self.encode, labels, self.outputs)
        self.standardise.fit(features.at(()))
        if self.scaled:
            self.units.fit(targets)

    def equations(self, maps: Maps, labels: Array) -> Equations:
        """A row for each image; what is not known does not count. `maps` is the pooled feature as a map of one cell."""
        targets = self.encode(labels, self.outputs)
        wanted = jnp.where(targets.known, self.units.inverse(targets.values), 0)
        return Equations(self.designs(maps)[:, None], wanted[:, None], targets.known[:, None].astype(jnp.float32))

    def designs(self, maps: Maps) -> Float[Array, "b d"]:
        """What the linear map reads."""
        return self.standardise(maps)[:, 0, 0]

    def __call__(self, features: Features, rng: Key[Array, "b"] | None = None) -> Float[Array, "b o"]:
        return self.units(self.linear(self.designs(features.at(()))))


LINEAR = plain(spec(Linear))  # spec of the default head of tasks


class Projection(nnx.Module):
    """A linear map of the pooled feature, standardised per channel, for outputs whose direction alone counts.

    It begins at random and not at zero, where a direction has no gradient: as it is drawn, the map keeps the angles
    between standardised features about as they are. It has no closed form.

    Args:
        taps: of no account, the head reads none.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        encode: Encode,
        *,
        scaled: bool,
        taps: tuple[int, ...],
        rngs: nnx.Rngs,
    ):
        if scaled:
            raise ValueError("the outputs of Projection are a direction, which has no units")
        self.outputs, self.encode = outputs, encode
        self.standardise = Standardise(encoder.width)
        self.output = layers.Linear(encoder.width, outputs, init=nnx.initializers.normal(outputs**-0.5), rngs=rngs)

    def fit(self, features: Features, labels: Array) -> None:
        """Set the statistics of features; ValueError if no label is known."""
        known_targets(self.encode, labels, self.outputs)
        self.standardise.fit(features.at(()))

    def __call__(self, features: Features, rng: Key[Array, "b"] | None = None) -> Float[Array, "b o"]:
        return self.output(self.standardise(features.at(()))[:, 0, 0])


class Layers(nnx.Module):
    """A linear map of a weighted mean of what several stages of the encoder give.

    Each tap gives the mean and the largest value of each channel over its map, and the encoder its pooled feature. Each
    of these vectors is layer-normalised by itself; then they are averaged with weights that are the softmax of one
    learnt scalar for each.

    Source: facer's head for attributes (github.com/FacePerceiver/facer, farl/classification.py).
    Changed: it takes the class token of each stage as a third vector, this the pooled feature of the last alone, which
    every encoder has; shares of dropout and initial weights are ours. The mean and the largest values of a stage of
    another width than the pooled feature's, as residual networks have them, are first brought to that width by a linear
    map of the stage; facer has vision transformers alone.

    Args:
        dropout: share of the channels that are dropped before the linear map.
        taps: stages of the encoder, at least one.

    Raises:
        ValueError: there is no tap.
    """

    def __init__(
        self,
        encoder: Encoder,
        outputs: int,
        encode: Encode,
        *,
        scaled: bool,
        taps: tuple[int, ...],
        dropout: float = 0.1,
        rngs: nnx.Rngs,
    ):
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout is a share from 0 to less than 1, not {dropout}")
        if not taps:
            raise ValueError("the head Layers reads stages of the encoder: give it one tap at least")
        self.outputs, self.encode, self.scaled, self.taps, self.dropout = outputs, encode, scaled, taps, dropout
        self.places, _ = each_once(encoder, taps)
        widths = encoder.tap_widths(tuple(dict.fromkeys(taps)))
        self.projections = nnx.List(projection(width, encoder.width, rngs) for width in widths)
        count = 2 * len(self.places) + 1
        self.norms = nnx.List([layers.LayerNorm(encoder.width) for _ in range(count)])
        self.weights = nnx.Param(jnp.zeros(count))
        self.units = Units(outputs)
        self.output = layers.Linear(encoder.width, outputs, init=layers.trunc_normal(0.02), rngs=rngs)

    def fit(self, features: Features, labels: Array) -> None:
        """Set the statistics of targets, if outputs are scaled; ValueError if no label is known."""
        targets = known_targets(self.encode, labels, self.outputs)
        if self.scaled:
            self.units.fit(targets)

    def __call__(self, features: Features, rng: Key[Array, "b"] | None = None) -> Float[Array, "b o"]:
        maps = at(features.at(self.taps), self.places)
        vectors: list[Array] = []
        for x, project in zip(maps, self.projections, strict=True):
            x = x.astype(jnp.float32)
            both = x.mean((1, 2)), x.max((1, 2))
            vectors += both if project is None else map(project, both)
        vectors.append(features.pooled.astype(jnp.float32))
        normed = jnp.stack([norm(x) for norm, x in zip(self.norms, vectors, strict=True)], axis=1)
        x = jnp.einsum("bvd,v->bd", normed, jax.nn.softmax(self.weights[...]))
        if rng is not None and self.dropout:
            x = x * kept_channels(rng, x.shape[1], self.dropout)[:, 0, 0]
        return self.units(self.output(x))


def projection(width_in: int, width_out: int, rngs: nnx.Rngs) -> layers.Linear | None:
    """A linear map to another width; None if it is the same."""
    if width_in == width_out:
        return None
    return layers.Linear(width_in, width_out, init=nnx.initializers.lecun_normal(), rngs=rngs)


def known_targets(encode: Encode, labels: Array, outputs: int) -> Targets:
    """The targets of training examples; ValueError if none is known."""
    targets = encode(labels, outputs)
    if not targets.known.any():
        raise ValueError(f"none of {len(labels)} training examples has a known label; nothing can be learnt")
    return targets
