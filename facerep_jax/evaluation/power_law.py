"""A power law between the amount of data and an error, with its interval."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import fdtrc, stdtrit

from facerep_jax.evaluation.statistics import LEVEL


class PowerLaw(NamedTuple):
    """error = factor * amount ** -exponent, fitted as a line through logarithms."""

    factor: float
    exponent: float  # above 0 if more data helps
    low: float  # of the exponent's 95 % interval
    high: float
    bends: float | None  # p of Fisher's test of the line: small if no power law fits; None without repeated amounts
    points: int
    centre: float  # mean of the logarithms of the amounts
    spread: float  # sum of squares of these around it
    deviation: float  # of a logarithm around the line

    def at(self, amounts: Sequence[float] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The errors of the line at some amounts, and the ends of its 95 % band."""
        x = np.log(np.asarray(amounts, np.float64))
        line = math.log(self.factor) - self.exponent * x
        error = self.deviation * np.sqrt(1 / self.points + (x - self.centre) ** 2 / self.spread)
        half = stdtrit(self.points - 2, (1 + LEVEL) / 2) * error
        return np.exp(line), np.exp(line - half), np.exp(line + half)


def power_law(amounts: Sequence[float] | np.ndarray, errors: Sequence[float] | np.ndarray) -> PowerLaw | None:
    """The line of least squares through the logarithms of amounts and errors; None if there are no three points.

    The interval is that of Student's t with two degrees of freedom less than points, which it takes to be independent:
    seeds of pre-training are, but for the data that they share where amounts are nested. `bends` compares how far means
    of one amount are from the line with how far repeated points are from their means.

    Source: error against data as a power law, Hestness et al. 2017, arXiv 1712.00409; test of lack of fit: Fisher 1922.
    Changed: no error that stays however much data there is; three or four amounts would not tell it from the slope.

    Raises:
        ValueError: an amount or an error is not above 0, or there are not as many of both.
    """
    x, y = (np.asarray(values, np.float64) for values in (amounts, errors))
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"as many errors as amounts are needed, there are {y.shape} and {x.shape}")
    if not ((x > 0) & (y > 0) & np.isfinite(x) & np.isfinite(y)).all():
        raise ValueError(f"a power law is of numbers above 0, not of amounts {x.tolist()} and errors {y.tolist()}")
    x, y = np.log(x), np.log(y)
    spread = float(((x - x.mean()) ** 2).sum()) if len(x) else 0.0
    if len(x) < 3 or not spread:
        return None
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / spread)
    left = y - y.mean() - slope * (x - x.mean())
    freedom = len(x) - 2
    deviation = math.sqrt(float((left**2).sum()) / freedom)
    half = float(stdtrit(freedom, (1 + LEVEL) / 2)) * deviation / math.sqrt(spread)
    factor = math.exp(float(y.mean() - slope * x.mean()))
    bends = lack_of_fit(x, left)
    return PowerLaw(factor, -slope, -slope - half, -slope + half, bends, len(x), float(x.mean()), spread, deviation)


def lack_of_fit(x: Float[np.ndarray, "n"], left: Float[np.ndarray, "n"]) -> float | None:
    """The p of Fisher's test whether means of equal x are off a line by more than repeated points are off them.

    Args:
        left: what the line leaves of each point.
    """
    different, place = np.unique(x, return_inverse=True)
    means = np.bincount(place, left) / np.bincount(place)
    pure = float(((left - means[place]) ** 2).sum())
    of_means, of_points = len(different) - 2, len(x) - len(different)
    if of_means < 1 or of_points < 1 or not pure > 0:
        return None
    lack = float((np.bincount(place) * means**2).sum())
    return float(fdtrc(of_means, of_points, lack / of_means / (pure / of_points)))
