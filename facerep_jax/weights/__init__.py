"""Published weights, one module per layout: adding one edits nothing that exists.

A layout's module turns the arrays of somebody else's file into ours, and back. It imports no model: an encoder is named
by a spec, as in a config, and its arrays by their paths, such as `blocks/query/kernel`. It holds three functions:

- `encoder(arrays)`: the spec of the encoder that the arrays belong to. Raises ValueError if they are of another layout;
  the message says what is missing or unknown.
- `imported(arrays)`: our arrays by path, from theirs by name. Every array is used, or left out for a reason.
- `exported(arrays)`: the way back.

A layout is named by its module in this package, or by the dotted path of a module elsewhere. A module whose name begins
with an underscore is shared by layouts and is none.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import numpy as np
import safetensors
import safetensors.numpy

from facerep_jax.suggestions import nearest

Arrays = Mapping[str, np.ndarray]


def names() -> list[str]:
    """The layouts of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of a layout, by its name or dotted path. Raises ValueError if there is none."""
    if "." not in name and name not in names():
        raise ValueError(f"no layout {name!r} of weights; {nearest(name, names())}, or give the path of a module")
    try:
        return importlib.import_module(name if "." in name else f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ValueError(f"no layout {name!r} of weights: {error}") from None


def recognised(arrays: Arrays) -> ModuleType:
    """The layout of this package that the arrays have. Raises ValueError, with each layout's reason, if none has."""
    reasons = []
    for name in names():
        layout = load(name)
        try:
            layout.encoder(arrays)
        except ValueError as error:
            reasons.append(f"{name}: {error}")
        else:
            return layout
    raise ValueError(f"the layout of the weights is not known ({'; '.join(reasons)}); give FILE@LAYOUT")


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name."""
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None
