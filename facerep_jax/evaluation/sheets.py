"""Sheets of an evaluation: test faces with truth and prediction, worst and best ones, and what the encoder sees."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Bool, Float, UInt8
from PIL import Image

from facerep_jax.data.arrays import Stack
from facerep_jax.evaluation.breakdown import examples_of
from facerep_jax.evaluation.metrics import ranked_by, score
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.results import scale_of
from facerep_jax.pictures import COLUMNS, GAP, WIDTH, beside, sheet, spaced
from facerep_jax.typing import Compares, Encoder, Rows, View

NAMES = ("overlays", "worst", "best", "tokens")
SHOWN = 10  # of the worst, and of the best


def sheets(task: Any, problem: Problem, prediction: Stack, rows: Rows) -> dict[str, Image.Image]:
    """All that there is to see of an evaluation, by the name of the file, see `NAMES`."""
    found = (
        overlays(task, problem, prediction),
        *extremes(task, problem, prediction, rows),
        tokens(problem.encoder, problem.splits["test"]["image"]),
    )
    return {name: image for name, image in zip(NAMES, found, strict=True) if image is not None}


def overlays(task: Any, problem: Problem, prediction: Stack) -> Image.Image:
    """Some test faces, evenly spaced, with truth and prediction."""
    return sheet(drawn(task, problem, prediction, spaced(len(problem.splits["test"]["image"])), COLUMNS))


def extremes(task: Any, problem: Problem, prediction: Stack, rows: Rows) -> list[Image.Image | None]:
    """The worst test faces, worst first, and the best, best first, each with its value.

    That is the metric's headline on each face by itself, or, where single faces have none, as of a correlation, the
    value that they have (`metrics.ranked_by`); faces where it is not defined are left out. The worst pairs are the
    least alike of one person and the most alike of two. None if rows have no such value, or are of templates.
    """
    if isinstance(problem.metric, Compares):
        alike, same = problem.metric.similarities(rows.statistics)
        return [pairs(task, problem, prediction, rows.ids, alike, same, sign) for sign in (1, -1)]
    ranked = worst_first(problem, rows)
    return [first(task, problem, prediction, rows, some) for some in (ranked, ranked[::-1])]


def pairs(
    task: Any,
    problem: Problem,
    prediction: Stack,
    ids: Sequence[str],
    alike: Float[np.ndarray, "n"],
    same: Bool[np.ndarray, "n"],
    sign: int,
) -> Image.Image | None:
    """Half of `SHOWN` pairs of one person, the least alike, and as many of two, the most alike; None without pairs.

    The images of each stand side by side. The sign is 1 for these, -1 for the most alike of one and the least of two.
    """
    chosen, names, half = list[int](), list[str](), SHOWN // 2
    for kind, rising, said in ((True, sign, "one person"), (False, -sign, "two persons")):
        (of,) = np.nonzero(same == kind)
        some = of[np.argsort(rising * alike[of], kind="stable")[:half]].tolist()
        names += [f"{number}:  {said}, {alike[i]:.3f}  {ids[i]}" for number, i in enumerate(some, 1)]
        chosen += some
    places = examples_of([ids[i] for i in chosen], problem.splits["test"]["id"])
    if places is None or not chosen:
        return None
    left, right = (drawn(task, problem, prediction, of.tolist(), SHOWN) for of in places.T)
    return sheet([beside(*two) for two in zip(left, right, strict=True)], names, half)


def worst_first(problem: Problem, rows: Rows) -> list[tuple[int, float]]:
    """The rows whose value is defined, each with it, worst first; none if rows are not images that have one."""
    metric, by = problem.metric, ranked_by(problem.metric)
    if by is None or metric.unit != "image":
        return []
    name, lower_is_better = by
    values = np.array([score(metric, row[None])[name] for row in rows.statistics], np.float64)
    order = np.argsort(-values if lower_is_better else values, kind="stable")
    return [(int(i), float(values[i])) for i in order if np.isfinite(values[i])]


def first(
    task: Any, problem: Problem, prediction: Stack, rows: Rows, ranked: Sequence[tuple[int, float]]
) -> Image.Image | None:
    """The faces of the first of some ranked rows, each with its place, value and id; None if there are none."""
    by = ranked_by(problem.metric)
    if not ranked or by is None:
        return None
    metric, chosen = problem.metric, ranked[:SHOWN]
    place = {name: index for index, name in enumerate(problem.splits["test"]["id"])}
    scale = scale_of(by[0], metric.counts, getattr(metric, "measures", {}))
    names = [f"{number}:  {scale.shown(value)}  {rows.ids[i]}" for number, (i, value) in enumerate(chosen, 1)]
    tiles = drawn(task, problem, prediction, [place[rows.ids[i]] for i, _ in chosen], SHOWN // 2)
    return sheet(tiles, names, SHOWN // 2)


def drawn(task: Any, problem: Problem, prediction: Stack, rows: Sequence[int], columns: int) -> list[Image.Image]:
    """Some test faces with truth and prediction, as the task draws them, so wide that `columns` fill a line.

    Faces that are wider already keep their size.
    """
    images, labels = problem.splits["test"]["image"], problem.splits["test"][task.label]
    side = (WIDTH + GAP) // columns - GAP
    scale = -(-side // task.draw(images[0], labels[0], prediction[0], 1).width)
    tiles = [task.draw(images[i], labels[i], prediction[i], scale) for i in rows]
    return [tile.resize((side, tile.height * side // tile.width)) for tile in tiles] if scale > 1 else tiles


def tokens(encoder: Encoder, images: Stack) -> Image.Image:
    """Some of the images, each beside the first three principal components of its patch tokens as red, green, blue."""
    chosen = images[spaced(len(images))]
    graph, state = nnx.split(encoder)
    found = jax.jit(lambda state, x: nnx.merge(graph, state)(View(x)).tokens)(state, chosen)
    grid = encoder.grid((images.shape[1], images.shape[2]))
    colours = components(np.asarray(found, np.float64), grid)
    side = (WIDTH // COLUMNS - GAP) // 2
    tiles = []
    for image, colour in zip(chosen, colours, strict=True):
        height = round(side * image.shape[0] / image.shape[1])
        left = Image.fromarray(image).resize((side, height), Image.Resampling.BICUBIC)
        right = Image.fromarray(colour).resize((side, height), Image.Resampling.NEAREST)
        tiles.append(beside(left, right))
    return sheet(tiles)


def components(tokens: Float[np.ndarray, "b n d"], grid: tuple[int, int]) -> UInt8[np.ndarray, "b h w 3"]:
    """The first three principal components of all tokens, in the order of their variance, from 0 to 255.

    The sign of a component is not determined by the tokens' distribution. Each is turned so that it grows towards the
    middle, the top or the left of the image, whichever it follows most. So the result depends neither on the basis of
    the features nor on the order of the images. The 2nd and the 98th percentile of a component are black and white.
    """
    b, n, d = tokens.shape
    flat = tokens.reshape(-1, d) - tokens.mean((0, 1))
    left, size, _ = np.linalg.svd(flat, full_matrices=False)
    scores = np.zeros((b * n, 3))
    count = min(3, len(size))
    scores[:, :count] = left[:, :count] * size[:count]

    rows, columns = np.mgrid[0 : grid[0], 0 : grid[1]].reshape(2, -1) / np.array([[grid[0]], [grid[1]]])
    centred = rows + 0.5 / grid[0] - 0.5, columns + 0.5 / grid[1] - 0.5
    middle = -(centred[0] ** 2 + centred[1] ** 2)
    places = np.stack([middle - middle.mean(), -centred[0], -centred[1]])
    places /= np.linalg.norm(places, axis=1, keepdims=True) + 1e-12
    follows = places @ scores.reshape(b, n, 3).mean(0)  # place, component
    strongest = follows[np.abs(follows).argmax(0), np.arange(3)]
    scores *= np.where(strongest < 0, -1.0, 1.0)[None]

    low, high = np.quantile(scores, [0.02, 0.98], axis=0)
    spread = high - low
    even = spread <= 1e-6 * max(float(size[0]), 1e-12)  # a component that says nothing is grey
    shades = np.where(even[None], 0.5, (scores - low[None]) / np.where(even, 1.0, spread)[None])
    return np.round(255 * shades.clip(0, 1)).astype(np.uint8).reshape(b, *grid, 3)
