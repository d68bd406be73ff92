"""An encoder and the head of a task, as pure functions of their weights."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from facerep_jax.evaluation.cache import features_of, given, parts_of, rounded
from facerep_jax.evaluation.problem import Arrays, Indices
from facerep_jax.models.views import encode
from facerep_jax.train.state import Model, TrainState, merge, replaced, split, state_of
from facerep_jax.typing import Batch, Encoder, Features, Objective, Task, Tree, View, Views

Looked = tuple[Views, Mapping[str, Features]]
Look = Callable[..., Looked]  # (encoder, task, batch, keys or None) -> views, and features of them


class Weights(NamedTuple):
    """What predicts."""

    params: Tree
    variables: Tree


class Network:
    """A graph of encoder and head, and how the head comes by features.

    Args:
        encoder: learnt with the head; not learnt if its variables are `Frozen`; None if batches hold features.
        task: any head of the kind; those that are trained are given to `start`.
        look: gives the features that predictions are made from.
    """

    def __init__(self, encoder: Encoder | None, task: Task, look: Look):
        self.encoder, self.look = encoder, look
        self.graph, _, _, self.frozen = split(Model(encoder, task))

        def predict(weights: Weights, frozen: Tree, batch: Batch) -> Array:
            model = merge(self.graph, weights.params, weights.variables, frozen)
            return model.objective.predict(look(model.encoder, model.objective, batch, None)[1], batch)

        self._predict = jax.jit(predict)

    def start(self, task: Task, optimizer: optax.GradientTransformation, *, ema: float) -> TrainState:
        """The state before the first step, in memory of its own: steps may be given it."""
        state = state_of(Model(self.encoder, task), optimizer.init, ema=ema > 0)
        return state._replace(
            params=jax.tree.map(jnp.copy, state.params), variables=jax.tree.map(jnp.copy, state.variables)
        )

    def predict(self, weights: Weights, data: Arrays, rows: Indices) -> np.ndarray:
        """Predictions of some examples of a split, by a part of them at a time."""
        inputs = {"image": data["image"]} if "image" in data else features_of(data)
        parts = []
        for part in parts_of(len(rows)):
            batch = {name: x[rows[part]] for name, x in inputs.items()}
            parts.append(np.asarray(self._predict(weights, self.frozen, batch)))
        return np.concatenate(parts)[: len(rows)]


def weights_of(state: TrainState) -> Weights:
    """What a state predicts with, on the host: the average of params and variables if it keeps one."""
    params, variables = state.params, state.variables
    if state.ema is not None:
        params, variables = state.ema["params"], replaced(variables, state.ema["variables"])
    return Weights(*jax.tree.map(np.array, (params, variables)))  # copies: the next step is given the state's memory


def look_at_given(encoder: Any, task: Objective, batch: Batch, rng: Key[Array, "b"] | None) -> Looked:
    """The features that a batch holds, in place of an encoder's."""
    return {}, given(batch)


def look_rounded(encoder: Encoder, task: Task, batch: Batch, rng: Key[Array, "b"] | None) -> Looked:
    """The features that a cache of the batch's images would hold."""
    views, seen = look_at_images(encoder, task, batch, rng)
    return views, {"image": rounded(seen["image"])}


def look_at_images(encoder: Encoder, task: Task, batch: Batch, rng: Key[Array, "b"] | None) -> Looked:
    """Whole images and the encoder's features of them, without drop-path."""
    views = {"image": View(batch["image"], taps=task.taps)}
    return views, encode(encoder, views)


def look_untrained(encoder: Encoder, task: Task, batch: Batch, rng: Key[Array, "b"]) -> Looked:
    """The task's views and the encoder's features of them, without drop-path."""
    views = task.views(batch, encoder=encoder, rng=rng)
    return views, encode(encoder, views)
