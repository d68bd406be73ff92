"""How an encoder and a head that learnt on clean images fare on corrupted ones."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float

from facerep_jax.data.arrays import Lazy, Stack
from facerep_jax.evaluation.corruptions import COPIES, STRENGTHS, copies_of
from facerep_jax.evaluation.metrics import rows_of, score
from facerep_jax.evaluation.problem import Arrays, Problem, size, truth_of
from facerep_jax.evaluation.results import Harm
from facerep_jax.evaluation.statistics import difference, resampled, summary
from facerep_jax.typing import Coarse, Metric, Rows

ROWS = 10**12  # more than any data set has records: numbers of copies begin there


def with_copies(problem: Problem, kinds: Sequence[str]) -> Problem:
    """The problem whose test split goes on with its images under each strength of each kind, labels as they were.

    A protocol then learns as before, and predicts all of them. Raises ValueError if it would choose by the test split.
    """
    if problem.selection == "test_best":
        raise ValueError("selection test_best looks at the test split, so it cannot be corrupted; choose another")
    test = problem.splits["test"]
    count, made = size(test), [(kind, strength) for kind in kinds for strength in STRENGTHS]
    places = np.tile(np.arange(count), 1 + len(made))
    numbers = np.repeat([0, *(1 + COPIES.index(copy) for copy in made)], count)
    whole = {name: repeated(name, x, places) for name, x in test.items() if name not in ("image", "row")}
    whole |= {"image": copies_of(test["image"], test["id"], kinds), "row": test["row"][places] + ROWS * numbers}
    return problem._replace(splits={**problem.splits, "test": whole})


def repeated(name: str, x: Any, places: np.ndarray) -> Any:
    """An array over examples for all copies of these; tables stay as they are."""
    if name == "tables":
        return x
    if isinstance(x, Lazy):
        return x.take(places)
    return [x[place] for place in places.tolist()] if name == "id" else np.asarray(x)[places]


def parted(prediction: Stack, count: int) -> list[Stack]:
    """Predictions of clean images, and of each copy of them."""
    if len(prediction) == count:
        return [prediction]
    parts = [np.arange(start, start + count) for start in range(0, len(prediction), count)]
    return [prediction.take(part) if isinstance(prediction, Lazy) else prediction[part] for part in parts]


def harms(
    metric: Metric, clean: Sequence[Rows], copies: Sequence[Sequence[Stack]], test: Arrays, kinds: Sequence[str]
) -> dict[str, list[Harm]]:
    """What each strength of each kind makes of the headline, and by how much it differs from clean images.

    Args:
        clean: the metric's rows of clean images, for each subset of the labels.
        copies: for each subset the predictions of clean images and of each copy.
        test: the clean split.
    """
    truth = truth_of(test)

    def value(rows: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
        return metric.compute(rows, weights)[metric.headline]

    cells = metric.cells if isinstance(metric, Coarse) else None
    drawn = partial(resampled, value=value, units=clean[0].units, resamples=500, cells=cells)
    before = drawn(np.stack([rows.statistics for rows in clean])[None])
    found: dict[str, list[Harm]] = {kind: [] for kind in kinds}
    for number, (kind, strength) in enumerate(((kind, strength) for kind in kinds for strength in STRENGTHS), 1):
        rows = [rows_of(metric, each[number], truth) for each in copies]
        after = drawn(np.stack([each.statistics for each in rows])[None])
        d = difference(before, after, lower_is_better=metric.lower_is_better)
        summed = summary([score(metric, each.statistics)[metric.headline] for each in rows])
        change, low, high = (float(x) if np.isfinite(x) else None for x in (d.difference, d.low, d.high))
        found[kind].append(Harm(strength, summed["mean"], summed["std"], summed["values"], change, low, high))
    return found
