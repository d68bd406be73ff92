"""Scores of the encoder of a pre-training while it is trained, by closed-form probes on a small labelled set."""

import math
from collections.abc import Collection, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import Subset, build_transforms, load
from facerep_jax.evaluation.cache import parts_of
from facerep_jax.evaluation.encoders import ALIGNED, aligned, crop_of
from facerep_jax.evaluation.probes import PROBES, Seen
from facerep_jax.evaluation.problem import Arrays, divided, size
from facerep_jax.models.taps import stages_at
from facerep_jax.train.collapse import RANK, SPREAD, measures
from facerep_jax.train.handover import AVERAGE, PARAMS
from facerep_jax.train.sharding import batch_sharding, replicated
from facerep_jax.train.state import TrainState, merge, replaced
from facerep_jax.typing import BATCH_AXES, Tree, View

PREFIX = "evaluate/"  # of the scalars in metrics.jsonl
TITLES = {  # of scalars, in the order of a report
    **{name: probe.title for name, probe in PROBES.items()},
    RANK: "Effective rank of the pooled features, near 1 if they collapse",
    SPREAD: "Spread of the pooled features, near 0 if they collapse",
}
GRID = 7  # a map is averaged to at most so many cells a side


class Monitor:
    """Scores the encoder of a training state; reads the state and changes nothing.

    All processes of a run call it at the same steps, since all of their devices work on it.

    Args:
        config: `evaluate` of the pre-training's, see `train.recipe`.
        graph: of the model, as `train.state.split` gives it.
        image_size: pixels of a side of the images that the encoder is trained on; None if there are none.
        average: whether the state has an average of the weights.

    Raises:
        ValueError: the config asks for what the run or the data set does not have.
    """

    def __init__(self, config: ConfigDict, graph: Any, image_size: int | None, mesh: Mesh, *, average: bool):
        self.every, self.weights = config.every, config.weights
        if self.every < 0:
            raise ValueError(f"evaluate.every is a number of steps, or 0 for never, not {self.every}")
        if self.weights not in (PARAMS, AVERAGE):
            raise ValueError(f"evaluate.weights is {PARAMS} or {AVERAGE}, not {self.weights!r}")
        if self.weights == AVERAGE and not average:
            raise ValueError("evaluate.weights=ema needs an average of the weights: set --config.ema, such as 0.999")
        self._mesh, self._splits = mesh, dict[str, Arrays]()
        if self.every:
            if not config.dataset:
                raise ValueError("evaluate.every needs a labelled set: give --config.evaluate.dataset=FAMILY/NAME")
            if config.images < 2:
                raise ValueError(f"evaluate.images is at least 2, not {config.images}")
            if image_size is None:
                raise ValueError("evaluate.every needs an objective that trains on images")
            self._splits, self._meta = labelled(config, image_size)
        self._shards = math.prod(mesh.shape[axis] for axis in BATCH_AXES)
        self._see = jax.jit(partial(see, graph), out_shardings=replicated(mesh))

    def due(self, step: int) -> bool:
        """Whether the encoder is scored after this step; it is before the first one."""
        return bool(self.every) and step % self.every == 0

    def __call__(self, state: TrainState, frozen: Tree) -> dict[str, float]:
        """The scores, by their names in metrics.jsonl, and how varied the features are."""
        params, variables = state.params, state.variables
        if self.weights == AVERAGE and state.ema is not None:
            params, variables = state.ema["params"], replaced(variables, state.ema["variables"])
        seen = {role: self._seen(data, (params, variables, frozen)) for role, data in self._splits.items()}
        fit, scored = seen["train"], seen["validation"]
        found = measures(scored.pooled)
        for name, probe in PROBES.items():
            if probe.reads[0] in fit.labels and (value := probe.value(fit, scored)) is not None:
                found[name] = value
        return {PREFIX + name: value for name, value in found.items()}

    def _seen(self, data: Arrays, weights: Tree) -> Seen:
        """A split as the encoder sees it."""
        parts, count = [], size(data)
        for rows in parts_of(count, self._shards):
            images = data["image"][rows]
            placed = jax.make_array_from_callback(images.shape, batch_sharding(self._mesh), images.__getitem__)
            parts.append(jax.device_get(self._see(weights, placed)))
        pooled, grid = (np.concatenate(each)[:count] for each in zip(*parts, strict=True))
        return Seen(pooled, grid, {name: x for name, x in data.items() if name != "image"}, self._meta)


def scores_in(scalars: Collection[str]) -> list[tuple[str, str]]:
    """The scores among the names of scalars, each with its title."""
    return [(PREFIX + name, title) for name, title in TITLES.items() if PREFIX + name in scalars]


def see(graph: Any, weights: Tree, images: UInt8[Array, "b h w 3"]) -> tuple[Float[Array, "b d"], Float[Array, "b g"]]:
    """Pooled features of images, and the map of the last stage, averaged to a coarse grid and flattened."""
    params, variables, frozen = weights
    encoder = merge(graph, params, variables, frozen).encoder
    (last,) = stages_at((1.0,), encoder.stages)
    features = encoder(View(images, taps=(last,)))
    grid = features.maps[last].astype(jnp.float32)
    b, h, w, d = grid.shape
    grid = jax.image.resize(grid, (b, min(h, GRID), min(w, GRID), d), "linear")
    return features.pooled.astype(jnp.float32), grid.reshape(b, -1)


def labelled(config: ConfigDict, image_size: int) -> tuple[dict[str, Arrays], Mapping[str, Any]]:
    """The examples to fit, `train`, and to score, `validation`, of a data set, and its meta.

    The first examples of each split are taken. Without a validation split, half of the training examples are scored.
    """
    dataset = open_dataset(config.dataset, config.data_dir)
    crop = crop_of(dataset, config.crop)
    shown = aligned(config.transforms) if crop == ALIGNED else config.transforms
    transforms = build_transforms(shown, dataset.meta, size=image_size, whole=crop == "whole")
    there = [role for role in ("train", "validation") if dataset.splits.get(role)]
    if "train" not in there:
        raise ValueError(f"evaluate.dataset {dataset.name!r} has no training examples to fit probes on")
    optional = tuple(dict.fromkeys(name for probe in PROBES.values() for name in probe.reads))
    most = config.images if len(there) > 1 else 2 * config.images
    splits: dict[str, Arrays] = {}
    for role in there:
        source = dataset.source(role)
        some = Subset(source, range(min(most, len(source))))
        splits[role] = load(some, transforms, ("image",), optional=optional, name=dataset.name)
    if len(there) == 1:
        splits |= divided(splits["train"], "id", 0.5)
    return splits, dataset.meta
