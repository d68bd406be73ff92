"""A result by groups of test examples: which of them an encoder serves worst, and how certain that is."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from facerep_jax.evaluation.conditions import Axis
from facerep_jax.evaluation.metrics import score
from facerep_jax.evaluation.problem import CONDITIONS
from facerep_jax.evaluation.results import Breakdown, Group
from facerep_jax.evaluation.statistics import LEVEL, drawn_by, interval, resampled_parts
from facerep_jax.typing import Metric, Rows

FEW = 10  # independent units below which a group says nothing


def broken_down(metric: Metric, subsets: Sequence[Rows], split: Mapping[str, Any], axes: Sequence[Axis]) -> Breakdown:
    """The headline of each group, and by how much it differs from that of the other groups of its axis.

    Whole units are drawn for intervals, as persons are where they are known. A row of two images, such as a pair, is in
    a group if both are. Groups of fewer than `FEW` units have a value, but no interval, and are not called the worst.
    The worst of many groups is bad by chance too: it is `decided` if its difference from the others is, at a level that
    is divided by the number of groups (Bonferroni).

    Args:
        subsets: the metric's rows for each subset of the labels.
        split: the test split, with CONDITIONS.
    """
    if not axes or CONDITIONS not in split:
        return Breakdown(note="the records tell of no groups")
    first = subsets[0]
    places = examples_of(first.ids, split["id"])
    if places is None:
        return Breakdown(note=f"each {metric.unit} is of several images, which are not told: there are no groups of it")
    values = np.asarray(split[CONDITIONS], np.float64)
    named, parts, others = list[tuple[str, str]](), list[np.ndarray](), list[np.ndarray]()
    for axis, column in zip(axes, values.T, strict=True):
        members: np.ndarray = np.asarray(axis.members(column)[:, places].all(axis=2))
        whole = members.any(0)
        for name, rows in zip(axis.groups, members, strict=True):
            if rows.any() and (rest := whole & ~rows).any():  # a group that is all there is has no rival
                named.append((axis.name, name))
                parts.append(rows)
                others.append(rest)
    if not named:
        return Breakdown(note="all test examples are in one group")
    statistics = np.stack([rows.statistics for rows in subsets])
    found = grouped(metric, statistics, named, parts, others, first.units)
    large = [group for group in found if group.enough and group.value is not None]
    sign = 1 if metric.lower_is_better else -1
    worst = max(large, key=lambda group: sign * (group.value or 0.0), default=None)
    decided = worst is not None and worst.decided
    small = tuple(group.title for group in found if not group.enough)
    return Breakdown(tuple(found), worst.title if worst else "", decided, small)


def examples_of(ids: Sequence[str], known: Sequence[str]) -> Int[np.ndarray, "n k"] | None:
    """The one or two examples that each row is of; None if they cannot be told from its id."""
    place = {name: row for row, name in enumerate(known)}
    found = []
    for name in ids:
        if name in place:
            found.append((place[name], place[name]))
            continue
        words = name.split(" ")
        halves = ((" ".join(words[:k]), " ".join(words[k:])) for k in range(1, len(words)))
        pair = next((half for half in halves if half[0] in place and half[1] in place), None)
        if pair is None:
            return None
        found.append((place[pair[0]], place[pair[1]]))
    return np.array(found, int).reshape(-1, 2)


def grouped(
    metric: Metric,
    statistics: Float[np.ndarray, "subsets n s"],
    named: Sequence[tuple[str, str]],
    parts: Sequence[Bool[np.ndarray, "n"]],
    others: Sequence[Bool[np.ndarray, "n"]],
    units: Sequence[str],
) -> list[Group]:
    """Values, differences and intervals of groups (axis, name); `others` are the rows that each is compared with.

    Two groups of one axis are each the others of the other, so that no set of rows is drawn twice; sets that are too
    small are not drawn at all.
    """

    def value(rows: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]) -> Float[np.ndarray, "r"]:
        return metric.compute(rows, weights)[metric.headline]

    by = drawn_by(units)
    different = {rows.tobytes(): rows for rows in (*parts, *others)}
    count = {key: by.of(rows) for key, rows in different.items()}
    large = [key for key in different if count[key] >= FEW]
    drawn = resampled_parts(statistics, value, [different[key] for key in large], units=units) if large else None
    place = {key: number for number, key in enumerate(large)}
    apart = 1 - (1 - LEVEL) / max(sum(count[rows.tobytes()] >= FEW for rows in parts), 1)

    scored = {
        key: [score(metric, each) for each in statistics[:, rows]] for key, rows in different.items()
    }  # on each subset of the labels

    def one(axis: str, name: str, here: bytes, there: bytes) -> Group:
        own, rest = (np.array([values[metric.headline] for values in scored[key]]) for key in (here, there))
        low = high = gap_low = gap_high = None
        decided = False
        if drawn is not None and here in place:
            low, high = interval(own, drawn.draws[place[here]], count[here])
            if there in place:
                draws, few = drawn.draws[place[here]] - drawn.draws[place[there]], min(count[here], count[there])
                gap_low, gap_high = interval(own - rest, draws, few)
                least, most = interval(own - rest, draws, few, apart)
                decided = least > 0 if metric.lower_is_better else most < 0
        return Group(
            axis=axis,
            name=name,
            rows=int(different[here].sum()),
            units=count[here],
            enough=here in place,
            value=known(own.mean()),
            low=known(low),
            high=known(high),
            gap=known((own - rest).mean()),
            gap_low=known(gap_low),
            gap_high=known(gap_high),
            decided=bool(decided),
            metrics={column: known(np.mean([values[column] for values in scored[here]])) for column in metric.columns},
        )

    compared = zip(named, parts, others, strict=True)
    return [one(*title, rows.tobytes(), rest.tobytes()) for title, rows, rest in compared]


def known(value: Any) -> float | None:
    """A number, None if there is none or it is not defined."""
    return float(value) if value is not None and math.isfinite(value) else None
