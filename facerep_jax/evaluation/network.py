"""An encoder and the head of a task, as pure functions of their weights."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Key

from facerep_jax.evaluation.cache import features_of, given, parts_of, rounded
from facerep_jax.evaluation.problem import Arrays, Indices
from facerep_jax.train.state import Model, TrainState, averaged, merge, path_of, split
from facerep_jax.train.step import encode
from facerep_jax.typing import Batch, Encoder, Features, Frozen, Objective, Task, Tree, View

See = Callable[..., Mapping[str, Features]]  # (encoder, task, batch, keys or None) -> features by view


class Weights(NamedTuple):
    """What predicts."""

    params: Tree
    variables: Tree


class Network:
    """A graph of encoder and head, and how the head comes by features.

    Args:
        encoder: learnt with the head; not learnt if its variables are `Frozen`; None where batches hold features.
        task: any head of the kind; those that are trained are given to `start`.
        see: the features that predictions are made from.
    """

    def __init__(self, encoder: Encoder | None, task: Task, see: See):
        self.encoder, self.see = encoder, see
        self.graph, _, _, self.frozen = split(Model(encoder, task))

        def predict(weights: Weights, frozen: Tree, batch: Batch) -> Array:
            model = merge(self.graph, weights.params, weights.variables, frozen)
            return model.objective.predict(see(model.encoder, model.objective, batch, None), batch)

        self._predict = jax.jit(predict)

    def start(self, task: Task, optimizer: optax.GradientTransformation, *, ema: float) -> TrainState:
        """The state before the first step, in memory of its own: steps may be given it."""
        _, params, variables, _ = split(Model(self.encoder, task))
        params, variables = jax.tree.map(jnp.copy, (params, variables))
        average = jax.tree.map(jnp.copy, averaged(params, variables)) if ema else None
        return TrainState(jnp.zeros((), jnp.int32), params, variables, optimizer.init(params), average)

    def predict(self, weights: Weights, data: Arrays, rows: Indices) -> np.ndarray:
        """Predictions of some examples of a split, by a part of them at a time."""
        inputs = {"image": data["image"]} if "image" in data else features_of(data)
        parts = []
        for part in parts_of(len(rows)):
            batch = {name: x[rows[part]] for name, x in inputs.items()}
            parts.append(np.asarray(self._predict(weights, self.frozen, batch)))
        return np.concatenate(parts)[: len(rows)]


def weights_of(state: TrainState) -> Weights:
    """What a state predicts with, on the host: the average of params and variables where it keeps one."""
    params, variables = state.params, state.variables
    if state.ema is not None:
        params, floats = state.ema["params"], state.ema["variables"]
        variables = jax.tree_util.tree_map_with_path(lambda path, x: floats.get(path_of(path), x), variables)
    return Weights(*jax.tree.map(np.array, (params, variables)))  # copies: the next step is given the state's memory


def frozen(encoder: Encoder) -> Encoder:
    """The same encoder with variables that no step learns, averages or carries; it shares their memory."""
    graph, variables = nnx.split(encoder)
    held = jax.tree.map(lambda x: Frozen(x[...]), variables, is_leaf=lambda x: isinstance(x, nnx.Variable))
    return nnx.merge(graph, held)


def see_given(encoder: Any, task: Objective, batch: Batch, rng: Key[Array, "b"] | None) -> dict[str, Features]:
    """The features that a batch holds, in place of an encoder's."""
    return given(batch)


def see_rounded(encoder: Encoder, task: Objective, batch: Batch, rng: Key[Array, "b"] | None) -> dict[str, Features]:
    """The features that a cache of the batch's images would hold."""
    return {"image": rounded(see_images(encoder, task, batch, rng)["image"])}


def see_images(encoder: Encoder, task: Objective, batch: Batch, rng: Key[Array, "b"] | None) -> dict[str, Features]:
    """The encoder's features of whole images, without drop-path."""
    return encode(encoder, {"image": View(batch["image"])}, taps=task.taps)


def see_views(encoder: Encoder, task: Objective, batch: Batch, rng: Key[Array, "b"]) -> Mapping[str, Features]:
    """The encoder's features of the task's views, without drop-path."""
    return encode(encoder, task.views(batch, rng), taps=task.taps)
