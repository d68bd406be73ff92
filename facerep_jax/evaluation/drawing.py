"""Pictures of test faces with true and predicted labels: truth is green, prediction red."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

TRUTH, PREDICTION, GROUND = (60, 200, 90), (235, 70, 70), (24, 24, 24)
BAND = 0.25  # height of the band below a face, of the face's

Face = UInt8[np.ndarray, "h w 3"]


def enlarged(image: Face, scale: int) -> Image.Image:
    """The image, each of its pixels `scale` wide."""
    return Image.fromarray(image).resize((image.shape[1] * scale, image.shape[0] * scale), Image.Resampling.BICUBIC)


def with_bars(
    image: Face,
    truth: Float[np.ndarray, "k"],
    prediction: Float[np.ndarray, "k"],
    limits: tuple[float, float],
    scale: int,
) -> Image.Image:
    """The image enlarged, and below it two bars for each of some numbers, the true one left; none for NaN."""
    picture, pen = above_band(enlarged(image, scale))
    low, high = limits
    wide, tall = picture.width / len(truth), picture.height * BAND / (1 + BAND) - 2
    for place, pair in enumerate(zip(truth.tolist(), prediction.tolist(), strict=True)):
        for side, (value, colour) in enumerate(zip(pair, (TRUTH, PREDICTION), strict=True)):
            if np.isfinite(value):
                top = picture.height - 1 - tall * float(np.clip((value - low) / (high - low), 0.02, 1))
                left = wide * (place + 0.1 + 0.4 * side)
                pen.rectangle((left, top, max(left + 0.4 * wide - 1, left), picture.height - 1), fill=colour)
    return picture


def with_text(image: Face, truth: str, prediction: str, scale: int) -> Image.Image:
    """The image enlarged, and below it the truth and the prediction as text."""
    picture, pen = above_band(enlarged(image, scale))
    high = picture.height * BAND / (1 + BAND)
    font = ImageFont.load_default(max(6, round(0.42 * high)))
    for line, (text, colour) in enumerate(((truth, TRUTH), (prediction, PREDICTION))):
        pen.text((2, picture.height - high * (1 - 0.5 * line)), text, colour, font)
    return picture


def with_axes(
    image: Face, rotations: Sequence[tuple[Float[np.ndarray, "3 3"], tuple[int, int, int]]], scale: int
) -> Image.Image:
    """The image enlarged, and for each rotation, in a colour, the axes of a head: right, down, and forwards, thick."""
    picture = enlarged(image, scale)
    pen = ImageDraw.Draw(picture)
    middle, reach = np.array(picture.size) / 2, 0.3 * picture.width
    for rotation, colour in rotations:
        for axis, width in ((rotation[:2, 0], 1), (rotation[:2, 1], 1), (-rotation[:2, 2], 3)):
            if np.isfinite(axis).all():
                end = middle + reach * axis
                pen.line((*middle.tolist(), *end.tolist()), fill=colour, width=max(1, width * picture.width // 160))
    return picture


def above_band(face: Image.Image) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    """The face above a dark band, and a pen."""
    picture = Image.new("RGB", (face.width, round(face.height * (1 + BAND))), GROUND)
    picture.paste(face, (0, 0))
    return picture, ImageDraw.Draw(picture)
