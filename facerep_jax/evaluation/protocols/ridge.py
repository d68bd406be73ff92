"""Ridge regression: a linear head on the frozen encoder, in closed form."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from facerep_jax.evaluation.cache import extractor, kept_in, parts_of, require_space
from facerep_jax.evaluation.network import Network, Weights, cache_folder_of, inputs_of, probed
from facerep_jax.evaluation.problem import Arrays, Indices, Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Candidate, Outcome, choose
from facerep_jax.evaluation.training import calibrate, predictor
from facerep_jax.train.state import merge
from facerep_jax.typing import Batch, ClosedForm, Equations, Headed, Task, Tree

Solution = Callable[[float], tuple[Float[np.ndarray, "p o"], Float[np.ndarray, "o"]]]  # penalty -> kernel and bias

PENALTIES = (1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1)
BLOCK_BYTES = 2**28  # of designs that are multiplied at a time where each example has a row of a matrix


class Ridge:
    """A linear head on the frozen encoder: the weights of least squares with a penalty on their squares.

    With designs x and targets y of weights w, the kernel W and the bias b make Σ w |y - b - x W|² + p t |W|² smallest,
    where p is a penalty and t = Σ w |x - mean x|². So a penalty means the same for every encoder, head and number of
    labels. The encoder sees each image once, as in a linear probe, and the time goes with the cube of the number of
    features or of rows of the training examples, whichever is smaller.

    Args:
        penalties: each is tried; above 0.
        cache_gigabytes: of disk that features of all splits may take; if they would be larger, the encoder sees images
            anew for each penalty.
        cache_folder: where they lie, in files without a name; by default beside the result.
    """

    name = "ridge"
    explains = (
        "Ridge: the encoder stays as it is and sees each image once; the linear head is solved for in closed form, by "
        "least squares with a penalty on its weights."
    )
    trains_encoder = False
    rounds_features = True  # to what is kept of them; `evaluation.learnt` tells it those who predict

    def __init__(
        self, *, penalties: tuple[float, ...] = PENALTIES, cache_gigabytes: float = 20.0, cache_folder: str = ""
    ):
        if not penalties or min(penalties) <= 0:
            raise ValueError(f"penalties are above 0, and there is at least one, not {tuple(penalties)}")
        self.penalties, self.cache_gigabytes, self.cache_folder = tuple(penalties), cache_gigabytes, cache_folder

    @property
    def compares(self) -> bool:
        return len(self.penalties) > 1

    def prepare(self, problem: Problem) -> Learn:
        head_of(problem.task)
        folder = cache_folder_of(problem, self.cache_folder)
        extract = extractor(problem.encoder, problem.task.taps, problem.devices)
        inputs, network = probed(problem, extract, gigabytes=self.cache_gigabytes, folder=folder)
        predict, equations = predictor(network, inputs, folder, problem.splits["test"]["id"]), equations_of(network)

        def candidates(chosen: Indices, seed: int) -> Iterator[Candidate]:
            task = problem.make_task(seed)
            calibrate(task, extract, inputs["train"], chosen)
            weights, linear = network.weights(task), head_of(task).linear
            batch = batch_of(inputs["train"], task, chosen[:1])
            one = jax.eval_shape(equations, weights, network.frozen, batch)
            rows, features = len(chosen) * one.designs.shape[1], one.designs.shape[2]
            found = systems(lambda batch: equations(weights, network.frozen, batch), inputs["train"], task, chosen)
            solution = by_rows(found, rows, features, folder) if rows <= features else by_features(found)
            for penalty in self.penalties:
                kernel, bias = solution(penalty)
                linear.kernel.set_value(jnp.asarray(kernel, jnp.float32))
                linear.bias.set_value(jnp.asarray(bias, jnp.float32))
                yield Candidate(network.weights(task), {"penalty": penalty}, last=True)

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            return choose(candidates(chosen, seed), problem, held_out, predict, single=not self.compares)

        return learn


PROTOCOL = Ridge


def head_of(task: Task) -> ClosedForm:
    """The head of a task; ValueError if it has none in closed form."""
    head = task.head if isinstance(task, Headed) else None
    if isinstance(head, ClosedForm):
        return head
    what = type(task if head is None else head).__name__
    raise ValueError(
        f"protocol=ridge solves for a linear head, such as Regression or PerToken, and {what} is none: choose "
        "head=linear where the task has a closed form, or a protocol that descends a gradient, such as "
        "protocol=linear_probe"
    )


class System(NamedTuple):
    """Rows of a least-squares problem."""

    designs: Float[np.ndarray, "n p"]
    targets: Float[np.ndarray, "n o"]
    weights: Float[np.ndarray, "n o"]


def equations_of(network: Network) -> jax.stages.Wrapped:
    """A compiled function (weights, frozen, batch) -> what the head's linear layer reads, and what it should give."""

    def equations(weights: Weights, frozen: Tree, batch: Batch) -> Equations:
        model = merge(network.graph, weights.params, weights.variables, frozen)
        task: Any = model.objective
        _, seen = network.look(model.encoder, task, batch, None)
        return task.head.equations(seen["image"].at(task.taps), batch[task.label])

    return jax.jit(equations)


def batch_of(data: Arrays, task: Task, rows: Indices) -> dict[str, np.ndarray]:
    """Inputs and labels of some examples."""
    return {name: x[rows] for name, x in {**inputs_of(data), task.label: data[task.label]}.items()}


def systems(
    equations: Callable[[Mapping[str, np.ndarray]], Equations], data: Arrays, task: Task, chosen: Indices
) -> Iterator[System]:
    """The rows of the chosen examples, of a part of them at a time."""
    for part in parts_of(len(chosen)):
        found = equations(batch_of(data, task, chosen[part]))
        there = len(chosen) - part[0]  # the last part is filled up
        yield System(*(np.asarray(x)[:there].reshape(-1, x.shape[-1]) for x in found))


def by_features(systems: Iterable[System]) -> Solution:
    """The solution from sums over rows of the products of two features, in memory that does not grow with the rows.

    Designs are counted from the mean of the first part, so that products in float32 lose nothing where the mean is
    large; their sums are of float64.
    """
    shift, moments = np.zeros(0), np.zeros((1, 0))
    groups: list[tuple[np.ndarray, np.ndarray]] = []
    for x, y, w in systems:
        if not groups:
            shift, moments = x.mean(0), np.zeros((x.shape[1] + 1, y.shape[1]))
            groups = [(np.arange(y.shape[1]), np.zeros(()))]
        z = np.append(x - shift[None], np.ones((len(x), 1), x.dtype), axis=1)
        groups = [(of, gram + product(z, z * w[:, of[:1]])) for of, gram in alike(groups, w)]
        moments = moments + product(z, w * y)

    fits = []
    for of, gram in groups:
        total = max(gram[-1, -1], np.finfo(float).tiny)
        mean, mean_target = gram[-1, :-1] / total, moments[-1, of] / total
        right = moments[:-1, of] - total * np.outer(mean, mean_target)
        fit = ridge(gram[:-1, :-1] - total * np.outer(mean, mean), right, scale=np.trace(gram[:-1, :-1]))
        fits.append((of, fit, mean + shift, mean_target))

    def solution(penalty: float) -> tuple[np.ndarray, np.ndarray]:
        kernel, bias = np.zeros((len(shift), moments.shape[1])), np.zeros(moments.shape[1])
        for of, fit, mean, mean_target in fits:
            kernel[:, of] = fit(penalty)
            bias[of] = mean_target - mean @ kernel[:, of]
        return kernel, bias

    return solution


def by_rows(systems: Iterable[System], rows: int, features: int, folder: Path) -> Solution:
    """The solution from the products of two rows, the kernel form, where there are at least as many features as rows.

    Designs lie in a file without a name in the folder.
    """
    require_space(folder, 4 * rows * features)
    known: list[tuple[np.ndarray, np.ndarray]] = []

    def designs() -> Iterator[dict[str, np.ndarray]]:
        for x, y, w in systems:
            known.append((y, w))
            yield {"designs": x}

    x = kept_in(folder, designs(), rows)["designs"]
    targets, weights = (np.concatenate(of).astype(np.float64) for of in zip(*known, strict=True))
    blocks = np.array_split(np.arange(rows), math.ceil(2 * x.nbytes / BLOCK_BYTES))
    products = np.zeros((rows, rows))
    for index, a in enumerate(blocks):
        for b in blocks[: index + 1]:
            products[np.ix_(a, b)] = x[a].astype(np.float64) @ x[b].T
            products[np.ix_(b, a)] = products[np.ix_(a, b)].T

    fits = []
    for of, _ in alike([(np.arange(targets.shape[1]), np.zeros(()))], weights):
        (there,) = np.nonzero(weights[:, of[0]])
        root, share = np.sqrt(weights[there, of[0]]), weights[there, of[0]] / weights[:, of[0]].sum()
        between = products[np.ix_(there, there)]
        mean, mean_target = between @ share, share @ targets[np.ix_(there, of)]
        centred = between - mean[:, None] - mean[None] + share @ mean
        right = root[:, None] * (targets[np.ix_(there, of)] - mean_target[None])
        fit = ridge(root[:, None] * centred * root[None], right, scale=np.trace(products))
        fits.append((of, there, fit, root, share, mean, mean_target))

    def solution(penalty: float) -> tuple[np.ndarray, np.ndarray]:
        factors, bias = np.zeros(targets.shape), np.zeros(targets.shape[1])
        for of, there, fit, root, share, mean, mean_target in fits:
            own = root[:, None] * fit(penalty)
            own -= share[:, None] * own.sum(0)[None]
            factors[np.ix_(there, of)], bias[of] = own, mean_target - mean @ own
        return sum((x[block].T.astype(np.float64) @ factors[block] for block in blocks), np.zeros(())), bias

    return solution


@jax.jit
def summed(a: Float[Array, "n p"], b: Float[Array, "n q"]) -> Float[Array, "p q"]:
    """Products of the columns of two matrices, without the short cuts that accelerators take."""
    return jnp.matmul(a.T, b, precision=jax.lax.Precision.HIGHEST)


def product(a: np.ndarray, b: np.ndarray) -> Float[np.ndarray, "p q"]:
    """`summed` on the host in float64."""
    return np.asarray(summed(a, b), np.float64)


def alike(
    groups: Iterable[tuple[np.ndarray, np.ndarray]], weights: Float[np.ndarray, "n o"]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Groups of outputs, divided where their weights differ; each keeps what it had before."""
    for of, before in groups:
        while len(of):
            same = (weights[:, of] == weights[:, of[:1]]).all(0)
            yield of[same], before
            of = of[~same]


def ridge(
    matrix: Float[np.ndarray, "n n"], right: Float[np.ndarray, "n o"], scale: float
) -> Callable[[float], Float[np.ndarray, "n o"]]:
    """The solution of (matrix + penalty * trace) x = right for any penalty, from one decomposition.

    It is 0 where the trace is nothing but what rounding leaves of sums as large as `scale`: all designs are alike.
    """
    trace = np.trace(matrix)
    if trace <= 1e-12 * scale:
        return lambda penalty: np.zeros_like(right)
    values, vectors = np.linalg.eigh(matrix)
    turned = vectors.T @ right
    return lambda penalty: vectors @ (turned / (values.clip(0) + penalty * trace)[:, None])
