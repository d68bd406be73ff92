"""Charts of a suite: encoders on one task, and their mean ranks over all tasks."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from facerep_jax.evaluation.ranks import Ranking, cliques
from facerep_jax.reporting.charts import COLOURS, GREYS, INK, LARGE, RULE, SMALL, SOFT, Picture, svg_of


class Dot(NamedTuple):
    """One encoder on one task."""

    name: str
    value: float
    spread: float
    kind: str = "encoder"  # or random


def dots(
    found: Sequence[Dot], *, x_label: str, caption: str, alt: str, beside: tuple[str, float] | None = None
) -> Picture:
    """A row for each encoder, the first on top: its value, with a whisker of one spread on each side.

    Args:
        beside: what a dashed line stands for, and where it is.
    """

    def draw(axes: Axes) -> None:
        places = range(len(found) - 1, -1, -1)
        for place, dot in zip(places, found, strict=True):
            colour = COLOURS[0] if dot.kind == "encoder" else GREYS[0]
            axes.errorbar(dot.value, place, xerr=dot.spread, elinewidth=1.6, capsize=3.5, color=colour)
            axes.plot(dot.value, place, marker="o" if dot.kind == "encoder" else "s", markersize=6.5, color=colour)
        if beside is not None:
            axes.axvline(beside[1], color=SOFT, linewidth=1.0, linestyle=(0, (3, 3)))
        axes.set_yticks([*places], [dot.name for dot in found])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.grid(visible=False, axis="y")
        axes.set_ylim(-0.6, len(found) - 0.4)
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel(x_label)

    height = 0.95 + 0.32 * len(found)
    return Picture(caption, alt, svg=svg_of(draw, alt, (SMALL[0], height)))


def rank_diagram(ranking: Ranking, *, caption: str, alt: str) -> Picture:
    """Mean ranks on a line, the best on the left; a bar joins encoders that the critical difference cannot tell apart.

    Source: Demšar, JMLR 7, 2006, figure 1.
    """
    order = sorted(ranking.mean, key=lambda name: ranking.mean[name])
    groups, half = cliques(ranking), (len(order) + 1) // 2

    def draw(axes: Axes) -> None:
        low, high = 1.0, float(len(order))
        _scale(axes, ranking, high)
        depth = 0.35 + 0.22 * len(groups)
        for number, group in enumerate(groups):
            ends = [ranking.mean[group[0]] - 0.04, ranking.mean[group[-1]] + 0.04]
            axes.plot(ends, [-0.28 - 0.22 * number] * 2, color=COLOURS[0], linewidth=4, solid_capstyle="butt")
        for place, name in enumerate(order):
            left = place < half
            y = -depth - 0.42 * ((place if left else len(order) - 1 - place) + 1)
            end = low - 0.12 * (high - low) if left else high + 0.12 * (high - low)
            axes.plot([ranking.mean[name]] * 2 + [end], [0, y, y], color=RULE, linewidth=1.0)
            axes.plot(ranking.mean[name], 0, marker="o", markersize=5, color=COLOURS[0])
            text = f"{name}  {ranking.mean[name]:.2f}" if left else f"{ranking.mean[name]:.2f}  {name}"
            axes.annotate(
                text, (end, y), (-4 if left else 4, 0), textcoords="offset points", va="center",
                ha="right" if left else "left", color=INK, annotation_clip=False,
            )  # fmt: skip
        span = high - low
        axes.set_xlim(low - 0.62 * span, high + 0.62 * span)
        axes.set_ylim(-depth - 0.42 * (half + 0.7), 1.5)

    return Picture(caption, alt, svg=svg_of(draw, alt, (LARGE[0], 1.5 + 0.36 * half + 0.2 * len(groups))), large=True)


def _scale(axes: Axes, ranking: Ranking, high: float) -> None:
    """The line of ranks, and above it the critical difference in its unit."""
    axes.axis("off")
    axes.plot([1, high], [0, 0], color=SOFT, linewidth=1.2)
    for rank in range(1, int(high) + 1):
        axes.plot([rank, rank], [0, 0.14], color=SOFT, linewidth=1.0)
        axes.annotate(f"{rank}", (rank, 0.2), ha="center", va="bottom", color=SOFT)
    end = 1 + ranking.critical_difference
    axes.plot([1, 1, end, end], [0.95, 1.05, 1.05, 0.95], color=SOFT, linewidth=1.2, clip_on=False)
    text = f"critical difference {ranking.critical_difference:.2f}"
    axes.annotate(text, (1, 1.1), ha="left", va="bottom", color=SOFT, annotation_clip=False)


def in_words(ranking: Ranking) -> str:
    """Mean ranks, best first."""
    order = sorted(ranking.mean, key=lambda name: ranking.mean[name])
    return ", ".join(f"{name} {ranking.mean[name]:.2f}" for name in order)
