"""Whether features are numbers."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

NAMED = 3  # images that a message names


def require_finite(features: Float[np.ndarray, "n d"], ids: Sequence[str]) -> None:
    """Raise ValueError, which names some images, if features of any are NaN or infinite."""
    (wrong,) = np.nonzero(~np.isfinite(np.asarray(features, np.float32)).all(1))
    if len(wrong):
        named = ", ".join(ids[row] for row in wrong[:NAMED].tolist())
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        raise ValueError(
            f"features of {len(wrong)} of {len(ids)} images are not finite: {named}{more}; the checkpoint may have "
            "diverged, or dtype=float32 may help"
        )
