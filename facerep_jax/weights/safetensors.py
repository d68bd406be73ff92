"""Our own layout: an encoder's arrays by our paths, and its spec, so that nothing is guessed.

The spec is JSON in UTF-8, as an array of bytes. A file can only name encoders of this package.
"""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from facerep_jax.weights._transformer import Arrays

SPEC = "encoder.json"  # name of the array that holds the spec
OURS = r"facerep_jax\.models\.\w+:\w+"
LEFT_OUT = {re.escape(SPEC): "the description of the encoder, which is read"}


def encoder(arrays: Arrays) -> dict[str, Any]:
    """The spec of the encoder. Raises ValueError if the arrays are of another layout."""
    if SPEC not in arrays:
        raise ValueError(f"no array {SPEC!r}")
    try:
        spec = json.loads(np.asarray(arrays[SPEC]).tobytes())
    except ValueError as error:
        raise ValueError(f"the array {SPEC!r} is no JSON: {error}") from None
    call = spec.get("call") if isinstance(spec, dict) else None
    if not isinstance(call, str) or not re.fullmatch(OURS, call):
        raise ValueError(f"the array {SPEC!r} names {call!r}, an encoder facerep_jax.models.MODULE:CLASS is expected")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in spec.items()}


def imported(arrays: Arrays) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, of the types that they have."""
    return {path: x for path, x in arrays.items() if path != SPEC}


def exported(arrays: Arrays, spec: Mapping[str, Any] | None = None) -> dict[str, np.ndarray]:
    """The encoder's arrays by our path, with its spec."""
    said = json.dumps({name: value for name, value in (spec or {}).items() if value is not None}, sort_keys=True)
    return {path: np.array(x, order="C") for path, x in arrays.items()} | {SPEC: np.frombuffer(said.encode(), np.uint8)}
