"""How a task is learnt and scored from a few labelled examples.

A protocol is prepared once for a problem, then learns on subsets of the labels: it trains on some training examples,
selects on some validation examples, and predicts all test examples. All training is by `train.step`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, Key

from facerep_jax.config import nearest
from facerep_jax.data.pipeline import Stream, Subset
from facerep_jax.data.transforms import Transform
from facerep_jax.train.optim import adamw
from facerep_jax.train.state import Model, TrainState, merge, split
from facerep_jax.train.step import encode, make_step
from facerep_jax.typing import Batch, Encoder, Features, Metric, Objective, Task, View

ROWS = 128  # that an encoder or a head sees at a time outside of training
CALIBRATION = 1024  # training examples that a head takes its statistics from, at most

Arrays = Mapping[str, Any]  # a split: arrays over examples, on the host


class Problem(NamedTuple):
    """A task on a data set, and an encoder to judge."""

    encoder: Encoder
    make_task: Callable[[int], Task]  # from a seed
    metric: Metric
    train: Arrays
    validation: Arrays
    test: Arrays
    source: Sequence[Any]  # the training records, for protocols that augment
    transforms: tuple[Transform, ...]  # of those


class Outcome(NamedTuple):
    """What came of one subset of the labels."""

    prediction: np.ndarray  # of the test examples
    selected: dict[str, float]  # what was chosen on validation, and its score there


Indices = Int[np.ndarray, "_"]
Learn = Callable[[Indices, Indices, int], Outcome]  # (training examples, validation examples, seed)


class LinearProbe:
    """A head on the frozen encoder: it runs once, its features are kept in bfloat16, and heads train on these.

    Args:
        steps, batch_size: of a head's training.
        rounds: how often, evenly spaced, a head is scored on validation; the best counts.
        learning_rates: each is tried; the best on validation counts.
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
    ):
        self.steps, self.rounds, self.batch_size = steps, rounds, batch_size
        self.learning_rates, self.weight_decay = tuple(learning_rates), weight_decay

    def prepare(self, problem: Problem) -> Learn:
        taps = problem.make_task(0).taps
        train, validation, test = (
            {**cached_features(problem.encoder, data["image"], taps), **labels_of(data)}
            for data in (problem.train, problem.validation, problem.test)
        )
        graph = split(Model(None, problem.make_task(0)))[0]
        predict = jax.jit(predictor(graph, see_cached))
        optimizers = {
            rate: adamw(learning_rate=rate, weight_decay=self.weight_decay, steps=self.steps)
            for rate in self.learning_rates
        }
        advance = {
            rate: scan_steps(make_step(graph, o.transform, seed=0, see=see_cached)) for rate, o in optimizers.items()
        }

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            data = {name: jnp.asarray(x[chosen]) for name, x in train.items()}
            held = take(validation, held_out)
            best = Best(problem.metric)
            for rate, optimizer in optimizers.items():
                task = problem.make_task(seed)
                sample = {name: x[:CALIBRATION] for name, x in data.items()}
                task.calibrate(see_cached(None, task, sample, None), sample)
                _, params, variables, _ = split(Model(None, task))
                state = TrainState(jnp.zeros((), jnp.int32), params, variables, optimizer.transform.init(params), None)
                rows = batches_of(len(chosen), self.batch_size, self.steps // self.rounds * self.rounds, seed)
                for part in np.split(rows, self.rounds):
                    state = advance[rate](state, data, jnp.asarray(part))
                    best.offer(predict_all(predict, state, held), held, state, learning_rate=rate)
            return Outcome(predict_all(predict, best.state, test), best.settings)

        return learn


class FineTune:
    """Encoder and head trained together on augmented images; the step that is best on validation counts.

    Args:
        steps, batch_size: of the training.
        rounds: how often, evenly spaced, the network is scored on validation.
        learning_rate: of the head; the encoder's is `encoder_multiplier` times that.
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
    ):
        self.steps, self.rounds, self.batch_size = steps, rounds, batch_size
        self.optimizer = adamw(
            learning_rate=learning_rate,
            warmup_steps=warmup_steps,
            weight_decay=weight_decay,
            clip_norm=1.0,
            multipliers=(("^encoder/", encoder_multiplier),),
            steps=steps,
        )

    def prepare(self, problem: Problem) -> Learn:
        graph = split(Model(problem.encoder, problem.make_task(0)))[0]
        predict = jax.jit(predictor(graph, see_images))
        step = jax.jit(make_step(graph, self.optimizer.transform, seed=0), donate_argnums=0)

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            task = problem.make_task(seed)
            sample = {name: jnp.asarray(x) for name, x in take(problem.train, chosen[:CALIBRATION]).items()}
            task.calibrate(look_in_parts(problem.encoder, task, sample), sample)
            _, params, variables, _ = split(Model(problem.encoder, task))
            params = jax.tree.map(
                jnp.copy, params
            )  # the step is given its state's memory, and the encoder is used again
            state = TrainState(jnp.zeros((), jnp.int32), params, variables, self.optimizer.transform.init(params), None)
            stream = Stream(
                Subset(problem.source, chosen.tolist()),
                problem.transforms,
                task.needs,
                batch_size=self.batch_size,
                seed=seed,
            )
            held, best = take(problem.validation, held_out), Best(problem.metric)
            batches = iter(stream)
            for _ in range(self.rounds):
                for _ in range(self.steps // self.rounds):
                    batch = {name: x for name, x in next(batches).items() if name in (*task.needs, "position")}
                    state, _ = step(state, {}, batch)
                best.offer(predict_all(predict, state, held), held, state)
            stream.close()
            return Outcome(predict_all(predict, best.state, problem.test), best.settings)

        return learn


def by_name(name: str) -> type:
    """The protocol of a name; ValueError where there is none."""
    known = {protocol.name: protocol for protocol in (LinearProbe, FineTune)}
    if name not in known:
        raise ValueError(f"no protocol {name!r}; {nearest(name, known)}")
    return known[name]


class Best:
    """Keeps the state with the best score on validation."""

    def __init__(self, metric: Metric):
        self.metric = metric
        self.score = np.inf
        self.settings: dict[str, float] = {}

    def offer(self, prediction: np.ndarray, truth: Arrays, state: TrainState, **settings: float) -> None:
        value = self.metric.compute(self.metric.update(self.metric.init(), prediction, truth))[self.metric.headline]
        score = value if self.metric.lower_is_better else -value
        if score < self.score or not self.settings:
            self.score = score
            self.settings = {"validation": value, "step": float(state.step), **settings}
            # On the host, since the next step is given the state's memory.
            self.state = TrainState(
                state.step, jax.device_get(state.params), jax.device_get(state.variables), None, None
            )


def cached_features(encoder: Encoder, images: np.ndarray, taps: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Pooled features and the maps of taps of all images, in bfloat16 on the host."""
    graph, params = nnx.split(encoder)

    @jax.jit
    def run(params: Any, images: Array) -> dict[str, Array]:
        features = nnx.merge(graph, params)(View(images), taps=taps)
        named = {"pooled": features.pooled, **{f"map{i}": x for i, x in enumerate(features.maps)}}
        return {name: x.astype(jnp.bfloat16) for name, x in named.items()}

    parts = [jax.device_get(run(params, rows)) for rows in in_parts(images)]
    return {name: np.concatenate([part[name] for part in parts])[: len(images)] for name in parts[0]}


def see_cached(encoder: Any, task: Objective, batch: Arrays, rng: Key[Array, "b"] | None) -> dict[str, Features]:
    """The features that a batch carries, in place of an encoder's."""
    maps = tuple(jnp.asarray(batch[f"map{i}"], jnp.float32) for i in range(len(task.taps)))
    pooled = jnp.asarray(batch["pooled"], jnp.float32)
    return {"image": Features(pooled=pooled, tokens=pooled[:, None][:, :0], maps=maps)}


def see_images(encoder: Encoder, task: Objective, batch: Batch, rng: Key[Array, "b"] | None) -> dict[str, Features]:
    """The encoder's features without drop-path."""
    return encode(encoder, {"image": View(batch["image"])}, taps=task.taps)


def look_in_parts(encoder: Encoder, task: Task, batch: Batch) -> dict[str, Features]:
    """The encoder's features of many images."""
    return see_cached(None, task, cached_features(encoder, np.asarray(batch["image"]), task.taps), None)


def predictor(graph: Any, see: Callable[..., Mapping[str, Features]]) -> Callable[..., Array]:
    """A pure function (params, variables, batch) -> prediction of the task in a model."""

    def predict(params: Any, variables: Any, batch: Batch) -> Array:
        model = merge(graph, params, variables, {})
        return model.objective.predict(see(model.encoder, model.objective, batch, None), batch)

    return predict


def predict_all(predict: Callable[..., Array], state: TrainState, data: Arrays) -> np.ndarray:
    """Predictions of all examples."""
    inputs = {name: x for name, x in data.items() if name in ("image", "pooled") or name.startswith("map")}
    count = len(next(iter(inputs.values())))
    parts = [dict(zip(inputs, rows, strict=True)) for rows in zip(*map(in_parts, inputs.values()), strict=True)]
    return np.concatenate([np.asarray(predict(state.params, state.variables, part)) for part in parts])[:count]


def scan_steps(step: Callable[..., Any]) -> Callable[[TrainState, Batch, Array], TrainState]:
    """Many steps in one compiled call, on batches that are rows of data on the device."""

    @jax.jit
    def advance(state: TrainState, data: Batch, rows: Int[Array, "steps b"]) -> TrainState:
        def one(state: TrainState, rows: Int[Array, "b"]) -> tuple[TrainState, None]:
            batch = {name: x[rows] for name, x in data.items()}
            return step(state, {}, {**batch, "position": rows.astype(jnp.uint32)})[0], None

        return jax.lax.scan(one, state, rows)[0]

    return advance


def batches_of(count: int, batch_size: int, steps: int, seed: int) -> Int[np.ndarray, "steps b"]:
    """Rows of each batch: epochs in random order, one after the other; no batch is larger than an epoch."""
    size = min(batch_size, count)
    rng = np.random.default_rng(seed)
    epochs = [rng.permutation(count)[: count // size * size] for _ in range(-(-steps * size // (count // size * size)))]
    return np.concatenate(epochs)[: steps * size].reshape(steps, size)


def in_parts(x: np.ndarray) -> list[np.ndarray]:
    """Rows in parts of one size, the last filled up with copies of its last row, so that all compile once."""
    size = min(ROWS, len(x))
    parts = [x[start : start + size] for start in range(0, len(x), size)]
    short = size - len(parts[-1])
    parts[-1] = np.concatenate([parts[-1], np.repeat(parts[-1][-1:], short, axis=0)])
    return parts


def labels_of(data: Arrays) -> Arrays:
    """All arrays of a split but its images and ids."""
    return {name: x for name, x in data.items() if name not in ("id", "image")}


def take(data: Arrays, rows: Indices) -> dict[str, np.ndarray]:
    """Some examples of a split."""
    return {name: x[rows] for name, x in data.items() if name != "id"}
