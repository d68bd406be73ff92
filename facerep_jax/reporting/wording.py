"""Numbers and names as a report writes them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

NOTHING = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"  # a hyphen is narrower than the plus
RANDOM = "random initialisation"
WORDS = {"nme": "NME", "f1": "F1", "miou": "mIoU", "ccc": "CCC", "tar": "TAR", "far": "FAR", "auc": "AUC"}
SELECTIONS = {
    "validation": "selected on validation",
    "last": "last step",
    "test_best": "best step on the test set itself: optimistic",
}


def signed(value: float, pattern: str) -> str:
    """A number with the sign of mathematics in front."""
    return NOTHING if math.isnan(value) else format(value, f"+{pattern}").replace("-", MINUS)


def percent(value: float | None) -> str:
    """A fraction in percent, without the sign for it."""
    return NOTHING if value is None or math.isnan(value) else f"{100 * value:.2f}"


def gained(gain: float) -> str:
    """A relative gain."""
    return NOTHING if math.isnan(gain) else f"{signed(100 * gain, '.1f')}%"


def interval(difference: float, low: float, high: float) -> str:
    """A difference in points with its interval."""
    return f"{signed(100 * difference, '.2f')} [{signed(100 * low, '.2f')}, {signed(100 * high, '.2f')}]"


def measured(name: str, metric: Mapping[str, Any] | None) -> str:
    """Mean ± standard deviation over subsets in percent; counts (`images...`) as they are, one subset without ±."""
    if metric is None or metric["mean"] is None:
        return NOTHING
    if name.startswith("images"):
        return f"{metric['mean']:,.0f}"
    spread = f" ± {percent(metric['std'])}" if len(metric["values"]) > 1 else ""
    return percent(metric["mean"]) + spread


def number(value: float) -> str:
    """A number of a training log in four figures."""
    if not math.isfinite(value):
        return NOTHING
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}".replace("-", MINUS)


def plural(n: int, noun: str) -> str:
    """A count with its noun."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def title(name: str) -> str:
    """`linear_probe` as words, the first with a capital."""
    words = name.replace("_", " ")
    return words[:1].upper() + words[1:]


def words(metric: str) -> str:
    """`nme_inter_ocular` as words."""
    found = " ".join(WORDS.get(word, word) for word in metric.split("_")).replace("inter ocular", "inter-ocular")
    return found if found in WORDS.values() else found[:1].upper() + found[1:]


def numbers(values: Sequence[int]) -> str:
    """Whole numbers, runs of three and more as `0–4`."""
    runs: list[list[int]] = []
    for value in values:
        if runs and value == runs[-1][-1] + 1:
            runs[-1].append(value)
        else:
            runs.append([value])
    return ", ".join(f"{r[0]}{NOTHING}{r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs)


def share(fraction: float) -> str:
    """How many of the labels were used."""
    return f"{100 * fraction:g}% of the labels"


def better(lower_is_better: bool) -> str:
    """Which way is better, with an arrow for a column's head."""
    return "↓ lower is better" if lower_is_better else "↑ higher is better"


def selection(name: str) -> str:
    """How the step and the settings were chosen."""
    return SELECTIONS.get(name, f"selection: {name.replace('_', ' ')}")


def selected(name: str, rates: int, labels: int | None) -> str:
    """The same of one row, which tried so many learning rates and looked at so many validation labels."""
    looked = "validation" if labels is None else plural(labels, "validation label")
    if name == "validation":
        return f"selected on {looked}"
    if name == "last":
        return "last step, " + (f"learning rate selected on {looked}" if rates > 1 else "nothing selected")
    return selection(name)
