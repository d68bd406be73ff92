"""Numbers and phrases as a report writes them."""

import math
import re
from collections.abc import Sequence

from facerep_jax.evaluation.results import PERCENT, Results, Scale, Summary

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"  # a hyphen is narrower than the plus
RANDOM = "random initialisation"
SELECTIONS = {
    "validation": "selected on validation",
    "last": "last step",
    "test_best": "best step on the test set itself: optimistic",
}


def signed_number(value: float, pattern: str) -> str:
    """A number with the sign of mathematics in front."""
    return NOTHING if math.isnan(value) else format(value, f"+{pattern}").replace("-", MINUS)


def percent(value: float | None) -> str:
    """A fraction in percent, without the percent sign."""
    return written(value, PERCENT)


def written(value: float | None, scale: Scale) -> str:
    """A value of a metric without its unit."""
    return NOTHING if value is None or math.isnan(value) else scale.text(value).replace("-", MINUS)


def signed(value: float, scale: Scale) -> str:
    """A difference of two values of a metric without its unit."""
    return signed_number(scale.factor * value, f".{scale.digits}f")


def gain(value: float) -> str:
    """A relative gain in percent: `+5.9%`."""
    return NOTHING if math.isnan(value) else f"{signed_number(100 * value, '.1f')}%"


def interval(low: float, high: float, scale: Scale = PERCENT) -> str:
    """The interval of a difference, in points or the metric's unit: `[+1.01, +1.36]`."""
    return f"[{signed(low, scale)}, {signed(high, scale)}]"


def improvement(value: float, low: float, high: float, scale: Scale = PERCENT) -> str:
    """An improvement with its interval, in points or the metric's unit: `+1.19 [+1.01, +1.36]`."""
    return f"{signed(value, scale)} {interval(low, high, scale)}"


def advantage(relative: float, low: float, high: float, scale: Scale = PERCENT) -> str:
    """A relative gain, and the interval of the difference, in points or the metric's unit: `+5.9% [-0.70, -0.22]`."""
    return f"{gain(relative)} {interval(low, high, scale)}"


def measurement(metric: Summary | None, scale: Scale = PERCENT, *, count: bool = False) -> str:
    """A metric over label subsets: mean ± standard deviation, or the mean alone; a count as it is."""
    if metric is None or metric.mean is None:
        return NOTHING
    if count:
        return f"{metric.mean:,.0f}"
    spread = f" ± {written(metric.std, scale)}" if len(metric.values) > 1 else ""
    return written(metric.mean, scale) + spread


def number(value: float) -> str:
    """A number of a training log in four figures."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}".replace("-", MINUS)


def plural(n: int, noun: str) -> str:
    """A count with its noun."""
    return f"{n:,} {noun if n == 1 else plural_noun(noun)}"


def plural_noun(noun: str) -> str:
    """`images` of `image`, `identities` of `identity`, `people` of `person`."""
    return "people" if noun == "person" else re.sub(r"(?<![aeiou])y$", "ie", noun) + "s"


def tested(results: Results) -> str:
    """The test examples: `1,000 test images of 125 people`; empty if their number is not known."""
    if not results.test_images:
        return ""
    whole = plural(results.test_images, f"test {results.words.unit}")
    return f"{whole} of {plural(results.test_units or 0, results.words.belongs_to)}" if results.in_units else whole


def ranges(values: Sequence[int]) -> str:
    """Whole numbers, runs of three and more as `0–4`."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{r[0]}{NOTHING}{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs)


def label_share(fraction: float) -> str:
    """The share of the labels that was used."""
    return f"{100 * fraction:g}% of the labels"


def share(results: Results) -> str:
    """The share of the labels that was used, and how many of each person or class if that was drawn."""
    each = f", {plural(results.shots, 'shot')} each" if results.shots else ""
    return f"{100 * results.fraction:g}%{each}"


def better(lower_is_better: bool) -> str:
    """Which way is better, with an arrow for a column's head."""
    return "↓ lower is better" if lower_is_better else "↑ higher is better"


def selection(name: str) -> str:
    """How step and settings were chosen, by the selection's name."""
    return SELECTIONS.get(name, f"selection: {name.replace('_', ' ')}")


def row_selection(name: str, labels: int | None) -> str:
    """How step and settings of one row were chosen, with what they were chosen on.

    Args:
        name: the selection's name.
        labels: validation labels that something was chosen by, 0 if nothing was; None if that was not recorded.
    """
    if labels is None or name not in ("validation", "last"):
        return selection(name)
    chosen = f"selected on {plural(labels, 'validation label')}" if labels else "nothing selected"
    return chosen if name == "validation" else f"last step, {'settings ' if labels else ''}{chosen}"
