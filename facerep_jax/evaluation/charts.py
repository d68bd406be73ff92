"""Pictures of a report: curves of a training log, a headline against the label fraction; each a data URI of SVG."""

import base64
import io
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Liberation Sans", "Arial", "Helvetica", "DejaVu Sans"],
    "font.size": 10.5,
    "text.color": "#222222",
    "axes.edgecolor": "#9a9a9a",
    "axes.labelcolor": "#444444",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e7e7e7",
    "grid.linewidth": 0.8,
    "xtick.color": "#9a9a9a",
    "ytick.color": "#9a9a9a",
    "xtick.labelcolor": "#444444",
    "ytick.labelcolor": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9.5,
    "lines.linewidth": 1.7,
    "svg.fonttype": "path",
    "svg.hashsalt": "facerep",  # the same report twice is the same file
}
COLOURS = ("#1b5e9b", "#c4611a", "#2f7d4f", "#7d4a96", "#a3862a", "#3d8f97")
GREYS = ("#6f6f6f", "#9b9b9b", "#b5b5b5", "#c6c6c6")
POINTS = 400  # of a curve; more are averaged


class Picture(NamedTuple):
    """A picture as a data URI."""

    caption: str
    uri: str
    kind: str = "panel"  # one of a grid, a "figure" by itself, or a "strip" that scrolls sideways rather than shrink
    folded: bool = False


class Series(NamedTuple):
    """One line of a chart."""

    kind: str  # encoder, random or baseline
    points: list[tuple[float, float, float]]  # x, y, spread of y


def _chart(draw: Callable[[Axes], None], size: tuple[float, float] = (4.4, 2.8)) -> str:
    """A drawn chart as a data URI of SVG."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        drawn = io.BytesIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    return data_uri(drawn.getvalue(), "svg+xml")


def data_uri(data: bytes, kind: str) -> str:
    """The bytes of a picture of this kind, `png` or `svg+xml`, as an address that holds them."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _thinned(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most POINTS points, each the mean of its neighbours."""
    if len(steps) <= POINTS:
        return steps, values
    x, y = (np.array([part.mean() for part in np.array_split(a, POINTS)]) for a in (steps, values))
    return x, y


def curve(name: str, scalars: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Picture:
    """One scalar against steps; a term's unigram entropy, where it is logged, as a dashed line."""
    logged = len(scalars[name][0])
    unigram = name.removesuffix("loss") + "unigram" if name.endswith("/loss") else ""

    def draw(axes: Axes) -> None:
        marker = "o" if logged == 1 else ""
        axes.plot(*_thinned(*scalars[name]), color=COLOURS[0], marker=marker)
        if unigram in scalars:
            x, y = _thinned(*scalars[unigram])
            axes.plot(x, y, label="unigram entropy", linestyle=(0, (4, 3)), color=GREYS[0], linewidth=1.3)
            axes.legend(loc="best")
        if name in ("images_per_second", "input_wait"):
            axes.set_ylim(0, 1.1 * float(np.nan_to_num(scalars[name][1]).max()) or 1)
        axes.set_xlabel("step")
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 10_000 else f"{x:g}")

    beside = "; dashed: unigram entropy" if unigram in scalars else ""
    averaged = f"; means over {logged / POINTS:.0f} logged steps" if logged > POINTS else ""
    return Picture(f"{name}{beside}{averaged}", _chart(draw))


def fractions(series: Mapping[str, Series], label: str, caption: str) -> Picture:
    """Percentages against percentages of the labels, one line per encoder and baseline."""
    kinds = {"encoder": "-", "random": (0, (5, 2)), "baseline": ":"}  # in this order, drawn so
    ticks = sorted({point[0] for one in series.values() for point in one.points})
    columns = 1 if max(map(len, series)) > 24 else 2

    def draw(axes: Axes) -> None:
        colours, greys = iter(COLOURS * len(series)), iter(GREYS * len(series))
        for name in sorted(series, key=lambda n: [*kinds].index(series[n].kind)):
            kind, points = series[name]
            x, y, spread = np.array(points).T
            colour = next(colours) if kind == "encoder" else next(greys)
            axes.plot(x, y, label=name, color=colour, linestyle=kinds[kind], marker="o", markersize=4)
            axes.errorbar(x, y, spread, color=colour, fmt="none", elinewidth=1, capsize=2.5)
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set_xlabel("labels used (%)")
        axes.set_ylabel(label)
        axes.figure.legend(loc="outside lower left", ncols=columns)

    return Picture(caption, _chart(draw, (4.4, 2.9 + 0.2 * math.ceil(len(series) / columns))), "figure")
