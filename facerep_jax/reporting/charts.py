"""Charts as SVG elements that take their colours from the page, so that they are legible on light and dark ground.

Lines differ in colour, dash and marker; their names are a key beside the chart, never on top of a line.
"""

import hashlib
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Colours that stand for the variables of the page's style sheet until the drawing is done.
INK, SOFT, RULE, GRID = "#010001", "#010002", "#010003", "#010004"
COLOURS = tuple(f"#0100{10 + i}" for i in range(6))
GREYS = tuple(f"#0100{20 + i}" for i in range(3))
VARIABLES = {INK: "ink", SOFT: "soft", RULE: "rule", GRID: "grid"}
VARIABLES |= {c: f"line-{i}" for i, c in enumerate(COLOURS)} | {c: f"grey-{i}" for i, c in enumerate(GREYS)}

STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Liberation Sans", "Arial", "Helvetica", "DejaVu Sans"],
    "font.size": 10.5,
    "text.color": SOFT,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "axes.edgecolor": RULE,
    "axes.labelcolor": SOFT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "lines.linewidth": 1.8,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "facerep",  # the same report twice is the same file
}
SMALL, LARGE = (4.3, 2.8), (5.2, 3.3)  # inches; a page scales a chart to its column
POINTS = 400  # of a curve; more are averaged
DASHES = {"encoder": "", "random": "7 3", "baseline": "1.5 2.5"}
MARKERS = "os^DvP"
SHAPES = {  # of the markers in a key, on a line at y = 6
    "o": "M17 2.8a3.2 3.2 0 1 0 .01 0z",
    "s": "M14 3h6v6h-6z",
    "^": "M17 2.4l3.6 6.6h-7.2z",
    "D": "M17 2l4 4-4 4-4-4z",
    "v": "M17 9.6l3.6-6.6h-7.2z",
    "P": "M15.8 2.4h2.4v2.4h2.4v2.4h-2.4v2.4h-2.4v-2.4h-2.4v-2.4h2.4z",
}


class Series(NamedTuple):
    """One line of a chart with the band around it."""

    name: str
    kind: str  # encoder, random or baseline
    x: Sequence[float] | np.ndarray
    y: Sequence[float] | np.ndarray
    low: Sequence[float] | np.ndarray
    high: Sequence[float] | np.ndarray


class Look(NamedTuple):
    """The look of a line."""

    colour: str
    dash: str
    marker: str


class Picture(NamedTuple):
    """A chart as SVG, or an image as a data URI, with what it shows in words."""

    caption: str
    alt: str
    svg: str = ""
    uri: str = ""
    key: tuple[tuple[str, str], ...] = ()  # (sample of the line as SVG, name)
    large: bool = False


def looks(kinds: Sequence[str]) -> list[Look]:
    """A look for each line; no two are alike for the first six encoders and three others of a kind."""
    seen = {"encoder": 0, "random": 0, "baseline": 0}
    found = []
    for kind in kinds:
        i, seen[kind] = seen[kind], seen[kind] + 1
        colour = COLOURS[i % len(COLOURS)] if kind == "encoder" else GREYS[i % len(GREYS)]
        found.append(Look(colour, DASHES[kind], MARKERS[(i + (kind == "baseline")) % len(MARKERS)]))
    return found


def line_chart(
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    caption: str,
    alt: str,
    ticks: Mapping[float, str] | None = None,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
) -> Picture:
    """A chart of lines with bands. With `ticks` (x -> text) the x axis is logarithmic and every point has a marker."""
    order = sorted(series, key=lambda s: [*DASHES].index(s.kind))
    drawn = list(zip(order, looks([s.kind for s in order]), strict=True))

    def draw(axes: Axes) -> None:
        for s, look in reversed(drawn):  # encoders on top
            x, y, low, high = (np.asarray(values, np.float64) for values in (s.x, s.y, s.low, s.high))
            shown = None if ticks else (len(x) // 8, max(1, len(x) // 4))
            style = (0, tuple(map(float, look.dash.split()))) if look.dash else "-"
            axes.fill_between(x, low, high, color=look.colour, alpha=0.16, linewidth=0)
            axes.plot(x, y, color=look.colour, linestyle=style, marker=look.marker, markersize=5, markevery=shown)
        if ticks:
            axes.set_xscale("log")
            axes.set_xticks([*ticks], [*ticks.values()], minor=False)
            axes.set_xticks([], minor=True)
        if limits:
            axes.set_xlim(limits[0])
            axes.set_ylim(limits[1])
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)

    key = tuple((sample(look), s.name) for s, look in drawn)
    return Picture(caption, alt, svg=svg_of(draw, alt, LARGE), key=key, large=True)


def curve(
    x: np.ndarray,
    y: np.ndarray,
    *,
    caption: str,
    y_label: str,
    alt: str,
    beside: tuple[str, np.ndarray, np.ndarray] | None = None,
    from_zero: bool = False,
) -> Picture:
    """A chart of a scalar against steps; `beside` is a second scalar (name, x, y), dashed."""
    main, second = Look(COLOURS[0], "", ""), Look(GREYS[0], DASHES["random"], "")

    def draw(axes: Axes) -> None:
        axes.plot(*neighbour_means(x, y), color=main.colour, marker="o" if len(x) == 1 else "", markersize=5)
        if beside is not None:
            style = (0, tuple(map(float, second.dash.split())))
            axes.plot(*neighbour_means(*beside[1:]), color=second.colour, linestyle=style)
        if from_zero:
            axes.set_ylim(0, 1.1 * float(np.nan_to_num(y).max()) or 1)
        axes.set_xlabel("step")
        axes.set_ylabel(y_label)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g}k" if x >= 10_000 else f"{x:g}")

    averaged = f"; means over {len(x) / POINTS:.0f} logged steps" if len(x) > POINTS else ""
    key = ((sample(main), "logged"), (sample(second), beside[0])) if beside is not None else ()
    return Picture(caption + averaged, alt, svg=svg_of(draw, alt, SMALL), key=key)


def bar_chart(shares: Mapping[str, float], *, caption: str, alt: str) -> Picture:
    """A chart of shares of a whole (name -> 0 to 1), one bar each in the order given, the first on top."""
    names, values = [*shares], np.array([*shares.values()])

    def draw(axes: Axes) -> None:
        places = np.arange(len(names))[::-1]
        axes.barh(places, 100 * values, height=0.62, color=[COLOURS[0], *[GREYS[0]] * (len(names) - 1)])
        for place, value in zip(places, values, strict=True):
            axes.annotate(
                f"{value:.1%}", (100 * value, place), (4, 0), textcoords="offset points", va="center", color=SOFT
            )
        axes.set_yticks(places, names)
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.set_xlim(0, 1.18 * max(100 * values.max(), 1))
        axes.set_xlabel("share of the wall time (%)")

    return Picture(caption, alt, svg=svg_of(draw, alt, LARGE), large=True)


def neighbour_means(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A curve of at most POINTS points, each the mean of its neighbours."""
    if len(x) <= POINTS:
        return x, y
    few_x, few_y = (np.array([part.mean() for part in np.array_split(a, POINTS)]) for a in (x, y))
    return few_x, few_y


def sample(look: Look) -> str:
    """A sample of a line, for a key."""
    dash = f' stroke-dasharray="{look.dash}"' if look.dash else ""
    shape = f'<path d="{SHAPES[look.marker]}" fill="{look.colour}"/>' if look.marker else ""
    line = f'<path d="M1 6H33" fill="none" stroke="{look.colour}" stroke-width="2"{dash}/>'
    return _page_colours(f'<svg class="sample" viewBox="0 0 34 12" aria-hidden="true">{line}{shape}</svg>')


def whisker(interval: tuple[float, float, float], ends: tuple[float, float]) -> str:
    """An SVG of a value with its interval, and of 0, on a scale from ends[0] to ends[1]."""
    width, margin = 150, 8
    span = (ends[1] - ends[0]) or 1

    def at(value: float) -> str:
        return f"{margin + (width - 2 * margin) * (value - ends[0]) / span:.1f}"

    value, low, high = interval
    decided = low > 0 or high < 0
    fill = COLOURS[0] if decided else "none"
    parts = (
        f'<path d="M{at(0.0)} 1V19" stroke="{SOFT}" stroke-width="1" stroke-dasharray="2 2"/>',
        f'<path d="M{at(low)} 10H{at(high)}M{at(low)} 6v8M{at(high)} 6v8" stroke="{COLOURS[0]}" stroke-width="1.6"/>',
        f'<circle cx="{at(value)}" cy="10" r="3.2" fill="{fill}" stroke="{COLOURS[0]}" stroke-width="1.6"/>',
    )
    return _page_colours(f'<svg class="whisker" viewBox="0 0 {width} 20" aria-hidden="true">{"".join(parts)}</svg>')


def bar(share: float, most: float) -> str:
    """An SVG of a share of a whole, on a scale that ends with the greatest of its table."""
    width, length = 150, 150 * share / (most or 1)
    parts = (
        f'<path d="M0 10H{width}" stroke="{GRID}" stroke-width="8"/>',
        f'<path d="M0 10H{length:.1f}" stroke="{COLOURS[0]}" stroke-width="8"/>',
    )
    return _page_colours(f'<svg class="whisker" viewBox="0 0 {width} 20" aria-hidden="true">{"".join(parts)}</svg>')


def svg_of(draw: Callable[[Axes], None], alt: str, size: tuple[float, float]) -> str:
    """A chart as an SVG element that the page scales and colours, with ids that no other chart has."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        figure.patch.set_alpha(0)
        axes = figure.subplots()
        axes.patch.set_alpha(0)
        draw(axes)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    text = drawn.getvalue()
    own = "c" + hashlib.sha256(f"{alt}{text}".encode()).hexdigest()[:8]
    box = re.search(r'viewBox="([^"]*)"', text)
    inner = text[text.index(">", text.index("<svg")) + 1 :]
    inner = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", inner, flags=re.DOTALL)
    inner = re.sub(r'(\bid="|url\(#|href="#)', rf"\1{own}-", inner).replace("xlink:href", "href")
    inner = re.sub(r">\s+<", "><", inner)
    described = f'role="img" aria-label="{html.escape(alt)}"'
    return _page_colours(f'<svg class="chart" viewBox="{box[1] if box else ""}" {described}>{inner.strip()}')


def _page_colours(svg: str) -> str:
    """An SVG with the page's variables in place of the colours that stand for them."""
    return re.sub("#0100[0-9]{2}", lambda found: f"var(--{VARIABLES[found[0]]})", svg)
