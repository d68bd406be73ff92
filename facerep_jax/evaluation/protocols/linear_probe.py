"""A linear probe: a head on the frozen encoder, whose features of each image are kept."""

import math
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from facerep_jax.data.arrays import ahead
from facerep_jax.evaluation.cache import extractor, row_bytes
from facerep_jax.evaluation.network import cache_folder_of, probed
from facerep_jax.evaluation.problem import Arrays, Indices, Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Candidate, Outcome, choose
from facerep_jax.evaluation.training import (
    Faults,
    SeededStep,
    advanced,
    calibrate,
    candidate,
    predictor,
    require_rounds,
    seed_argument,
    seeded_step,
)
from facerep_jax.train.optim import adamw
from facerep_jax.train.state import TrainState
from facerep_jax.typing import Batch, Tree


class LinearProbe:
    """A head on the frozen encoder, which sees each image once: its features are kept in bfloat16, on disk.

    If they would be larger than `cache_gigabytes`, the encoder sees the images of every batch anew, and its features
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
    explains = (
        "Linear probe: the encoder stays as it is and sees each image once; only the head learns from the labels. "
        "Regression and PerToken are linear heads."
    )
    trains_encoder = False
    rounds_features = True  # to what is kept of them; `evaluation.learnt` tells it those who predict

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
        require_rounds(steps, rounds)
        if not learning_rates:
            raise ValueError("learning_rates is empty; a probe needs at least one")
        self.steps, self.rounds, self.batch_size = steps // rounds * rounds, rounds, batch_size
        self.cache_gigabytes, self.cache_folder = cache_gigabytes, cache_folder
        self.device_bytes = device_gigabytes * 1e9
        self.optimizers = {
            rate: adamw(learning_rate=rate, weight_decay=weight_decay, steps=steps).transform for rate in learning_rates
        }

    @property
    def compares(self) -> bool:
        return len(self.optimizers) > 1

    def prepare(self, problem: Problem) -> Learn:
        extract = extractor(problem.encoder, problem.task.taps, problem.devices)
        folder = cache_folder_of(problem, self.cache_folder)
        inputs, network = probed(problem, extract, gigabytes=self.cache_gigabytes, folder=folder)
        predict = predictor(network, inputs, folder, problem.splits["test"]["id"])
        steps = {
            rate: seeded_step(network.graph, optimizer, look=network.look)
            for rate, optimizer in self.optimizers.items()
        }
        in_one_call = {rate: scan_steps(step) for rate, step in steps.items()}
        one = {rate: jax.jit(step, donate_argnums=0) for rate, step in steps.items()}

        def candidates(chosen: Indices, seed: int) -> Iterator[Candidate]:
            rows = batches_of(len(chosen), self.batch_size, self.steps, seed)
            resident = len(chosen) * row_bytes(inputs["train"]) <= self.device_bytes
            data = {name: jnp.asarray(x[chosen]) for name, x in inputs["train"].items()} if resident else {}
            for rate, optimizer in self.optimizers.items():
                task = problem.make_task(seed)
                calibrate(task, extract, inputs["train"], chosen)
                outcomes: Array | np.ndarray
                state, faults = network.start(task, optimizer, ema=0.0), Faults()
                for part in np.split(rows, self.rounds):
                    if resident:
                        state, outcomes = in_one_call[rate](
                            state, network.frozen, data, jnp.asarray(part), seed_argument(seed)
                        )
                    else:
                        batches = ahead(gathered(inputs["train"], chosen, part))
                        state, outcomes = advanced(one[rate], state, network.frozen, batches, seed)
                    faults.count(np.asarray(outcomes))
                    yield candidate(state, self.steps, faults, learning_rate=rate)

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            return choose(candidates(chosen, seed), problem, held_out, predict, single=len(self.optimizers) == 1)

        return learn


PROTOCOL = LinearProbe


def gathered(data: Arrays, chosen: Indices, rows: Int[np.ndarray, "steps b"]) -> Iterator[dict[str, np.ndarray]]:
    """Batches of rows of the chosen examples."""
    for batch in rows:
        yield {"position": batch.astype(np.uint32), **{name: x[chosen[batch]] for name, x in data.items()}}


def scan_steps(step: SeededStep) -> Callable[[TrainState, Tree, Batch, Array, Array], tuple[TrainState, Array]]:
    """`advanced` in one compiled call, on batches that are rows of data on the device."""

    @jax.jit
    def advance(
        state: TrainState, frozen: Tree, data: Batch, rows: Int[Array, "steps b"], seed: UInt32[Array, ""]
    ) -> tuple[TrainState, Float[Array, "steps 2"]]:
        def one(state: TrainState, rows: Int[Array, "b"]) -> tuple[TrainState, Float[Array, "2"]]:
            batch = {name: x[rows] for name, x in data.items()}
            state, metrics = step(state, frozen, {**batch, "position": rows.astype(jnp.uint32)}, seed)
            return state, jnp.stack([metrics["loss"], metrics["gradient_norm"]])

        return jax.lax.scan(one, state, rows)

    return advance


def batches_of(count: int, batch_size: int, steps: int, seed: int) -> Int[np.ndarray, "steps b"]:
    """Rows of each batch: epochs in random order, one after the other; no batch is larger than an epoch."""
    size = min(batch_size, count)
    rng = np.random.default_rng(seed)
    whole = count // size * size  # rows of an epoch that fill batches
    epochs = [rng.permutation(count)[:whole] for _ in range(math.ceil(steps * size / whole))]
    return np.concatenate(epochs)[: steps * size].reshape(steps, size)
