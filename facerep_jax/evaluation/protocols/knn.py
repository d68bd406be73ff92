"""k nearest neighbours: labels of test images from the training images that are most alike; nothing is trained."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from facerep_jax.data.arrays import Stack
from facerep_jax.evaluation.cache import extractor, parts_of
from facerep_jax.evaluation.finite import require_finite
from facerep_jax.evaluation.network import seen
from facerep_jax.evaluation.person_metrics import normalised
from facerep_jax.evaluation.problem import Indices, Problem
from facerep_jax.evaluation.protocols import Learn
from facerep_jax.evaluation.selection import Outcome
from facerep_jax.typing import Voted


class KNN:
    """The nearest training images, by the cosine of pooled features, vote on the class or the yes-or-no labels.

    A vote weighs exp(cosine / temperature). An image whose labels are all unknown is no neighbour; a neighbour does not
    vote on a label of its own that is not known. There are no more neighbours than labels.

    Source: Wu et al. (1805.01978), section 3.4, as DINO has it (2104.14294; eval_knn.py), which found 20 neighbours to
    be best.
    Changed: yes-or-no labels are voted on each by itself.

    Args:
        neighbours: how many vote, at least 1.
        temperature: above 0.
    """

    name = "knn"
    trains_encoder, compares = False, False

    def __init__(self, *, neighbours: int = 20, temperature: float = 0.07):
        if neighbours < 1 or not temperature > 0:
            raise ValueError(
                f"k-NN has at least 1 neighbour and a temperature above 0, not neighbours={neighbours}, "
                f"temperature={temperature:g}"
            )
        self.neighbours, self.temperature = neighbours, temperature
        self.explains = (
            f"k-NN: the encoder stays as it is and nothing is trained; the {neighbours} labelled images whose pooled "
            "features have the largest cosine with those of a test image vote on its label, the more alike the more."
        )

    def prepare(self, problem: Problem) -> Learn:
        task = problem.task
        if not isinstance(task, Voted):
            raise ValueError(
                f"protocol=knn is of tasks with classes or yes-or-no labels, and {task.title} has none: choose "
                "protocol=ridge or protocol=linear_probe"
            )
        extract = extractor(problem.encoder, (), problem.devices)
        features = {role: np.asarray(seen(problem, extract, role, taps=())["pooled"]) for role in ("train", "test")}
        for role, x in features.items():
            require_finite(x, problem.splits[role]["id"])
        train, test = (normalised(x).astype(np.float32) for x in features.values())
        labels: Stack = problem.splits["train"][task.label]

        def learn(chosen: Indices, held_out: Indices, seed: int) -> Outcome:
            values, known = (np.asarray(x) for x in task.targets(jnp.asarray(labels[chosen])))
            (rows,) = np.nonzero(known.any(1))
            if not len(rows):
                raise ValueError(f"none of {len(chosen)} training examples has a known label; nobody can vote")
            voters = train[chosen[rows]], values[rows], known[rows]
            found = votes(test, *voters, neighbours=self.neighbours, temperature=self.temperature)
            prediction = np.asarray(task.elected(jnp.asarray(found)))
            return Outcome(prediction, {"neighbours": float(min(self.neighbours, len(rows)))})

        return learn


PROTOCOL = KNN


def votes(
    queries: Float[np.ndarray, "m d"],
    features: Float[np.ndarray, "n d"],
    values: Float[np.ndarray, "n o"],
    known: Bool[np.ndarray, "n o"],
    *,
    neighbours: int,
    temperature: float,
) -> Float[np.ndarray, "m o"]:
    """The weighted mean of the known values of the nearest features; 0 for an output that none of these knows.

    Args:
        queries, features: rows of length one.
    """
    count, given = min(neighbours, len(features)), [jnp.asarray(x) for x in (features, values, known)]
    parts = (polled(jnp.asarray(queries[part]), *given, temperature, count) for part in parts_of(len(queries)))
    return np.concatenate([np.asarray(part) for part in parts])[: len(queries)]


@partial(jax.jit, static_argnames=("temperature", "count"))
def polled(
    queries: Float[Array, "m d"],
    features: Float[Array, "n d"],
    values: Float[Array, "n o"],
    known: Bool[Array, "n o"],
    temperature: float,
    count: int,
) -> Float[Array, "m o"]:
    """`votes` of `count` neighbours."""
    alike = jnp.matmul(queries, features.T, precision=jax.lax.Precision.HIGHEST)
    nearest, place = jax.lax.top_k(alike, count)
    weights = jnp.exp((nearest - nearest[:, :1]) / temperature)[..., None] * known[place]
    return (weights * values[place]).sum(1) / jnp.maximum(weights.sum(1), jnp.finfo(jnp.float32).tiny)
