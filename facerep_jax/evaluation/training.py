"""Training of a head, or of encoder and head, from labelled examples; all steps are those of `train.step`."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float, UInt32

from facerep_jax import schedules
from facerep_jax.config import Spec, build, spec
from facerep_jax.data.arrays import Stack
from facerep_jax.data.pipeline import Part, Stream, Subset
from facerep_jax.evaluation.cache import Extractor, extractor, features_of, given, row_bytes
from facerep_jax.evaluation.devices import everywhere, mesh_of, spread
from facerep_jax.evaluation.network import Network, Weights, look_at_images, weights_of
from facerep_jax.evaluation.problem import ON_HOST, Arrays, Indices, Problem, take
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Candidate, Outcome, choose
from facerep_jax.train.optim import adamw
from facerep_jax.train.sharding import replicated
from facerep_jax.train.state import TrainState
from facerep_jax.train.step import Look, make_step
from facerep_jax.typing import Batch, Encoder, Metrics, Task, Tree

HEAD = spec(  # the spec of the optimizer that a head has unless told otherwise
    adamw, weight_decay=1e-2, clip_norm=1.0, schedule=spec(schedules.warmup_cosine, warmup_steps=50)
).to_dict()
CALIBRATION = 1024  # training examples that a head takes its statistics from, at most
CALIBRATION_BYTES = 2**29  # of their features in half precision, at most
LABEL_BYTES = 2**26  # of labels beyond theirs, at most

SeededStep = Callable[[TrainState, Tree, Batch, Array], tuple[TrainState, Metrics]]


@dataclass(frozen=True, kw_only=True)
class Training:
    """Gradient descent on augmented images.

    Args:
        optimizer: spec of an optimizer, see `train.optim`, to which the number of steps is given.
        steps: of the whole training; rounded down to a multiple of `rounds`, but not for the optimizer.
        rounds: how often, evenly spaced, the network may be chosen.
        batch_size: images of a step.
        ema: decay of an average of all weights and running statistics, which then predicts; 0 keeps none.

    Raises:
        ValueError: there is less than one step in a round, the average would never move, or there is no such optimizer.
    """

    optimizer: Spec
    steps: int
    rounds: int
    batch_size: int
    ema: float

    def __post_init__(self) -> None:
        require_rounds(self.steps, self.rounds)
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema is the decay of an average, at least 0 and below 1, not {self.ema}")
        build(self.optimizer, steps=self.steps)  # what is wrong with it is said before anything is read

    @property
    def transform(self) -> optax.GradientTransformation:
        """The optimizer."""
        return build(self.optimizer, steps=self.steps).transform


def learner(
    training: Training,
    problem: Problem,
    encoder: Encoder,
    *,
    look: Look | None = None,
    plain: Callable[[Any], Any] | None = None,
) -> Learn:
    """A function that learns from a stream of augmented images, on as many devices as split its batches evenly.

    Args:
        encoder: what is trained with a head: the problem's, or what a protocol makes of it.
        look: see `train.step.make_loss`.
        plain: gives, of the trained encoder, that which a config builds, if `encoder` has other variables.
    """
    network = Network(encoder, problem.task, look_at_images, problem.devices)
    step = seeded_step(network.graph, training.transform, ema=training.ema, look=look)
    mesh, optimizer = mesh_of(problem.devices, training.batch_size), training.transform
    whole = None if mesh is None else replicated(mesh)
    step, frozen = jax.jit(step, donate_argnums=0, out_shardings=whole), everywhere(network.frozen, mesh)
    extract = extractor(problem.encoder, problem.task.taps, problem.devices)
    predict = predictor(network, problem.splits, problem.folder, problem.splits["test"]["id"])
    each = training.steps // training.rounds

    def candidates(chosen: Indices, seed: int) -> Iterator[Candidate]:
        task = problem.make_task(seed)
        wanted = (*task.needs, "position")
        calibrate(task, extract, problem.splits["train"], chosen)
        state = everywhere(network.start(task, optimizer, ema=training.ema), mesh)
        stream = Stream(
            [Part(Subset(problem.source, chosen.tolist()), problem.transforms)],
            task.needs,
            batch_size=training.batch_size,
            seed=seed,
        )
        with closing(stream):
            batches = (spread({name: x for name, x in batch.items() if name in wanted}, mesh) for batch in stream)
            faults = Faults()
            for _ in range(training.rounds):
                state, outcomes = advanced(step, state, frozen, islice(batches, each), seed)
                faults.count(outcomes)
                yield candidate(state, each * training.rounds, faults)

    def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
        outcome = choose(candidates(chosen, seed), problem, held_out, predict, single=True)
        if plain is None or outcome.weights is None:
            return outcome
        return outcome._replace(weights=with_encoder(outcome.weights, plain(network.encoder_of(outcome.weights))))

    return learn


def with_encoder(weights: Weights, encoder: Encoder) -> Weights:
    """The weights of a network with all arrays of an encoder, on the host, in place of those that were learnt of it."""
    whole = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(encoder)))
    rest = {name: tree for name, tree in weights.variables.items() if name != "encoder"}
    return Weights({**weights.params, "encoder": whole}, rest)


def predictor(network: Network, inputs: Mapping[str, Arrays], folder: Path, ids: Sequence[str]) -> Callable[..., Stack]:
    """A function (weights, split, rows) -> predictions; large ones lie in the folder.

    Those of test examples, of which `ids` are the names, must be finite; what is tried on validation may fail.
    """
    return lambda weights, split, rows: network.predict(
        weights, inputs[split], rows, folder, ids if split == "test" else None
    )


class Faults:
    """Counts the steps of one training whose loss or gradient was not finite; such steps change nothing."""

    def __init__(self) -> None:
        self.steps = 0

    def count(self, outcomes: Float[np.ndarray, "steps 2"]) -> None:
        """Count those of a round, by loss and norm of the gradient of each step, and warn of them.

        Raises:
            ValueError: all steps of the round were such.
        """
        found = int((~np.isfinite(outcomes)).any(1).sum())
        if found == len(outcomes):
            raise ValueError(
                f"the loss or gradient of all {found} steps of a round was not finite, so nothing was learnt; "
                "lower the learning rate of config.protocol, or look for labels that are not finite"
            )
        if found:
            print(
                f"warning: {found} of {len(outcomes)} steps changed nothing, since loss or gradient was not finite",
                file=sys.stderr,
            )
        self.steps += found


def candidate(state: TrainState, steps: int, faults: Faults, **settings: float) -> Candidate:
    """The state of a training of so many steps as it would be chosen, with the number of steps that were in vain."""
    if faults.steps:
        settings["nonfinite_steps"] = float(faults.steps)
    return Candidate(weights_of(state), {"step": float(state.step), **settings}, last=int(state.step) == steps)


def calibrate(task: Task, extract: Extractor, data: Arrays, chosen: Indices) -> None:
    """Give a head the statistics of some of the chosen examples, whose features are in `data` or made of its images.

    It is given the features of the first, and the task's label of all whose labels are small, since some may miss.
    """
    data = {name: x for name, x in data.items() if name not in ON_HOST}
    bytes_of_one = extract.size(take(data, chosen[:1])["image"]) if "image" in data else row_bytes(features_of(data))
    rows = chosen[: int(max(1, min(CALIBRATION, CALIBRATION_BYTES / bytes_of_one)))]
    features = extract(take(data, rows)["image"]) if "image" in data else {}
    label = data[task.label]
    some = chosen[: max(len(rows), LABEL_BYTES // row_bytes({task.label: label}))]
    sample = {name: x[some if name == task.label else rows] for name, x in data.items() if name != "image"}
    task.calibrate(given({**sample, **features}), {name: jnp.asarray(x) for name, x in sample.items()})


def seeded_step(graph: Any, optimizer: optax.GradientTransformation, **keywords: Any) -> SeededStep:
    """A step, see `make_step`, whose seed is an argument, so that one compilation serves all subsets of the labels."""

    def step(state: TrainState, frozen: Tree, batch: Batch, seed: UInt32[Array, ""]) -> tuple[TrainState, Metrics]:
        return make_step(graph, optimizer, seed=seed, **keywords)(state, frozen, batch)

    return step


def seed_argument(seed: int) -> UInt32[Array, ""]:
    """A subset's seed as an argument of a `SeededStep`."""
    return jnp.uint32(seed % 2**32)


def advanced(
    step: SeededStep, state: TrainState, frozen: Tree, batches: Any, seed: int
) -> tuple[TrainState, np.ndarray]:
    """The state after a step on each of some batches, and loss and norm of the gradient of each step."""
    outcomes, argument = list[tuple[Array, Array]](), seed_argument(seed)
    for batch in batches:
        jax.block_until_ready(outcomes[-2:-1])  # batches of steps that wait for their turn would fill the memory
        state, metrics = step(state, frozen, batch, argument)
        outcomes.append((metrics["loss"], metrics["gradient_norm"]))
    return state, np.array(jax.device_get(outcomes))


def require_rounds(steps: int, rounds: int) -> None:
    """Raise ValueError if there is less than one step in a round."""
    if not 0 < rounds <= steps:
        raise ValueError(f"a protocol has rounds of one step at least, not {rounds} rounds in {steps} steps")
