"""SigLIP 2 for images of any aspect ratio (NaFlex) as Hugging Face's transformers saves it: Siglip2Model.

Its arrays are those of `hf_siglip`, but for the patches', which are a matrix of rows, columns and colours here and a
convolution there. Positions are resized for every image by an antialiased kernel. The published model reads lists of
patches, which are padded; the encoder reads images of any number of patches, without padding, and gives the same.

Source: transformers, models/siglip2/modeling_siglip2.py, image_processing_siglip2.py (2502.14786).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights import hf_siglip
from facerep_jax.weights._transformer import Arrays, convolution, patches

LEFT_OUT, TEXT_TOWER, imported_objective = hf_siglip.LEFT_OUT, hf_siglip.TEXT_TOWER, hf_siglip.imported_objective


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the visual tower. Raises ValueError if the arrays are of another layout."""
    return {**hf_siglip.encoder(convolved(arrays)), "resizing": "linear"}


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, in float32."""
    return hf_siglip.imported(convolved(arrays))


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The visual tower by their names, as in Siglip2Model."""
    theirs = hf_siglip.exported(arrays)
    return theirs | {
        name: np.ascontiguousarray(patches(x).T) for name, x in theirs.items() if name.endswith(hf_siglip.PATCHES)
    }


def convolved(arrays: Arrays) -> dict[str, np.ndarray]:
    """The arrays as `hf_siglip` has them. Raises ValueError if the patches' are no matrix of square patches."""
    found = dict(arrays)
    for name in (name for name in arrays if name.endswith(hf_siglip.PATCHES)):
        shape = arrays[name].shape
        if len(shape) != 2 or 3 * round((shape[1] / 3) ** 0.5) ** 2 != shape[1]:
            raise ValueError(f"the array {name!r} has shape {shape}, (width, 3 * patch * patch) is expected")
        found[name] = convolution(arrays[name].T)
    return found
