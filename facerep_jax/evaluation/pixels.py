"""What images tell without an encoder: small pixels, and numbers that ridge regression reads off them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from sklearn.linear_model import Ridge

PIXELS = 32  # side of the images that are looked at
ALPHAS = tuple(10 ** (power / 2) for power in range(2, 11))  # penalties of the ridge, of which validation chooses


def small(images: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "b p"]:
    """Images at 32 x 32, flattened, in [0, 1]."""
    size = (PIXELS, PIXELS)
    resize = [np.asarray(Image.fromarray(x).resize(size, Image.Resampling.BOX)) for x in images]
    return np.stack(resize).reshape(len(resize), -1) / 255


def contrasts(images: Iterable[UInt8[np.ndarray, "h w 3"]]) -> Float[np.ndarray, "b p"]:
    """Images at 32 x 32 less their mean, as vectors of length one; 0 of an image of a single colour."""
    x = small(images)
    x = x - x.mean(1, keepdims=True)
    length = np.linalg.norm(x, axis=1, keepdims=True)
    return np.where(length > 1e-9, x / np.maximum(length, 1e-9), 0)  # what rounding leaves of a colour is no contrast


def regressed(
    train: Mapping[str, Any],
    validation: Mapping[str, Any],
    test: Mapping[str, Any],
    targets: Callable[[Mapping[str, Any]], Float[np.ndarray, "n o"]],
) -> Float[np.ndarray, "m o"]:
    """Outputs for test images by ridge regression on small pixels; the penalty is that of least error on validation.

    An output is regressed from the images where it is known, and 0 where there is none. Without a known output of a
    validation image the largest penalty counts.

    Args:
        targets: gives the outputs of a split, NaN where they are not known.
    """
    x, held_out, new = (small(split["image"]) for split in (train, validation, test))
    y, truth = (np.asarray(targets(split), np.float64) for split in (train, validation))
    patterns, group = np.unique(
        np.isfinite(y), axis=1, return_inverse=True
    )  # outputs that are known in the same images

    def ridge(alpha: float) -> tuple[np.ndarray, np.ndarray]:
        """Outputs of validation and test images."""
        found = [np.zeros((len(images), y.shape[1])) for images in (held_out, new)]
        for index, rows in enumerate(patterns.T):
            of = group.reshape(-1) == index
            if rows.any():
                fitted = Ridge(alpha).fit(x[rows], np.ascontiguousarray(y[rows][:, of]))
                for images, outputs in zip((held_out, new), found, strict=True):
                    outputs[:, of] = fitted.predict(images).reshape(len(images), -1)
        return found[0], found[1]

    tried = [ridge(alpha) for alpha in ALPHAS]
    if not (known := np.isfinite(truth)).any():
        return tried[-1][1]
    errors = [np.square(outputs - truth)[known].mean() for outputs, _ in tried]
    return tried[int(np.argmin(errors))][1]
