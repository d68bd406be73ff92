"""An encoder and the head of a task, as pure functions of their weights."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from facerep_jax.data import arrays
from facerep_jax.data.arrays import Lazy, Stack, ahead
from facerep_jax.evaluation.cache import (
    Extractor,
    features_of,
    given,
    parts_of,
    require_space,
    rounded,
    row_bytes,
)
from facerep_jax.evaluation.devices import everywhere, mesh_of, spread
from facerep_jax.evaluation.finite import finite_rows, require, require_finite
from facerep_jax.evaluation.problem import Arrays, Indices, Problem, labels_of, size, take
from facerep_jax.files import local_path
from facerep_jax.models.views import encode
from facerep_jax.train.state import Model, TrainState, merge, replaced, split, state_of
from facerep_jax.typing import Batch, Encoder, Features, Frozen, Objective, Task, Tree, View, Views, as_kind

PART_BYTES = 2**22  # of the labels of images that are predicted at a time: logits of classes take fifty times as much

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
        devices: that predict.
    """

    def __init__(self, encoder: Encoder | None, task: Task, look: Look, devices: int = 1):
        self.encoder, self.look, self._mesh = encoder, look, mesh_of(devices, devices)
        self.graph, _, _, self.frozen = split(Model(encoder, task))

        def predict(weights: Weights, frozen: Tree, batch: Batch) -> tuple[Array, Array]:
            model = merge(self.graph, weights.params, weights.variables, frozen)
            _, seen = look(model.encoder, model.objective, batch, None)
            prediction = model.objective.predict(seen, batch)
            read = [x for features in seen.values() for x in (features.pooled, *features.maps.values())]
            return prediction, finite_rows([prediction, *read])

        self._predict = jax.jit(predict)

    def start(self, task: Task, optimizer: optax.GradientTransformation, *, ema: float) -> TrainState:
        """The state before the first step, in memory of its own: steps may be given it."""
        state = state_of(Model(self.encoder, task), optimizer.init, ema=ema > 0)
        return state._replace(
            params=jax.tree.map(jnp.copy, state.params), variables=jax.tree.map(jnp.copy, state.variables)
        )

    def weights(self, task: Task) -> Weights:
        """What predicts with a head as it is."""
        return Weights(*split(Model(self.encoder, task))[1:3])

    def encoder_of(self, weights: Weights) -> Any:
        """The encoder with these weights, and with what is frozen of it."""
        return merge(self.graph, weights.params, weights.variables, self.frozen).encoder

    def predict(
        self, weights: Weights, data: Arrays, rows: Indices, folder: Path, ids: Sequence[str] | None = None
    ) -> Stack:
        """Predictions of some examples of a split, by a part of them at a time.

        If they are large, they lie in a file without a name in the folder.

        Args:
            ids: of the split's examples, if all that is predicted, and the features that it is made from, must be
                finite. A class is, whatever it was made from.

        Raises:
            ValueError: the folder does not take them, or they are not finite.
        """
        weights, frozen = everywhere((weights, self.frozen), self._mesh)
        truth = {name: x for name, x in labels_of(data).items() if name not in features_of(data)}
        most = max(1, PART_BYTES // max(1, row_bytes(truth)))
        parts = parts_of(len(rows), 1 if self._mesh is None else self._mesh.size, most)
        batches = ahead({name: x[rows[part]] for name, x in inputs_of(data).items()} for part in parts)
        flags = list[np.ndarray]()

        def one(batch: Mapping[str, np.ndarray]) -> np.ndarray:
            prediction, finite = self._predict(weights, frozen, spread(batch, self._mesh))
            flags.append(np.asarray(finite))
            return np.asarray(prediction)

        made = map(one, batches)
        first = next(made)
        found = itertools.chain([first], made)
        prediction: Stack
        if len(rows) * first[0].nbytes <= arrays.MEMORY_BYTES:
            prediction = np.concatenate(list(found))[: len(rows)]
        else:
            try:
                prediction = arrays.filed(({"prediction": part} for part in found), len(rows), folder)["prediction"]
            except OSError as error:
                raise ValueError(f"cannot keep predictions in {folder}: {error.strerror or error}") from None
        if ids is not None:
            require("features or predictions", np.concatenate(flags)[: len(rows)], [ids[row] for row in rows.tolist()])
        return prediction


def inputs_of(data: Arrays) -> Arrays:
    """What a network reads of a split: images or features."""
    return {"image": data["image"]} if "image" in data else features_of(data)


def cache_folder_of(problem: Problem, folder: str) -> Path:
    """Where features lie: in a folder, or beside the result if none is named."""
    return local_path("cache_folder", folder) if folder else problem.folder


def probed(
    problem: Problem, extract: Extractor, *, gigabytes: float, folder: Path
) -> tuple[Mapping[str, Arrays], Network]:
    """What a head reads of all splits, with their labels, if the encoder stays as it is; and the network that reads it.

    It is the encoder's features, in files without a name, or the images if features would be larger than `gigabytes`.

    Raises:
        ValueError: the folder does not take the features.
    """
    splits = {role: data for role, data in problem.splits.items() if size(data)}
    needed = sum(extract.size(data["image"]) for data in splits.values())
    if needed > gigabytes * 1e9:
        images = {role: {"image": data["image"], **labels_of(data)} for role, data in splits.items()}
        return images, Network(as_kind(problem.encoder, Frozen), problem.task, look_rounded, problem.devices)
    require_space(folder, needed)
    features = {role: {**seen(problem, extract, role, folder), **labels_of(data)} for role, data in splits.items()}
    for role, data in splits.items():
        for x in features_of(features[role]).values():
            require_finite(x, data["id"])
    return features, Network(None, problem.task, look_at_given)


def seen(
    problem: Problem,
    extract: Extractor,
    role: str,
    folder: Path | None = None,
    taps: tuple[int, ...] | None = None,
    *,
    mirrored: bool = False,
) -> dict[str, Any]:
    """The encoder's features of all images of a split, of which none is encoded that is known from before.

    Args:
        taps: whose maps are wanted, by default those of the task.
        mirrored: whether they are of the mirror images.
    """
    data = problem.splits[role]
    if mirrored:
        images: Stack = data["image"]
        turned = Lazy(lambda rows: np.ascontiguousarray(images[rows][:, :, ::-1]), images.shape, images.dtype)
        data = {**data, "image": turned}
    if problem.shared is None:
        return extract(data["image"], folder)
    names = ["pooled", *(f"map{tap}" for tap in (problem.task.taps if taps is None else taps))]

    def encode(places: Indices) -> dict[str, Any]:
        images = take(data, places)["image"] if len(places) < size(data) else data["image"]
        return extract(images, folder)

    known = problem.images[role] + ("mirrored" if mirrored else "")
    return problem.shared.features(problem.encoder, known, data["row"], names, encode)


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
