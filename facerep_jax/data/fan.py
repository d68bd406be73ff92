"""The crop of FAN, which landmarks are often read in."""

import numpy as np

from facerep_jax.data.records import Example
from facerep_jax.data.transforms import box_of, crop, whole_box

REFERENCE, LIFT = 200 / 195, 0.12  # side of the square for a box of width + height 1; rise, as a share of its height


class FANCrop:
    """A square about the example's own box, `bbox`, as FAN crops it: 2.05 times as wide as a square box, and higher.

    Its side is 200 (w + h) / 195, and its centre lies 0.12 h above that of the box.

    Source: face-alignment (github.com/1adrianb/face-alignment), of FRL's first author (2103.16554): scale and centre.
    Changed: the filter is an antialiased bicubic one; the result has the encoder's size, FAN's 256 pixels.

    Args:
        size: pixels of a side of the result.
        shift: largest random shift to either side, as a share of the square.
        zoom: largest random change of its side, as a share of it.
        whole: whether the whole image is shown, in place of the example's `bbox`.
    """

    def __init__(self, *, size: int, shift: float = 0.0, zoom: float = 0.0, whole: bool = False):
        self.size, self.shift, self.zoom, self.whole = size, shift, zoom, whole
        self.reads = () if whole else ("bbox",)

    def __call__(self, example: Example, rng: np.random.Generator) -> Example:
        x0, y0, x1, y1 = whole_box(example) if self.whole else box_of(example, "FANCrop")
        w, h = x1 - x0, y1 - y0
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        if not self.whole:
            y -= LIFT * h
            w = h = REFERENCE * (w + h)
        right, down, zoom = rng.uniform(-1, 1, 3)
        x, y = x + self.shift * right * w, y + self.shift * down * h
        w, h = (side * (1 + self.zoom * zoom) for side in (w, h))
        return crop(example, (x - w / 2, y - h / 2, x + w / 2, y + h / 2), self.size)
