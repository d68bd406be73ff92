"""FaRL's weights: CLIP's layout, with the branch that predicts masked tokens within the visual tower.

The published files are `{"state_dict": {...}}` in float32. That branch, which has `visual.lm_transformer` of one block
in them, belongs to an objective and is left out.

Source: FacePerceiver/FaRL, README and farl/network/transformers.py (2112.03109); what the files hold beside the visual
tower is what others' loaders say of it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights import open_clip

encoder, imported, exported, LEFT_OUT = open_clip.encoder, open_clip.imported, open_clip.exported, open_clip.LEFT_OUT
imported_objective, exported_objective = open_clip.imported_objective, open_clip.exported_objective
MARK = open_clip.OF_MASKED_TOKENS


def save(arrays: Mapping[str, np.ndarray]) -> tuple[str, Any]:
    """The name of FaRL's file, and what it holds."""
    return "farl.pth", {"state_dict": dict(arrays)}
