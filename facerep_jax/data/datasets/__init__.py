"""One module per data set, found by its name: adding one edits nothing that exists.

A data set's module holds five names:

- `NAME`: the name that a prepared copy gets where `--name` is not given.
- `RAW`: what the folder `--manual_dir` holds, in words; None where nothing raw is needed.
- `read(arg, manual_dir)`: looks at the raw set quickly and returns anything that has a `digest` of all that the result
  depends on. `arg` is the text after the colon of `facerep prepare NAME:ARG`, or None. Bad input is a ValueError or
  FileNotFoundError of one line.
- `plan(raw)`: takes what `read` returned, does the slow checks and returns a `features.Plan`.
- `Builder`: the TFDS builder, made as `Builder(plan, beam=..., data_dir=..., config=...)`. Its examples come from a
  function at module level, because Beam pickles it. It sets `name` (all are called Builder) and passes
  `skip_registration=True`: TFDS's registry is global and raises if a module is ever imported twice.
"""

import importlib
import pkgutil
from types import ModuleType

from facerep_jax.config import nearest


def names() -> list[str]:
    """The data sets that can be prepared."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> ModuleType:
    """A data set's module; ValueError where there is none of that name."""
    if name not in names():
        raise ValueError(f"no data set {name!r}; {nearest(name, names())}")
    return importlib.import_module(f"{__name__}.{name}")
