"""Under which conditions test examples were taken, and whom they show: what breaks a result down into groups.

An axis is one thing that records tell: how far a head is turned, how much of the face is covered, a skin tone, whether
an attribute holds. It has groups, such as angles from 30 to 60 degrees. An example whose value is not known is in none.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float

from facerep_jax.data.features import NAMES
from facerep_jax.data.library import Dataset
from facerep_jax.data.pose import angles_of
from facerep_jax.data.transforms import Example
from facerep_jax.evaluation.problem import CONDITIONS
from facerep_jax.suggestions import nearest

THIRDS = ("lowest third", "middle third", "highest third")


class Axis(NamedTuple):
    """One thing that records tell."""

    name: str
    groups: tuple[str, ...]  # their names in order
    edges: tuple[float, ...]  # a group is below its edge, from the one before on; none: thirds of the test examples
    reads: tuple[str, ...]  # features
    value: Callable[[Mapping[str, Any]], float]  # of a record; NaN if it is not known

    def members(self, values: Float[np.ndarray, "n"]) -> Bool[np.ndarray, "k n"]:
        """Which group each value is in."""
        known = np.isfinite(values)
        edges = self.edges
        if not edges and known.any():
            edges = tuple(np.quantile(values[known], (1 / 3, 2 / 3)).tolist())
        return (np.digitize(values, edges)[None] == np.arange(len(self.groups))[:, None]) & known[None]


def number(name: str) -> Callable[[Mapping[str, Any]], float]:
    """A function that takes a number from a record."""
    return lambda record: float(record[name])


def yaw(record: Mapping[str, Any]) -> float:
    """How far a head is turned to either side, in degrees: as the set's own protocol counts it, if it does."""
    if "abs_yaw_deg" in record:
        return float(record["abs_yaw_deg"])
    if "head_pose" in record:
        return abs(float(record["head_pose"][0]))
    return abs(float(angles_of(record["camera"])[0]))


def hidden(record: Mapping[str, Any]) -> float:
    """The share of landmarks that are known not to be seen."""
    seen = np.asarray(record["visible"])
    known = seen >= 0
    return float((seen[known] == 0).mean()) if known.any() else np.nan


def face_size(record: Mapping[str, Any]) -> float:
    """The shorter side of a face's box, in pixels of the image."""
    x0, y0, x1, y1 = map(float, record["bbox"])
    return min(x1 - x0, y1 - y0)


# Yaw: the bins of 3DDFA's AFLW2000-3D protocol. Skin tone: Chardon et al. 1991, by the individual typology angle. The
# others are ours: round numbers.
KNOWN = (
    Axis(
        "yaw",
        ("0 to 30°", "30 to 60°", "60 to 90°", "beyond 90°"),
        (30.0, 60.0, 90.0),
        ("abs_yaw_deg", "head_pose", "camera"),
        yaw,
    ),
    Axis("occlusion", ("none", "below 30%", "from 30%"), (1e-6, 0.3), ("occlusion",), number("occlusion")),
    Axis("hidden landmarks", ("below 10%", "10 to 30%", "from 30%"), (0.1, 0.3), ("visible",), hidden),
    Axis("blur", ("sharp", "blurred"), (1e-6,), ("blur",), number("blur")),
    Axis(
        "skin tone",
        ("dark", "brown", "tan", "intermediate", "light", "very light"),
        (-30.0, 10.0, 28.0, 41.0, 55.0),
        ("skin_tone",),
        number("skin_tone"),
    ),
    Axis(
        "age",
        ("below 18", "18 to 29", "30 to 44", "45 to 59", "60 and over"),
        (18.0, 30.0, 45.0, 60.0),
        ("age",),
        number("age"),
    ),
    Axis(
        "face size",
        ("below 32 px", "32 to 63 px", "64 to 127 px", "from 128 px"),
        (32.0, 64.0, 128.0),
        ("bbox",),
        face_size,
    ),
)


def axes_of(dataset: Dataset, wanted: Collection[str] | None = None) -> tuple[Axis, ...]:
    """The axes that a data set's records tell.

    Beside `KNOWN` they are expressions, each attribute, and numbers of the data set's own, in thirds.

    Args:
        wanted: names of some of them; "attributes" stands for all attributes. None for all.

    Raises:
        ValueError: there is none of a name.
    """
    found = [axis for axis in KNOWN if {*axis.reads} & {*dataset.features}]
    if "expression" in dataset.features and dataset.meta.get("expressions"):
        found.append(of_classes("expression", dataset.meta["expressions"]))
    attributes = [of_attribute(name, place) for place, name in enumerate(dataset.meta.get("attributes", ()))]
    found += attributes if "attributes" in dataset.features else []
    found += [of_thirds(name) for name in own_numbers(dataset)]
    if wanted is None:
        return tuple(found)
    some = {name: [axis] for axis in reversed(found) for name in [axis.name]}
    some |= {"attributes": attributes} if attributes else {}
    for name in wanted:
        if name not in some:
            raise ValueError(f"the records of {dataset.name!r} tell of no group {name!r}; {nearest(name, [*some])}")
    return tuple(dict.fromkeys(axis for name in wanted for axis in some[name]))


def of_classes(name: str, classes: Sequence[str]) -> Axis:
    """An axis of a number that is an index of a class, below 0 if it is not known."""

    def value(record: Mapping[str, Any]) -> float:
        return float(record[name]) if record[name] >= 0 else np.nan

    return Axis(name, tuple(classes), tuple(i + 0.5 for i in range(len(classes) - 1)), (name,), value)


def of_attribute(name: str, place: int) -> Axis:
    """An axis of an attribute: above 0.5 is a yes, from 0 on a no."""

    def value(record: Mapping[str, Any]) -> float:
        found = float(record["attributes"][place])
        return found if found >= 0 else np.nan

    return Axis(name.replace("_", " "), ("no", "yes"), (np.nextafter(0.5, 1).item(),), ("attributes",), value)


def of_thirds(name: str) -> Axis:
    """An axis of a number that nothing is known of."""
    return Axis(name.replace("_", " "), THIRDS, (), (name,), number(name))


def own_numbers(dataset: Dataset) -> list[str]:
    """Features of one real number that are the data set's own, and that no axis of `KNOWN` reads."""
    read = {name for axis in KNOWN for name in axis.reads}
    own = [name for name in dataset.features if name not in NAMES and name not in read]
    if not own:
        return []
    record = dataset.source(next(iter(dataset.splits)))[0]
    return [
        name
        for name in own
        if np.ndim(record[name]) == 0 and np.issubdtype(np.asarray(record[name]).dtype, np.floating)
    ]


class Conditions:
    """A transform: CONDITIONS, the value of each axis of a record. It stands before all that moves a face."""

    def __init__(self, axes: Sequence[Axis]):
        self.axes = tuple(axes)
        self.names = tuple(axis.name for axis in axes)
        self.reads: tuple[str, ...] | None = tuple({name: None for axis in axes for name in axis.reads})

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        values = [axis.value(example) for axis in self.axes]
        return {**example, CONDITIONS: np.array(values, np.float32)}
