"""How a task is learnt and scored from some labelled examples.

A protocol is prepared once for a problem, then learns on subsets of the labels: it trains on some training examples,
chooses by the problem's selection, and predicts all test examples. All training is by `train.step`.
"""

import math
import typing
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from facerep_jax import schedules
from facerep_jax.config import Spec, nearest, pick, spec
from facerep_jax.data.pipeline import Part, Stream, Subset
from facerep_jax.evaluation.cache import Extractor, extractor, features_of, given, require_space, row_bytes
from facerep_jax.evaluation.network import (
    Network,
    look_at_given,
    look_at_images,
    look_rounded,
    look_untrained,
    weights_of,
)
from facerep_jax.evaluation.problem import Arrays, Indices, Problem, labels_of, size, take
from facerep_jax.evaluation.selection import Candidate, Outcome, choose
from facerep_jax.train.optim import DECAYED, adamw
from facerep_jax.train.state import TrainState
from facerep_jax.train.step import Step, make_step
from facerep_jax.typing import Batch, Frozen, Task, Tree, as_kind

FARL = {  # of FaRL's training (github.com/FacePerceiver/FaRL, configs of its optimizers and trainers), see `as_farl`
    "batch_size": 40,
    "warmup_steps": 0,
    "weight_decay": 1e-5,
    "decayed": ".",
    "clip_norm": 0.0,
    "schedule": "steps",
    "ema": 0.999,
}
CALIBRATION = 1024  # training examples that a head takes its statistics from, at most
CALIBRATION_BYTES = 2**29  # of their features in half precision, at most

Learn = Callable[[Indices, Indices, int], Outcome]  # (training examples, validation examples, seed)


@typing.runtime_checkable
class Protocol(typing.Protocol):
    """How a task is learnt from labels."""

    name: str

    def prepare(self, problem: Problem) -> Learn:
        """What is done once for all subsets of the labels; gives what learns on one."""
        ...


class LinearProbe:
    """A head on the frozen encoder, which sees each image once: its features are kept in bfloat16, mapped from disk.

    Where they would be larger than `cache_gigabytes`, the encoder sees the images of every batch anew, and its features
    are rounded as a cache would: the result is the same up to what that rounding makes of the last bit.

    Args:
        steps, batch_size: of a head's training.
        rounds: how often, evenly spaced, a head may be chosen; steps are rounded down to a multiple of it.
        learning_rates: each is tried.
        cache_gigabytes: of disk that features of all splits may take.
        cache_folder: where they lie, in files without a name; by default beside the result.
        device_gigabytes: a subset of the labels whose inputs are at most this large lies on the device, and many steps
            are one call; batches of a larger one are gathered on the host.
    """

    name = "linear_probe"

    def __init__(
        self,
        *,
        steps: int = 600,
        rounds: int = 6,
        batch_size: int = 64,
        learning_rates: tuple[float, ...] = (1e-3, 5e-3),
        weight_decay: float = 1e-2,
        cache_gigabytes: float = 20.0,
        cache_folder: str = "",
        device_gigabytes: float = 2.0,
    ):
        require(steps, rounds)
        if not learning_rates:
            raise ValueError("learning_rates is empty; a probe needs at least one")
        self.steps, self.rounds, self.batch_size = steps // rounds * rounds, rounds, batch_size
        self.cache_bytes, self.cache_folder = cache_gigabytes * 1e9, cache_folder
        self.device_bytes = device_gigabytes * 1e9
        self.optimizers = {
            rate: adamw(learning_rate=rate, weight_decay=weight_decay, steps=steps).transform for rate in learning_rates
        }

    def prepare(self, problem: Problem) -> Learn:
        extract = extractor(problem.encoder, problem.make_task(0).taps)
        inputs, network = self.inputs(problem, extract)
        steps = {
            rate: make_step(network.graph, optimizer, seed=0, look=network.look)
            for rate, optimizer in self.optimizers.items()
        }
        in_one_call = {rate: scan_steps(step) for rate, step in steps.items()}
        one = {rate: jax.jit(step, donate_argnums=0) for rate, step in steps.items()}

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            rows = batches_of(len(chosen), self.batch_size, self.steps, seed)
            resident = len(chosen) * row_bytes(inputs["train"]) <= self.device_bytes
            data = {name: jnp.asarray(x[chosen]) for name, x in inputs["train"].items()} if resident else {}

            def candidates() -> Iterator[Candidate]:
                for rate, optimizer in self.optimizers.items():
                    task = problem.make_task(seed)
                    calibrate(task, extract, inputs["train"], chosen)
                    state = network.start(task, optimizer, ema=0.0)
                    for part in np.split(rows, self.rounds):
                        if resident:
                            state = in_one_call[rate](state, network.frozen, data, jnp.asarray(part))
                        else:
                            batches = gathered(inputs["train"], chosen, part)
                            state = advanced(one[rate], state, network.frozen, batches)
                        yield candidate(state, self.steps, learning_rate=rate)

            return choose(candidates(), problem, held_out, predictor(network, inputs), single=len(self.optimizers) == 1)

        return learn

    def inputs(self, problem: Problem, extract: Extractor) -> tuple[Mapping[str, Arrays], Network]:
        """What the head learns from: features, or images if those are too large; and the network that reads it."""
        task = problem.make_task(0)
        splits = dict(train=problem.train, validation=problem.validation, test=problem.test)
        splits = {name: data for name, data in splits.items() if size(data)}
        needed = sum(extract.size(data["image"]) for data in splits.values())
        if needed > self.cache_bytes:
            images = {name: {"image": data["image"], **labels_of(data)} for name, data in splits.items()}
            return images, Network(as_kind(problem.encoder, Frozen), task, look_rounded)
        folder = Path(self.cache_folder) if self.cache_folder else problem.folder
        require_space(folder, needed)
        features = {name: {**extract(data["image"], folder), **labels_of(data)} for name, data in splits.items()}
        return features, Network(None, task, look_at_given)


class FrozenEncoder:
    """A head on the frozen encoder, which sees augmented images anew in every step, without drop-path.

    Source: FaRL's `freeze_backbone` (github.com/FacePerceiver/FaRL). Its settings are those of `FineTune`, without the
    encoder's.

    Args:
        steps, batch_size: of the head's training.
        rounds: how often, evenly spaced, the head may be chosen; steps are rounded down to a multiple of it.
        schedule, milestones, decayed: as of `train.optim.adamw`.
        ema: decay of the average of the head's weights, which then predicts; 0 keeps none.
    """

    name = "frozen"

    def __init__(
        self,
        *,
        steps: int = 1000,
        rounds: int = 5,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        warmup_steps: int = 50,
        weight_decay: float = 1e-2,
        decayed: str = DECAYED,
        clip_norm: float = 1.0,
        schedule: str = "cosine",
        milestones: tuple[float, ...] = (),
        ema: float = 0.0,
    ):
        require(steps, rounds, ema)
        self.steps, self.rounds, self.batch_size, self.ema = steps // rounds * rounds, rounds, batch_size, ema
        self.optimizer = adamw(
            learning_rate=learning_rate,
            schedule=rates(schedule, warmup_steps, milestones),
            weight_decay=weight_decay,
            decayed=decayed,
            clip_norm=clip_norm,
            steps=steps,
        ).transform

    def prepare(self, problem: Problem) -> Learn:
        network = Network(as_kind(problem.encoder, Frozen), problem.make_task(0), look_at_images)
        step = make_step(network.graph, self.optimizer, seed=0, ema=self.ema, look=look_untrained)
        return learner(self, problem, network, step)


class FineTune:
    """Encoder and head trained together on augmented images.

    Args:
        steps, batch_size: of the training.
        rounds: how often, evenly spaced, the network may be chosen; steps are rounded down to a multiple of it.
        learning_rate: of the head; the encoder's is `encoder_multiplier` times that.
        schedule, milestones, decayed: as of `train.optim.adamw`.
        ema: decay of the average of all weights and batch statistics, which then predicts; 0 keeps none.
    """

    name = "finetune"

    def __init__(
        self,
        *,
        steps: int = 1000,
        rounds: int = 5,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        encoder_multiplier: float = 0.1,
        warmup_steps: int = 50,
        weight_decay: float = 1e-2,
        decayed: str = DECAYED,
        clip_norm: float = 1.0,
        schedule: str = "cosine",
        milestones: tuple[float, ...] = (),
        ema: float = 0.0,
    ):
        require(steps, rounds, ema)
        self.steps, self.rounds, self.batch_size, self.ema = steps // rounds * rounds, rounds, batch_size, ema
        self.optimizer = adamw(
            learning_rate=learning_rate,
            schedule=rates(schedule, warmup_steps, milestones),
            weight_decay=weight_decay,
            decayed=decayed,
            clip_norm=clip_norm,
            multipliers=(("^encoder/", encoder_multiplier),),
            steps=steps,
        ).transform

    def prepare(self, problem: Problem) -> Learn:
        network = Network(problem.encoder, problem.make_task(0), look_at_images)
        step = make_step(network.graph, self.optimizer, seed=0, ema=self.ema)
        return learner(self, problem, network, step)


def rates(name: str, warmup_steps: int, milestones: tuple[float, ...]) -> Spec:
    """The spec of a learning rate's schedule, `cosine` or `steps`."""
    choices = dict(
        cosine=spec(schedules.warmup_cosine, warmup_steps=warmup_steps),
        steps=spec(schedules.warmup_steps_down, warmup_steps=warmup_steps, milestones=milestones),
    )
    return pick("schedule", name, choices)


def by_name(name: str) -> type:
    """The protocol of a name; ValueError where there is none."""
    known = {protocol.name: protocol for protocol in (LinearProbe, FrozenEncoder, FineTune)}
    if name not in known:
        raise ValueError(f"no protocol {name!r}; {nearest(name, known)}")
    return known[name]


def as_farl(name: str, *, steps: int, learning_rate: float, milestones: tuple[float, ...]) -> dict[str, Any]:
    """A protocol's settings as FaRL learns a task with its own head; none for a linear probe, which FaRL has not.

    The encoder's learning rate is 1e-4. FaRL's epochs are of N images at any label fraction, and so a number of steps,
    epochs * N / 40: 136,500 on LaPa, 19,750 on 300W, 75,000 on AFLW-19, 28,200 on WFLW. The rate of the head is 1e-3
    for parsing, a tenth of that after two thirds, and 1e-2 for landmarks, a tenth after 0.8 on 300W alone.
    """
    if name == LinearProbe.name:
        return {}
    settings = FARL | {"steps": steps, "learning_rate": learning_rate, "milestones": milestones}
    return settings | ({"encoder_multiplier": 1e-4 / learning_rate} if name == FineTune.name else {})


def learner(protocol: FrozenEncoder | FineTune, problem: Problem, network: Network, step: Step) -> Learn:
    """What learns from a stream of augmented images."""
    step = jax.jit(step, donate_argnums=0)
    extract = extractor(problem.encoder, problem.make_task(0).taps)
    inputs = dict(validation=problem.validation, test=problem.test)

    def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
        task = problem.make_task(seed)
        wanted = (*task.needs, "position")
        calibrate(task, extract, problem.train, chosen)

        def candidates() -> Iterator[Candidate]:
            state = network.start(task, protocol.optimizer, ema=protocol.ema)
            stream = Stream(
                [Part(Subset(problem.source, chosen.tolist()), problem.transforms)],
                task.needs,
                batch_size=protocol.batch_size,
                seed=seed,
            )
            with closing(stream):
                batches = ({name: x for name, x in batch.items() if name in wanted} for batch in stream)
                for _ in range(protocol.rounds):
                    part = islice(batches, protocol.steps // protocol.rounds)
                    state = advanced(step, state, network.frozen, part)
                    yield candidate(state, protocol.steps)

        return choose(candidates(), problem, held_out, predictor(network, inputs), single=True)

    return learn


def predictor(network: Network, inputs: Mapping[str, Arrays]) -> Callable[..., np.ndarray]:
    """A function (weights, split, rows) -> predictions."""
    return lambda weights, split, rows: network.predict(weights, inputs[split], rows)


def candidate(state: TrainState, steps: int, **settings: float) -> Candidate:
    """The state of a training of so many steps as it would be chosen."""
    return Candidate(weights_of(state), {"step": float(state.step), **settings}, last=int(state.step) == steps)


def calibrate(task: Task, extract: Extractor, data: Arrays, chosen: Indices) -> None:
    """Give a head the statistics of some of the chosen examples, whose features are in `data` or made of its images."""
    data = {name: x for name, x in data.items() if name != "id"}
    bytes_of_one = extract.size(data["image"][:1]) if "image" in data else row_bytes(features_of(data))
    sample = take(data, chosen[: int(max(1, min(CALIBRATION, CALIBRATION_BYTES / bytes_of_one)))])
    features = extract(sample["image"]) if "image" in sample else {}
    task.calibrate(given({**sample, **features}), {name: jnp.asarray(x) for name, x in sample.items()})


def advanced(step: Step, state: TrainState, frozen: Tree, batches: Any) -> TrainState:
    """The state after a step on each of some batches."""
    for batch in batches:
        state, _ = step(state, frozen, batch)
    return state


def gathered(data: Arrays, chosen: Indices, rows: Int[np.ndarray, "steps b"]) -> Iterator[dict[str, np.ndarray]]:
    """Batches of rows of the chosen examples."""
    for batch in rows:
        yield {"position": batch.astype(np.uint32), **{name: x[chosen[batch]] for name, x in data.items()}}


def scan_steps(step: Step) -> Callable[[TrainState, Tree, Batch, Array], TrainState]:
    """Many steps in one compiled call, on batches that are rows of data on the device."""

    @jax.jit
    def advance(state: TrainState, frozen: Tree, data: Batch, rows: Int[Array, "steps b"]) -> TrainState:
        def one(state: TrainState, rows: Int[Array, "b"]) -> tuple[TrainState, None]:
            batch = {name: x[rows] for name, x in data.items()}
            return step(state, frozen, {**batch, "position": rows.astype(jnp.uint32)})[0], None

        return jax.lax.scan(one, state, rows)[0]

    return advance


def batches_of(count: int, batch_size: int, steps: int, seed: int) -> Int[np.ndarray, "steps b"]:
    """Rows of each batch: epochs in random order, one after the other; no batch is larger than an epoch."""
    size = min(batch_size, count)
    rng = np.random.default_rng(seed)
    whole = count // size * size  # rows of an epoch that fill batches
    epochs = [rng.permutation(count)[:whole] for _ in range(math.ceil(steps * size / whole))]
    return np.concatenate(epochs)[: steps * size].reshape(steps, size)


def require(steps: int, rounds: int, ema: float = 0.0) -> None:
    """ValueError where there is less than one step in a round, or an average that never moves."""
    if not 0 < rounds <= steps:
        raise ValueError(f"a protocol has rounds of one step at least, not {rounds} rounds in {steps} steps")
    if not 0 <= ema < 1:
        raise ValueError(f"ema is the decay of an average, at least 0 and below 1, not {ema}")
