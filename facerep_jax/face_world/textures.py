"""Tiles of noise for skin, hair, backgrounds and sensors: sampled once for each world, then looked up.

A tile repeats without a seam. It keeps copies of itself at half, a quarter, ... of its resolution (levels, the mip maps
of computer graphics), so that details finer than a pixel are averaged instead of aliased, and a scene looks the same
at any size.
"""

from collections.abc import Callable
from functools import cache
from math import log2
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float32, Int32

from facerep_jax.face_world.chance import TEXTURE

SIDE = 512  # texels of a tile at level 0
LEVELS = 7
_AHEAD = 64 * SIDE  # a whole number of tiles, added to places so that all are positive: casts round towards zero
# Waves per tile, across and down -> amplitude.
Spectrum = Callable[[Float[np.ndarray, "1 side"], Float[np.ndarray, "side 1"]], Float[np.ndarray, "side side"]]


class Texels(NamedTuple):
    """Positions of texels, the pixels of a tile; they hold for every tile."""

    level: int
    number: Int32[np.ndarray, "..."]  # row-major within the level


class Tile:
    """A field of values around 0, most of them between -2 and 2, that repeats without end."""

    def __init__(self, values: Float[np.ndarray, f"{SIDE} {SIDE}"]):
        self._levels = [np.ascontiguousarray(values, np.float32)]
        for _ in range(LEVELS - 1):
            fine = self._levels[-1]
            self._levels.append((fine[::2, ::2] + fine[1::2, ::2] + fine[::2, 1::2] + fine[1::2, 1::2]) * 0.25)

    def at(
        self, across: Float[np.ndarray, "*#p"], down: Float[np.ndarray, "*#p"], step: float
    ) -> Float32[np.ndarray, "*p"]:
        """Return the values at places, see `texels`."""
        return self.of(texels(across, down, step))

    def of(self, texels: Texels) -> Float32[np.ndarray, "..."]:
        """Return the values of texels; tiles that are read at the same places can share the search for these."""
        return self._levels[texels.level].take(texels.number)

    def piece(self, place: tuple[int, int], side: int) -> Float32[np.ndarray, "{side} {side}"]:
        """Return a square of level 0 whose first row and column are `place`, each at most `SIDE - side`."""
        row, column = place
        return self._levels[0][row : row + side, column : column + side]


def texels(across: Float[np.ndarray, "*#p"], down: Float[np.ndarray, "*#p"], step: float) -> Texels:
    """Find the texels at places of a tile.

    Args:
        across: to the right, in texels of level 0; any number, as tiles repeat.
        down: the same downwards.
        step: distance between two neighbouring pixels of the picture, in texels of level 0. It selects the level.
    """
    # The level whose texels are about as large as a pixel: sides are powers of two, so that `&` wraps and `>>` halves.
    level = min(max(round(log2(max(step, 1e-3))), 0), LEVELS - 1)
    side, share = SIDE >> level, 1 / (1 << level)
    number = ((down + _AHEAD) * share).astype(np.int32) & (side - 1)
    number *= side
    number += ((across + _AHEAD) * share).astype(np.int32) & (side - 1)
    return Texels(level, number)


def _ring(waves: float, width: float, stretch: float = 1.0) -> Spectrum:
    """Return the spectrum of waves of nearly one length, `stretch` times as long downwards as across."""
    return lambda across, down: np.exp(-(((np.hypot(across, stretch * down) - waves) / width) ** 2))


def _falling(power: float, least: float = 2.0) -> Spectrum:
    """Return the spectrum of clouds: the longer a wave, the stronger it is."""
    return lambda across, down: np.hypot(np.hypot(across, down), least) ** -power


def _noise(rng: np.random.Generator, spectrum: Spectrum) -> Float[np.ndarray, f"{SIDE} {SIDE}"]:
    """Sample Gaussian noise of mean 0 and variance 1 that has this spectrum."""
    # White noise has all waves alike; weighting them in Fourier space keeps it periodic, hence free of seams.
    waves = np.fft.fftfreq(SIDE, 1 / SIDE)
    shaped = np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * spectrum(waves[None], waves[:, None])
    shaped[0, 0] = 0  # the mean
    values = np.fft.ifft2(shaped).real
    return values / values.std()


def _dots(rng: np.random.Generator, count: int, radius: float) -> Float[np.ndarray, f"{SIDE} {SIDE}"]:
    """Sample round spots of height up to 1 and about this radius in texels; all else is 0."""
    values = np.zeros((SIDE, SIDE))
    row, column = rng.integers(0, SIDE, (2, count))
    np.maximum.at(values, (row, column), rng.uniform(0.4, 1, count))
    # Single texels are blurred into spots by a Gaussian, in Fourier space so that spots at the border wrap around.
    waves = np.fft.fftfreq(SIDE)
    bell = np.exp(-2 * (np.pi * radius) ** 2 * (waves[None] ** 2 + waves[:, None] ** 2))
    spread = np.fft.ifft2(np.fft.fft2(values) * bell).real * (2 * np.pi * radius**2)
    return np.clip(spread, 0, 1)


def _grid() -> tuple[Float[np.ndarray, f"1 {SIDE}"], Float[np.ndarray, f"{SIDE} 1"]]:
    """Return x and y of the texels, as shares of the tile."""
    place = np.arange(SIDE) / SIDE
    return place[None], place[:, None]


def _wave(across: Float[np.ndarray, "*p"]) -> Float[np.ndarray, "*p"]:
    """Return stripes with firm edges, one light and one dark to each unit of `across`."""
    return np.tanh(4 * np.sin(2 * np.pi * across))


def _bricks(rng: np.random.Generator) -> Float[np.ndarray, f"{SIDE} {SIDE}"]:
    """Sample 16 rows of 8 bricks of different tones, every other row shifted by half a brick."""
    x, y = np.broadcast_arrays(*_grid())
    row = np.floor(y * 16)
    x = x * 8 + 0.5 * (row % 2)
    tone = rng.standard_normal((16, 8))[row.astype(int), np.floor(x).astype(int) % 8]
    mortar = (np.abs(y * 16 % 1 - 0.5) > 0.42) | (np.abs(x % 1 - 0.5) > 0.46)
    return np.where(mortar, 1.6, 0.7 * tone - 0.4)


def _shelves(rng: np.random.Generator) -> Float[np.ndarray, f"{SIDE} {SIDE}"]:
    """Sample 6 shelves of 41 books of different widths and tones."""
    x, y = np.broadcast_arrays(*_grid())
    row = np.floor(y * 6).astype(int)
    edges = np.sort(rng.random((6, 40)), axis=1)
    tone = rng.standard_normal((6, 41))
    books = np.stack([tone[r][np.searchsorted(edges[r], x[0])] for r in range(6)])[row, np.arange(SIDE)[None]]
    return np.where(y * 6 % 1 > 0.88, -1.8, books)


Recipe = Callable[[np.random.Generator], Float[np.ndarray, "side side"]]

# Skin uses mottle, pores, spots and blush; hair uses strands and curls; sensors use grain; the rest are backgrounds.
# The place of a recipe in its world is part of the seed of its tile: a new recipe goes to the end.
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
BACKGROUNDS = tuple(tuple(recipes) for recipes in _BACKGROUNDS)  # the names, for each world


@cache
def tile(world: int, name: str) -> Tile:
    """Return the tile of this name in a world; the same object on every call."""
    recipes = _RECIPES[world]
    return Tile(recipes[name](np.random.default_rng((TEXTURE, world, list(recipes).index(name)))))
