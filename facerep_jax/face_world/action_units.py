"""Facial action units: how they move a head, and which expression, valence and arousal they amount to.

Action units are those of the Facial Action Coding System (FACS; Ekman and Friesen 1978), intensities from 0 (absent)
to 5 (maximal), and act on both sides of the face alike. The list holds the twelve of DISFA and AU43. `WEIGHTS` and
`PROTOTYPES` are plain choices that follow the descriptions of FACS; they are not fitted to people.
"""

from collections.abc import Sequence
from math import sqrt, tanh

ACTION_UNITS = ("AU1", "AU2", "AU4", "AU5", "AU6", "AU9", "AU12", "AU15", "AU17", "AU20", "AU25", "AU26", "AU43")
STRONGEST = 5.0
Units = tuple[float, ...]  # one intensity, 0 to 5, for each of ACTION_UNITS

# How strongly each unit takes part in an expression, 0 to 1.
PROTOTYPES: dict[str, dict[str, float]] = {
    "neutral": {},
    "happiness": {"AU6": 0.7, "AU12": 0.9, "AU25": 0.5},
    "sadness": {"AU1": 0.8, "AU4": 0.5, "AU15": 0.9, "AU17": 0.4},
    "surprise": {"AU1": 0.8, "AU2": 0.9, "AU5": 0.7, "AU25": 0.8, "AU26": 0.9},
    "fear": {"AU1": 0.8, "AU2": 0.4, "AU4": 0.6, "AU5": 0.9, "AU20": 0.9, "AU25": 0.6},
    "disgust": {"AU4": 0.3, "AU9": 1.0, "AU15": 0.4, "AU17": 0.7},
    "anger": {"AU4": 1.0, "AU5": 0.7, "AU17": 0.5, "AU25": 0.2},
}
EXPRESSIONS = tuple(PROTOTYPES)
NEUTRAL_BELOW = 1.5  # intensity that the best match must reach, otherwise the expression is neutral

WEIGHTS: dict[str, tuple[float, float]] = {  # unit -> what it adds to valence and arousal at intensity 5
    "AU1": (-0.2, 0.2),
    "AU2": (0.0, 0.4),
    "AU4": (-0.6, 0.3),
    "AU5": (-0.1, 0.6),
    "AU6": (0.5, 0.2),
    "AU9": (-0.9, 0.3),
    "AU12": (1.1, 0.3),
    "AU15": (-0.9, -0.3),
    "AU17": (-0.3, 0.1),
    "AU20": (-0.5, 0.5),
    "AU25": (0.0, 0.2),
    "AU26": (0.1, 0.5),
    "AU43": (0.0, -0.9),
}
_PROTOTYPES = [[prototype.get(unit, 0.0) for unit in ACTION_UNITS] for prototype in PROTOTYPES.values()]


def displacements(units: Units) -> dict[str, float]:
    """Return how far the units move a head, keyed by the names of fields of `Head`; all are zero if no unit acts.

    Lengths are in head units; `lids_shut` is a share.
    """
    au = dict(zip(ACTION_UNITS, (unit / STRONGEST for unit in units), strict=True))
    return {
        "brow_inner": 0.08 * au["AU1"] - 0.045 * au["AU4"] - 0.01 * au["AU9"],
        "brow_outer": 0.08 * au["AU2"] - 0.03 * au["AU4"],
        "brow_knit": 0.04 * au["AU4"],
        "lid_raise": 0.4 * au["AU5"],
        "lids_shut": au["AU43"],
        "cheek_raise": 0.045 * au["AU6"],
        "nose_wrinkle": 0.035 * au["AU9"],
        "corner_lift": 0.12 * au["AU12"] - 0.11 * au["AU15"] - 0.02 * au["AU20"],
        "mouth_stretch": 0.055 * au["AU12"] + 0.06 * au["AU20"] - 0.015 * au["AU26"] * au["AU25"],
        # A dropped jaw (AU26) opens the mouth only if the lips part (AU25); alone it moves the chin behind closed lips.
        "lips_apart": au["AU25"] * (0.065 + 0.12 * au["AU26"]),
        "jaw_drop": 0.13 * au["AU26"],
        "chin_raise": 0.035 * au["AU17"],
    }


def expression(units: Units) -> int:
    """Return the index in `EXPRESSIONS` of the expression that matches best, or of neutral.

    How well an expression matches is the length of the projection of `units` onto its prototype. The best match counts
    if it reaches `NEUTRAL_BELOW` and exceeds half the length of `units` without AU43; otherwise neutral is returned.
    """
    length = sqrt(sum(unit * unit for unit in units[:-1])) or 1.0  # closed eyes (AU43, the last) are no expression
    matches = [_along(prototype, units) for prototype in _PROTOTYPES]
    best = max(range(len(matches)), key=matches.__getitem__)
    return best if matches[best] >= NEUTRAL_BELOW and matches[best] > 0.5 * length else 0


def _along(prototype: Sequence[float], units: Units) -> float:
    """Return the length of the projection of the units onto a prototype; 0 for the prototype of neutral."""
    length = sqrt(sum(share * share for share in prototype))
    return sum(share * unit for share, unit in zip(prototype, units, strict=True)) / length if length else 0.0


def valence(units: Units) -> float:
    """Return how pleasant the units look, -1 to 1: the hyperbolic tangent of their weighted sum."""
    return _weighted(units, 0)


def arousal(units: Units) -> float:
    """Return how excited the units look, -1 to 1: the hyperbolic tangent of their weighted sum."""
    return _weighted(units, 1)


def _weighted(units: Units, column: int) -> float:
    """Return the tanh of the sum of the units, weighted by a column of `WEIGHTS`."""
    weights = (WEIGHTS[unit][column] for unit in ACTION_UNITS)
    return tanh(sum(weight * unit / STRONGEST for weight, unit in zip(weights, units, strict=True)))
