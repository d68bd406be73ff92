"""Training of a head, or of encoder and head, from labelled examples; all steps are those of `train.step`."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from facerep_jax import schedules
from facerep_jax.config import Spec, build, spec
from facerep_jax.data.pipeline import Part, Stream, Subset
from facerep_jax.evaluation.cache import Extractor, extractor, features_of, given, row_bytes
from facerep_jax.evaluation.network import Network, weights_of
from facerep_jax.evaluation.problem import Arrays, Indices, Problem, take
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Candidate, Outcome, choose
from facerep_jax.train.optim import adamw
from facerep_jax.train.state import TrainState
from facerep_jax.train.step import Step
from facerep_jax.typing import Task, Tree

HEAD = spec(  # the spec of the optimizer that a head has unless told otherwise
    adamw, weight_decay=1e-2, clip_norm=1.0, schedule=spec(schedules.warmup_cosine, warmup_steps=50)
).to_dict()
CALIBRATION = 1024  # training examples that a head takes its statistics from, at most
CALIBRATION_BYTES = 2**29  # of their features in half precision, at most


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
        ValueError: there is less than one step in a round, or the average would never move.
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

    @property
    def transform(self) -> optax.GradientTransformation:
        """The optimizer."""
        return build(self.optimizer, steps=self.steps).transform


def learner(training: Training, problem: Problem, network: Network, step: Step) -> Learn:
    """A function that learns from a stream of augmented images."""
    step, optimizer = jax.jit(step, donate_argnums=0), training.transform
    extract = extractor(problem.encoder, problem.task.taps)
    predict = predictor(network, problem.splits)
    each = training.steps // training.rounds

    def candidates(chosen: Indices, seed: int) -> Iterator[Candidate]:
        task = problem.make_task(seed)
        wanted = (*task.needs, "position")
        calibrate(task, extract, problem.splits["train"], chosen)
        state = network.start(task, optimizer, ema=training.ema)
        stream = Stream(
            [Part(Subset(problem.source, chosen.tolist()), problem.transforms)],
            task.needs,
            batch_size=training.batch_size,
            seed=seed,
        )
        with closing(stream):
            batches = ({name: x for name, x in batch.items() if name in wanted} for batch in stream)
            for _ in range(training.rounds):
                state = advanced(step, state, network.frozen, islice(batches, each))
                yield candidate(state, each * training.rounds)

    def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
        return choose(candidates(chosen, seed), problem, held_out, predict, single=True)

    return learn


def predictor(network: Network, inputs: Mapping[str, Arrays]) -> Callable[..., np.ndarray]:
    """A function (weights, split, rows) -> predictions."""
    return lambda weights, split, rows: network.predict(weights, inputs[split], rows)


def candidate(state: TrainState, steps: int, **settings: float) -> Candidate:
    """The state of a training of so many steps as it would be chosen."""
    return Candidate(weights_of(state), {"step": float(state.step), **settings}, last=int(state.step) == steps)


def calibrate(task: Task, extract: Extractor, data: Arrays, chosen: Indices) -> None:
    """Give a head the statistics of some of the chosen examples, whose features are in `data` or made of its images."""
    data = {name: x for name, x in data.items() if name not in ("id", "tables")}
    bytes_of_one = extract.size(data["image"][:1]) if "image" in data else row_bytes(features_of(data))
    sample = take(data, chosen[: int(max(1, min(CALIBRATION, CALIBRATION_BYTES / bytes_of_one)))])
    features = extract(sample["image"]) if "image" in sample else {}
    task.calibrate(given({**sample, **features}), {name: jnp.asarray(x) for name, x in sample.items()})


def advanced(step: Step, state: TrainState, frozen: Tree, batches: Any) -> TrainState:
    """The state after a step on each of some batches."""
    for batch in batches:
        state, _ = step(state, frozen, batch)
    return state


def require_rounds(steps: int, rounds: int) -> None:
    """Raise ValueError if there is less than one step in a round."""
    if not 0 < rounds <= steps:
        raise ValueError(f"a protocol has rounds of one step at least, not {rounds} rounds in {steps} steps")
