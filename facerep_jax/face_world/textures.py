"""Tiles of noise for skin, hair and backgrounds: drawn once for each world, then looked up.

A tile repeats without a seam. Its levels are halved copies, so that what is finer than a pixel is averaged and not
aliased: a scene looks the same at any size.
"""

from collections.abc import Callable
from functools import cache
from math import log2
from typing import NamedTuple

import numpy as np

from facerep_jax.face_world.chance import TEXTURE

SIDE = 512  # texels of a tile at level 0
LEVELS = 7
_AHEAD = 64 * SIDE  # added to places, so that whole parts of all of them are positive
Spectrum = Callable[[np.ndarray, np.ndarray], np.ndarray]  # waves per tile, across and down -> amplitude


class Texels(NamedTuple):
    """Texels of any tile."""

    level: int
    number: np.ndarray


class Tile:
    """A repeating field of values about 0, most of them between -2 and 2."""

    def __init__(self, values: np.ndarray):
        self._levels = [np.ascontiguousarray(values, np.float32)]
        for _ in range(LEVELS - 1):
            fine = self._levels[-1]
            self._levels.append((fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) * 0.25)

    def at(self, across: np.ndarray, down: np.ndarray, step: float) -> np.ndarray:
        """The values at places in texels of level 0; `step` is how many texels there are between two pixels."""
        return self.of(texels(across, down, step))

    def of(self, texels: Texels) -> np.ndarray:
        """The values of texels that were found before; all tiles are alike in this."""
        return self._levels[texels.level].take(texels.number)

    def piece(self, place: tuple[int, int], side: int) -> np.ndarray:
        """A square of level 0, `side` texels wide, from a row and a column of at most `SIDE - side`."""
        row, column = place
        return self._levels[0][row : row + side, column : column + side]


def texels(across: np.ndarray, down: np.ndarray, step: float) -> Texels:
    """Which texels of a tile lie at places in texels of level 0, see `Tile.at`."""
    level = min(max(round(log2(max(step, 1e-3))), 0), LEVELS - 1)
    side, share = SIDE >> level, 1 / (1 << level)
    number = ((down + _AHEAD) * share).astype(np.int32) & (side - 1)
    number *= side
    number += ((across + _AHEAD) * share).astype(np.int32) & (side - 1)
    return Texels(level, number)


def _ring(waves: float, width: float, stretch: float = 1.0) -> Spectrum:
    """Waves of about one length; `stretch` times longer downwards than across."""
    return lambda across, down: np.exp(-(((np.hypot(across, stretch * down) - waves) / width) ** 2))


def _falling(power: float, least: float = 2.0) -> Spectrum:
    """Clouds: the longer the waves, the stronger."""
    return lambda across, down: np.hypot(np.hypot(across, down), least) ** -power


def _noise(rng: np.random.Generator, spectrum: Spectrum) -> np.ndarray:
    """Gaussian noise of variance 1."""
    waves = np.fft.fftfreq(SIDE, 1 / SIDE)
    shaped = np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * spectrum(waves[None], waves[:, None])
    shaped[0, 0] = 0
    values = np.fft.ifft2(shaped).real
    return values / values.std()


def _dots(rng: np.random.Generator, count: int, radius: float) -> np.ndarray:
    """Round spots of height up to 1, of about this radius in texels; 0 elsewhere."""
    values = np.zeros((SIDE, SIDE))
    row, column = rng.integers(0, SIDE, (2, count))
    np.maximum.at(values, (row, column), rng.uniform(0.4, 1, count))
    waves = np.fft.fftfreq(SIDE)
    bell = np.exp(-2 * (np.pi * radius) ** 2 * (waves[None] ** 2 + waves[:, None] ** 2))
    spread = np.fft.ifft2(np.fft.fft2(values) * bell).real * (2 * np.pi * radius**2)
    return np.clip(spread, 0, 1)


def _grid() -> tuple[np.ndarray, np.ndarray]:
    place = np.arange(SIDE) / SIDE
    return place[None], place[:, None]


def _wave(across: np.ndarray) -> np.ndarray:
    """Stripes with firm edges, 1 to a unit."""
    return np.tanh(4 * np.sin(2 * np.pi * across))


def _bricks(rng: np.random.Generator) -> np.ndarray:
    x, y = np.broadcast_arrays(*_grid())
    row = np.floor(y * 16)
    x = x * 8 + 0.5 * (row % 2)
    tone = rng.standard_normal((16, 8))[row.astype(int), np.floor(x).astype(int) % 8]
    mortar = (np.abs(y * 16 % 1 - 0.5) > 0.42) | (np.abs(x % 1 - 0.5) > 0.46)
    return np.where(mortar, 1.6, 0.7 * tone - 0.4)


def _shelves(rng: np.random.Generator) -> np.ndarray:
    x, y = np.broadcast_arrays(*_grid())
    row = np.floor(y * 6).astype(int)
    edges = np.sort(rng.random((6, 40)), axis=1)
    tone = rng.standard_normal((6, 41))
    books = np.stack([tone[r][np.searchsorted(edges[r], x[0])] for r in range(6)])[row, np.arange(SIDE)[None]]
    return np.where(y * 6 % 1 > 0.88, -1.8, books)


Recipe = Callable[[np.random.Generator], np.ndarray]

# Of skin (mottle, pores, spots, blush), of hair (strands, curls), of sensors (grain); the rest are for backgrounds.
_BOTH: dict[str, Recipe] = {"grain": lambda rng: rng.standard_normal((SIDE, SIDE))}
_BACKGROUNDS: tuple[dict[str, Recipe], ...] = (
    {
        "clouds": lambda rng: _noise(rng, _falling(2.0)),
        "stripes": lambda rng: np.broadcast_to(_wave(12 * _grid()[0]), (SIDE, SIDE)),
        "leaves": lambda rng: np.tanh(2 * _noise(rng, _ring(22.0, 16.0))) + 0.5 * _noise(rng, _falling(1.0)),
        "shelves": _shelves,
    },
    {
        "marble": lambda rng: np.sin(9 * _noise(rng, _falling(2.2)) + 18 * np.pi * _grid()[0]),
        "checks": lambda rng: _wave(8 * _grid()[0]) * _wave(8 * _grid()[1]),
        "bricks": _bricks,
        "bokeh": lambda rng: 2.2 * _dots(rng, 130, 13.0) + 0.4 * _noise(rng, _falling(1.5)) - 0.8,
    },
)
_RECIPES: tuple[dict[str, Recipe], ...] = (
    {
        "mottle": lambda rng: _noise(rng, _ring(14.0, 9.0)),
        "pores": lambda rng: _noise(rng, _ring(110.0, 50.0)),
        "spots": lambda rng: _dots(rng, 1500, 2.6),
        "blush": lambda rng: _noise(rng, _falling(1.6, 6.0)),
        "strands": lambda rng: 0.8 * _noise(rng, _ring(70.0, 40.0, 9.0)) + 0.6 * _noise(rng, _ring(24.0, 12.0, 7.0)),
        "curls": lambda rng: 2 * np.abs(_noise(rng, _ring(34.0, 9.0))) - 1.6,
        **_BOTH,
        **_BACKGROUNDS[0],
    },
    {
        "mottle": lambda rng: 1.3 * np.tanh(_noise(rng, _ring(30.0, 14.0))),
        "pores": lambda rng: _noise(rng, _ring(70.0, 40.0, 2.5)),
        "spots": lambda rng: _dots(rng, 420, 4.2),
        "blush": lambda rng: _noise(rng, _ring(9.0, 5.0)),
        "strands": lambda rng: 0.6 * _noise(rng, _ring(90.0, 50.0, 14.0)) + 0.8 * _noise(rng, _ring(30.0, 12.0, 3.0)),
        "curls": lambda rng: 0.7 * _noise(rng, _ring(46.0, 9.0)) + np.abs(_noise(rng, _ring(20.0, 8.0))),
        **_BOTH,
        **_BACKGROUNDS[1],
    },
)
BACKGROUNDS = tuple(tuple(recipes) for recipes in _BACKGROUNDS)  # names, for each world


@cache
def tile(world: int, name: str) -> Tile:
    """A world's tile of a name."""
    recipes = _RECIPES[world]
    return Tile(recipes[name](np.random.default_rng((TEXTURE, world, list(recipes).index(name)))))
