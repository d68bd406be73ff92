"""Which of several data sets each position of the stream comes from, by weights that may change as training goes on."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int

PERIOD = 1000  # examples within which the weights hold exactly; shares are multiples of a thousandth

Weights = Sequence[tuple[int, Sequence[float | int]]]  # (step that they hold from, a weight for each data set)


class Segment(NamedTuple):
    """A stretch of the stream with one set of weights."""

    start: int  # position
    before: Int[np.ndarray, "sets"]  # examples that all segments before took from each data set
    choice: Int[np.ndarray, "period"]  # the data set of each place in a period
    taken: Int[np.ndarray, "period+1 sets"]  # examples of each that the places before took; last, those of a period


class Mixture:
    """From a position to (data set, index in that data set's own endless stream).

    Every data set's index goes on where the segment before left it, whatever the weights: a new segment at the end
    changes nothing before its start, and skips and repeats no record.

    Args:
        weights: ((0, (w, ...)), (step, (w, ...)), ...), in order of steps; a weight may be 0.
        batch_size: positions in a step.
        seed: of the order within a period.
    """

    def __init__(self, weights: Weights, batch_size: int, *, sets: int, seed: int):
        check(weights, sets)
        self._segments: list[Segment] = []
        rng = np.random.default_rng((seed, sets))
        places = rng.permutation(PERIOD)
        for step, each in weights:
            start = step * batch_size
            before = np.zeros(sets, np.int64) if not self._segments else counted(self._segments[-1], start)
            choice = np.repeat(np.arange(sets), shares(each))[places]
            ones = choice[:, None] == np.arange(sets)
            taken = np.concatenate([np.zeros((1, sets), np.int64), np.cumsum(ones, 0)])
            self._segments.append(Segment(start, before, choice, taken))

    def __getitem__(self, position: int) -> tuple[int, int]:
        segment = next(segment for segment in reversed(self._segments) if segment.start <= position)
        which = int(segment.choice[(position - segment.start) % PERIOD])
        return which, int(counted(segment, position)[which])


def counted(segment: Segment, position: int) -> Int[np.ndarray, "sets"]:
    """Examples of each data set before a position in a segment."""
    periods, place = divmod(position - segment.start, PERIOD)
    return segment.before + periods * segment.taken[-1] + segment.taken[place]


def shares(weights: Sequence[float | int]) -> Int[np.ndarray, "sets"]:
    """How many of a period's examples come from each data set: largest remainders first."""
    exact = PERIOD * np.asarray(weights, np.float64) / sum(weights)
    whole = np.floor(exact).astype(int)
    for index in np.argsort(whole - exact, kind="stable")[: PERIOD - whole.sum()]:
        whole[index] += 1
    return whole


def check(weights: Weights, sets: int) -> None:
    """Checks weights of `sets` data sets.

    Raises:
        ValueError: they are not as `Mixture` needs them.
    """
    steps = [step for step, _ in weights]
    if not steps or steps[0] != 0 or sorted(set(steps)) != steps:
        raise ValueError(f"data.weights holds (step, weights) from step 0 on, in order of steps, not {weights}")
    for step, each in weights:
        if len(each) != sets:
            raise ValueError(f"data.weights at step {step} has {len(each)} weights for {sets} data sets")
        if min(each) < 0 or not 0 < sum(each) < math.inf:
            raise ValueError(f"data.weights at step {step} are not negative and not all 0, not {each}")
