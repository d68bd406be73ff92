"""Chance: numbers one at a time, and smooth random paths through time. All is a function of the seed alone."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from math import inf, sqrt
from typing import TypeVar

import numpy as np

_Number = int | float
_T = TypeVar("_T")

# What a stream of numbers is for, its seed's first number: no two draws share a stream.
PERSON, SESSION, FRAME, PATH, CAPTION, TEXTURE = range(6)


class Dice:
    """Random numbers one at a time, drawn many at a time: a call to a generator costs more than a hundred numbers."""

    def __init__(self, *seed: int):
        rng = np.random.default_rng(seed)
        self._uniforms = _endless(rng.random)
        self._normals = _endless(rng.standard_normal)

    def between(self, low: _Number, high: _Number) -> float:
        return low + (high - low) * next(self._uniforms)

    def within(self, bounds: tuple[float, float]) -> float:
        return self.between(*bounds)

    def normal(self, mean: _Number, deviation: _Number, low: _Number = -inf, high: _Number = inf) -> float:
        return float(min(max(mean + deviation * next(self._normals), low), high))

    def normals(self, deviation: _Number, count: int) -> np.ndarray:
        return deviation * np.array([next(self._normals) for _ in range(count)])

    def happens(self, probability: _Number) -> bool:
        return next(self._uniforms) < probability

    def one_of(self, options: Sequence[_T]) -> _T:
        return options[int(next(self._uniforms) * len(options))]

    def weighted(self, options: Sequence[_T], weights: Iterable[_Number]) -> _T:
        """One of the options; the weights sum to any positive number."""
        bounds = np.cumsum(list(weights))
        return options[int(np.searchsorted(bounds, next(self._uniforms) * bounds[-1], side="right"))]


def _endless(numbers: Callable[[int], np.ndarray]) -> Iterator[float]:
    while True:
        yield from numbers(128).tolist()


class Paths:
    """Independent Gaussian processes of time: mean 0, variance 1, correlation exp(-(lag / correlation)²), smooth.

    Sums of waves with random frequencies (random Fourier features): any time can be asked for without those before it.
    Over many seeds the values are exactly normal and the correlation is exact, however few the waves.
    """

    WAVES = 8

    def __init__(self, count: int, correlation: float, *seed: int):
        rng = np.random.default_rng(seed)
        self._frequency, self._cosine, self._sine = rng.standard_normal((3, count, self.WAVES))
        self._frequency *= sqrt(2) / correlation
        self._cosine *= 1 / sqrt(self.WAVES)
        self._sine *= 1 / sqrt(self.WAVES)

    def at(self, time: _Number) -> list[float]:
        """The values at a time."""
        angle = self._frequency * time
        return (self._cosine * np.cos(angle) + self._sine * np.sin(angle)).sum(1).tolist()
