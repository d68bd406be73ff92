"""Whether features and predictions are numbers."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from facerep_jax.data.arrays import Stack, in_parts

NAMED = 3  # images that a message names


def require_finite(features: Stack, ids: Sequence[str]) -> None:
    """Raise ValueError, which names some images, if features of any, an array over images, are NaN or infinite."""
    parts = [np.isfinite(np.asarray(part, np.float32).reshape(len(part), -1)).all(1) for part in in_parts(features)]
    require("features", np.concatenate(parts), ids)


def require(what: str, finite: Bool[np.ndarray, "n"], ids: Sequence[str]) -> None:
    """Raise ValueError, which names some images, if what is said of these is not finite for all."""
    (wrong,) = np.nonzero(~finite)
    if len(wrong):
        named = ", ".join(ids[row] for row in wrong[:NAMED].tolist())
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(
            f"{what} of {len(wrong)} of {len(ids)} images are not finite: {named}{more}; the checkpoint may have "
            "diverged, or dtype=float32 may help"
        )


def finite_rows(arrays: Sequence[Array]) -> Bool[Array, "b"]:
    """Whether all numbers of each example are finite, in all arrays over examples; whole numbers are."""
    found = [jnp.isfinite(x).reshape(len(x), -1).all(1) for x in arrays if jnp.issubdtype(x.dtype, jnp.floating)]
    return jnp.stack([jnp.ones(len(arrays[0]), bool), *found]).all(0)
