"""Published weights, one module per layout: adding one edits nothing that exists.

A layout's module turns the arrays of somebody else's file into ours, and back. It imports no model: an encoder is named
by a spec, as in a config, and its arrays by their paths, such as `blocks/query/kernel`. It holds these functions:

- `encoder(arrays)`: the spec of the encoder that the arrays belong to. Raises ValueError if they are of another layout;
  the message says what is missing or unknown.
- `imported(arrays)`: our arrays by path, from theirs by name. Every array is used, or left out for a reason.
- `exported(arrays)`: the way back, optional; see the function `exported` of this package, which checks it.

A layout is named by its module in this package, or by the dotted path of a module elsewhere. A module whose name begins
with an underscore is shared by layouts and is none.
"""

import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from absl import logging

from facerep_jax.config import locate
from facerep_jax.suggestions import nearest

Arrays = Mapping[str, np.ndarray]


def names() -> list[str]:
    """The layouts of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of a layout, by its name or dotted path. Raises ValueError if there is none, or it is no layout."""
    if "." not in name and name not in names():
        raise ValueError(f"no layout {name!r} of weights; {nearest(name, names())}, or give the path of a module")
    try:
        module = importlib.import_module(name if "." in name else f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        raise ValueError(f"no layout {name!r} of weights: {error}") from None
    if lacking := [part for part in ("encoder", "imported") if not callable(vars(module).get(part))]:
        raise ValueError(f"{name} is no layout of weights: it lacks {', '.join(lacking)}")
    return module


def recognised(arrays: Arrays) -> ModuleType:
    """The layout of this package that the arrays have.

    If they fit several, the first is taken, and a warning says so. Raises ValueError, with each layout's reason, if
    they fit none.
    """
    reasons, fitting = [], []
    for name in names():
        layout = load(name)
        try:
            layout.encoder(arrays)
        except ValueError as error:
            reasons.append(f"{name}: {error}")
        else:
            fitting.append(name)
    if len(fitting) > 1:
        first, *others = fitting
        logging.warning("weights: arrays do not tell %s, which is assumed, from %s; give FILE@%s or FILE@%s", first,
                        ", ".join(others), first, others[0])  # fmt: skip
    if fitting:
        return load(fitting[0])
    raise ValueError(f"the layout of the weights is not known ({'; '.join(reasons)}); give FILE@LAYOUT")


def exported(layout: ModuleType, arrays: Arrays, spec: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The arrays of an encoder of ours by a layout's names.

    Args:
        layout: a module that `load` gives.
        arrays: of the encoder, by path.
        spec: of the encoder, with its defaults written out. Shapes show sizes; the rest, such as heads, the activation
            and the size of images where no positions are kept, a reader guesses.

    Raises:
        ValueError: the layout has no way back, or its reader would guess another encoder than `spec`.
    """
    if not hasattr(layout, "exported"):
        raise ValueError(f"the layout {layout.__name__} has no `exported`: it can only be read")
    theirs = layout.exported(arrays)
    guessed = layout.encoder(theirs)
    for name, value in spec.items():
        if value is None or name == "variant" or name in locate(spec).no_matter:  # a variant is sizes
            continue
        if value != guessed.get(name):
            raise ValueError(
                f"the layout {layout.__name__} cannot say that {name} is {value!r}: "
                f"its reader would take {guessed.get(name, 'the default')!r}"
            )
    return theirs


def read(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file, by name."""
    try:
        return safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, OSError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None
