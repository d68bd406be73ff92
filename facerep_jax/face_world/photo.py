"""The way from light to file: vignette, blur, noise, exposure, tone and JPEG."""

from functools import lru_cache
from math import ceil

import numpy as np
import simplejpeg
from jaxtyping import Float32, UInt8

from facerep_jax.face_world.scene import Photo
from facerep_jax.face_world.shapes import places
from facerep_jax.face_world.textures import tile

BRIGHTEST = 1.3  # brightest light that the sensor can still tell apart, as a share of white
KNEE = 0.7  # light above which tones are compressed instead of clipped
LEAST_BLUR = 0.25  # standard deviation in pixels up to which blur is left out, as it would not be seen


def photograph(
    photo: Photo, image: Float32[np.ndarray, "3 size size"], world: int, mirrored: bool
) -> UInt8[np.ndarray, "size size 3"]:
    """Return the photograph of the light that reaches the lens, which is 0 to 255 and may be brighter.

    Args:
        photo: what camera and file do.
        image: the light, channels first.
        world: number of the world, which has a noise of its own.
        mirrored: whether to mirror the noise.
    """
    size = image.shape[-1]
    image = image * ((1 - photo.vignette * _from_middle(size)) * (1 / BRIGHTEST))
    if photo.blur * size > LEAST_BLUR:
        blur = _blur(size, round(100 * photo.blur * size))
        image = blur @ image @ blur.T
    noise = _noise(photo, world, size)
    image += noise[..., ::-1] if mirrored else noise
    # The tone curve is one table of 256 entries for each channel, which is far cheaper than powers of all pixels.
    steps = np.clip(image, 0, 255, out=image).astype(np.uint8)
    exposed = np.empty((size, size, 3), np.uint8)
    for channel, gain in enumerate(photo.gain):
        exposed[..., channel] = _tone(gain, photo.gamma).take(steps[channel])
    return exposed


def _noise(photo: Photo, world: int, size: int) -> Float32[np.ndarray, "_ {size} {size}"]:
    """Return noise of one channel if it is grey, otherwise of three.

    It is cut out of the world's tile of independent numbers at the places of the photo, which is cheaper than to sample
    new numbers.
    """
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
def _tone(gain: float, gamma: float) -> UInt8[np.ndarray, "256"]:
    """Return what each of the 256 steps of the sensor becomes in the file."""
    light = gain * BRIGHTEST * (np.arange(256) + 0.5) / 255  # the middle of each step
    # Above the knee a tanh of slope 1 goes on smoothly to white: highlights are compressed instead of clipped.
    light = np.where(light > KNEE, KNEE + (1 - KNEE) * np.tanh((light - KNEE) / (1 - KNEE)), light)
    return (255 * light**gamma + 0.5).astype(np.uint8)


@lru_cache(maxsize=4)
def _from_middle(size: int) -> Float32[np.ndarray, "{size} {size}"]:
    """Return the squared distance of pixels from the middle of the image, 1 in its corners."""
    place = 2 * places(size) - 1
    return (place[None] ** 2 + place[:, None] ** 2) / 2


@lru_cache(maxsize=256)
def _blur(size: int, hundredths: int) -> Float32[np.ndarray, "{size} {size}"]:
    """Return the weights of a Gaussian filter of a row of pixels as a matrix: new pixels by old ones.

    The standard deviation is given in hundredths of a pixel, so that few different matrices are cached.
    """
    pixel = np.arange(size)
    away = (pixel[:, None] - pixel[None]) * (100 / hundredths)
    weights = np.exp(-0.5 * away * away)
    return (weights / weights.sum(1, keepdims=True)).astype(np.float32)


def encoded(photo: Photo, image: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Return the JPEG file of a photograph, in the quality that `photo` gives."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(image), quality=photo.quality, colorspace="RGB", colorsubsampling=photo.subsampling
    )
