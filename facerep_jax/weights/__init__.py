"""Published weights, one module per layout: adding one edits nothing that exists.

A layout's module turns the arrays of somebody else's file into ours, and back. It imports no model: an encoder is named
by a spec, as in a config, and its arrays by their paths, such as `blocks/query/kernel`. It holds these functions:

- `encoder(arrays)`: the spec of the encoder that the arrays belong to. Raises ValueError if they are of another layout;
  the message says what is missing or unknown.
- `imported(arrays)`: our arrays by path, from theirs by name. Every array is used, or left out for a reason.
- `exported(arrays, spec)`: the way back, optional; see the function `exported` of this package, which checks it.

and may hold `imported_objective(arrays)`, our arrays of the contrastive objective, and `TEXT_TOWER`, the settings of
its text tower that are not CLIP's and that no array shows; `LEFT_OUT`, regular expressions of the names of arrays that
are left out, with what they are; and `MARK`, a regular expression of names that tell the layout from one that it shares
all others with.

A layout is named by its module in this package, or by the dotted path of a module elsewhere. A module whose name begins
with an underscore is shared by layouts and is none.
"""

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from safetensors import SafetensorError
from safetensors.numpy import load_file

from facerep_jax import torch_files
from facerep_jax.config import locate
from facerep_jax.suggestions import nearest

Arrays = Mapping[str, np.ndarray]

INSIDE = ("state_dict", "model", "model_state_dict", "module", "net", "teacher")  # keys below which weights are saved
BEFORE = ("module.", "_orig_mod.")  # what wrappers of torch put before each name
RESEMBLES = 0.3  # share of the names that an unknown layout has in common with one that it resembles
PARTS = {  # what a file may hold in place of an encoder: regex that all its names match -> what it is
    r".*lora_.*": "the changes of a network by LoRA; merge them into the network that they are of",
    r"(head|fc|classifier|linear|last_layer|projector|proj)\b.*": "a head without an encoder",
    r"(state|param_groups|exp_avg)\b.*": "the state of an optimizer",
}


class Contents(NamedTuple):
    """The arrays of a file, and what of the file is none of them."""

    arrays: dict[str, np.ndarray]
    notes: tuple[str, ...]  # a line each


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

    If they fit several that mean different encoders, the first is taken, and a warning says so.

    Raises:
        ValueError: they fit none. The message names the layout that they resemble, or what they are instead.
    """
    fitting: dict[str, Any] = {}
    near, nearly = "", RESEMBLES
    for name in names():
        mark = getattr(load(name), "MARK", "")
        if mark and not any(re.fullmatch(mark, array) for array in arrays):
            continue
        try:
            fitting[name] = load(name).encoder(arrays)
        except ValueError as error:
            if (share := getattr(error, "share", 0.0)) > nearly:
                near, nearly = f"it resembles {name}, but: {error}", share
    if fitting:
        (first, meant), *others = fitting.items()
        if other := next((name for name, spec in others if spec != meant), ""):
            logging.warning("weights: arrays do not tell %s, which is assumed, from %s; give FILE@%s or FILE@%s", first,
                            other, first, other)  # fmt: skip
        return load(first)
    for pattern, what in PARTS.items():
        if arrays and all(re.fullmatch(pattern, name) for name in arrays):
            raise ValueError(f"its arrays are {what}")
    known = near or f"its arrays are {', '.join(sorted(arrays)[:3]) or 'none'}"
    raise ValueError(f"the layout of the weights is not known ({known}); give FILE@LAYOUT: {', '.join(names())}")


def suggestion(arrays: Arrays, layout: str) -> str:
    """The end of a message about arrays that are not of a layout: the one that they have, if another is known."""
    try:
        name = recognised(arrays).__name__.rpartition(".")[2]
    except ValueError:
        return ""
    return "" if name == layout else f"; its arrays are of the layout {name}"


def report(layout: ModuleType, arrays: Arrays, imported: Arrays) -> str:
    """What became of the arrays of a file, in one line: how many were read, and which were left out or cast."""
    left: Counter[str] = Counter()
    kinds: set[str] = set()
    for name, x in arrays.items():
        reason = next((why for p, why in getattr(layout, "LEFT_OUT", {}).items() if re.fullmatch(p, name)), "")
        left[reason] += 1
        kinds |= {str(x.dtype)} if not reason and x.dtype != np.float32 else set()
    read = f"{left.pop('', 0)} arrays read as {sum(map(np.size, imported.values())):,} numbers"
    cast = [f"{' and '.join(sorted(kinds))} made float32"] if kinds else []
    out = [f"{count} left out: {why}" for why, count in left.items()]
    return "; ".join([read, *cast, *out])


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
    theirs = layout.exported(arrays, spec)
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
    """The arrays of a file of safetensors or of torch.save, by name."""
    return contents(path).arrays


def contents(path: Path) -> Contents:
    """The arrays of a file of safetensors or of torch.save, by name, without what wraps them, which is noted.

    Raises:
        ValueError: the file is of neither kind, is damaged, asks for what is not allowed, or holds no arrays.
    """
    with open(path, "rb") as file:
        start = file.read(9)
    if start[8:] == b"{" or start[:1] not in (b"P", b"\x80"):  # what begins a zip archive or a pickle
        return unwrapped(of_safetensors(path))
    tree = torch_files.read(path)
    try:
        return unwrapped(tree)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def of_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file of safetensors. Raises ValueError if its header says what the file does not hold."""
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from None


def unwrapped(tree: Any) -> Contents:
    """The arrays of a network within what was saved beside them, such as an optimizer."""
    notes, place = [], []
    tree = {name: x for name, x in attributes(tree)} if isinstance(tree, torch_files.Inert) else tree
    while isinstance(tree, Mapping) and (key := next((key for key in INSIDE if is_tree(tree.get(key))), "")):
        place.append(key)
        if others := [str(other) for other in tree if other != key]:
            notes.append(f"left out beside {'/'.join(place)}: {', '.join(sorted(others)[:8])}")
        tree = tree[key]
    if not isinstance(tree, Mapping):
        raise ValueError(f"a dict of arrays is expected, not {type(tree).__name__}")
    arrays = {str(name): x for name, x in tree.items() if isinstance(x, np.ndarray)}
    if not arrays:
        raise ValueError(f"it holds no arrays; at its top are {', '.join(map(str, list(tree)[:8])) or 'none'}")
    if others := [str(name) for name in tree if str(name) not in arrays]:
        notes.append(f"left out, as they are no arrays: {', '.join(sorted(others)[:8])}")
    while prefix := next((each for each in BEFORE if all(name.startswith(each) for name in arrays)), ""):
        arrays = {name.removeprefix(prefix): x for name, x in arrays.items()}
    return Contents(arrays, tuple(notes))


def attributes(module: torch_files.Inert, name: str = "") -> Iterator[tuple[str, Any]]:
    """The attributes of a module of TorchScript and of those within it, by their names in a state dict."""
    if not module.name.startswith("__torch__.") or not isinstance(module.state, Mapping):
        raise ValueError(f"a dict of arrays is expected, not an object of {module.name}")
    for attribute, value in module.state.items():
        if isinstance(value, torch_files.Inert):
            yield from attributes(value, f"{name}{attribute}.")
        elif isinstance(value, np.ndarray):
            yield f"{name}{attribute}", value


def is_tree(value: Any) -> bool:
    """Whether a value is a dict that is not empty, as state dicts are."""
    return isinstance(value, Mapping) and bool(value)
