"""Random numbers one at a time, and smooth random paths through time; both depend on their seed alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, sqrt
from typing import TypeVar

import numpy as np
from jaxtyping import Float

_Number = int | float
_T = TypeVar("_T")

# The purpose of a stream of numbers, which is the first number of its seed: no two purposes share a stream.
PERSON, SESSION, FRAME, PATH, CAPTION, TEXTURE = range(6)


class Dice:
    """Samples random numbers one at a time.

    The numbers are fetched from NumPy in blocks, because one call of a generator costs more than a hundred numbers.
    """

    def __init__(self, *seed: int):
        rng = np.random.default_rng(seed)
        self._uniforms = _endless(rng.random)
        self._normals = _endless(rng.standard_normal)

    def between(self, low: _Number, high: _Number) -> float:
        """Sample uniformly from low <= number < high."""
        return low + (high - low) * next(self._uniforms)

    def within(self, bounds: tuple[float, float]) -> float:
        """Sample uniformly from (low, high)."""
        return self.between(*bounds)

    def normal(self, mean: _Number, deviation: _Number, low: _Number = -inf, high: _Number = inf) -> float:
        """Sample a normal distribution; what falls outside of low and high is moved onto them."""
        return float(min(max(mean + deviation * next(self._normals), low), high))

    def normals(self, deviation: _Number, count: int) -> Float[np.ndarray, "{count}"]:
        """Sample independent normal numbers of mean 0."""
        return deviation * np.array([next(self._normals) for _ in range(count)])

    def happens(self, probability: _Number) -> bool:
        """Sample whether an event of this probability happens."""
        return next(self._uniforms) < probability

    def one_of(self, options: Sequence[_T]) -> _T:
        """Pick one of the options, all equally likely."""
        return options[int(next(self._uniforms) * len(options))]

    def weighted(self, options: Sequence[_T], weights: Iterable[_Number]) -> _T:
        """Pick one of the options with probabilities proportional to the weights."""
        bounds = np.cumsum(list(weights))
        return options[int(np.searchsorted(bounds, next(self._uniforms) * bounds[-1], side="right"))]


def _endless(numbers: Callable[[int], Float[np.ndarray, "n"]]) -> Iterator[float]:
    """Yield numbers without end, fetched 128 at a time."""
    while True:
        yield from numbers(128).tolist()


class Paths:
    """Smooth, independent Gaussian processes of time with mean 0, variance 1 and correlation exp(-(lag / c)²).

    Each path is a sum of waves with random frequencies, so that its value at any time is found without the values
    before. Over many seeds the values are exactly normal and the correlation is exact, even with few waves.

    Source: random Fourier features (Rahimi and Recht 2007).
    """

    WAVES = 8

    def __init__(self, count: int, correlation: float, *seed: int):
        """Sample `count` paths whose values at a lag of `correlation` (c above) correlate by 1 / e."""
        rng = np.random.default_rng(seed)
        self._frequency, self._cosine, self._sine = rng.standard_normal((3, count, self.WAVES))
        # The Fourier transform of exp(-(lag / c)²) is a normal density of frequencies with deviation sqrt(2) / c.
        self._frequency *= sqrt(2) / correlation
        self._cosine *= 1 / sqrt(self.WAVES)
        self._sine *= 1 / sqrt(self.WAVES)

    def at(self, time: _Number) -> list[float]:
        """Return the value of each path at a time."""
        angle = self._frequency * time
        return (self._cosine * np.cos(angle) + self._sine * np.sin(angle)).sum(1).tolist()
