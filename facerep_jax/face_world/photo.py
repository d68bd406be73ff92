"""What lens, sensor and file make of a picture: vignette, blur, noise, exposure and tone."""

from functools import lru_cache
from math import ceil

import numpy as np
import simplejpeg

from facerep_jax.face_world.scene import Photo
from facerep_jax.face_world.shapes import places
from facerep_jax.face_world.textures import tile

BRIGHTEST = 1.3  # light that the sensor can still tell apart, as a share of white
KNEE = 0.7  # light above which tones are compressed instead of clipped
LEAST_BLUR = 0.25  # pixels of standard deviation below which blur is not worth a thought


def photograph(photo: Photo, image: np.ndarray, world: int, mirrored: bool) -> np.ndarray:
    """The picture, uint8 (s, s, 3), of what reaches the lens, float32 (3, s, s) in 0 to 255."""
    size = image.shape[-1]
    image = image * ((1 - photo.vignette * _from_middle(size)) * (1 / BRIGHTEST))
    if photo.blur * size > LEAST_BLUR:
        blur = _blur(size, round(100 * photo.blur * size))
        image = blur @ image @ blur.T
    noise = _noise(photo, world, size)
    image += noise[..., ::-1] if mirrored else noise
    steps = np.clip(image, 0, 255, out=image).astype(np.uint8)
    exposed = np.empty((size, size, 3), np.uint8)
    for channel, gain in enumerate(photo.gain):
        exposed[..., channel] = _tone(gain, photo.gamma).take(steps[channel])
    return exposed


def _noise(photo: Photo, world: int, size: int) -> np.ndarray:
    """Noise (1 or 3, s, s): pieces of a world's tile of independent numbers, which is cheaper than new ones."""
    side = ceil(size / photo.grain)
    grain = tile(world, "grain").piece
    noise = photo.noise * grain(photo.places[0], side)[None]
    if photo.chroma * photo.noise > 1:
        half = ceil(side / 2)  # cameras store colours coarsely
        colours = np.stack([grain(place, half) for place in photo.places[1:]])
        colours *= photo.chroma * photo.noise
        noise = noise + colours.repeat(2, 2).repeat(2, 1)[:, :side, :side]
    if photo.grain > 1:
        noise = noise.repeat(photo.grain, 2).repeat(photo.grain, 1)[:, :size, :size]
    return noise


@lru_cache(maxsize=256)
def _tone(gain: float, gamma: float) -> np.ndarray:
    """What each of 256 values becomes."""
    light = gain * BRIGHTEST * (np.arange(256) + 0.5) / 255  # the middle of each step
    light = np.where(light > KNEE, KNEE + (1 - KNEE) * np.tanh((light - KNEE) / (1 - KNEE)), light)
    return (255 * light**gamma + 0.5).astype(np.uint8)


@lru_cache(maxsize=4)
def _from_middle(size: int) -> np.ndarray:
    """Squared distance from the middle, 1 in the corners."""
    place = 2 * places(size) - 1
    return (place[None] ** 2 + place[:, None] ** 2) / 2


@lru_cache(maxsize=256)
def _blur(size: int, hundredths: int) -> np.ndarray:
    """Weights (size, size) of a Gaussian filter along a row; its deviation is in hundredths of a pixel."""
    pixel = np.arange(size)
    away = (pixel[:, None] - pixel[None]) * (100 / hundredths)
    weights = np.exp(-0.5 * away * away)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def encoded(photo: Photo, image: np.ndarray) -> bytes:
    """The picture's JPEG file."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=photo.quality, colorspace="RGB", colorsubsampling=photo.subsampling
    )
