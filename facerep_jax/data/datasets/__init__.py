"""One module per data set, found by its name: adding one edits nothing that exists, and needs no place in here.

A data set's module holds the names of `DataSet`. One outside of this package is found by its dotted path, such as
`my_package.my_set`; its family, the first part of the name of what it prepares, is the last word, `my_set`.
"""

import importlib
import pkgutil
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

from facerep_jax.data.parts import Parts
from facerep_jax.data.records import Plan
from facerep_jax.suggestions import nearest


@runtime_checkable
class DataSet(Protocol):
    """What the module of a data set holds."""

    NAME: str  # what a prepared copy is called if --name is not given
    RAW: str | None  # what the folder --manual_dir holds, in words; None if nothing raw is needed
    VERSION: str  # of what is written, such as "1.0.0"; raise it if the same input is written otherwise

    def read(self, arg: str | None, manual_dir: Path | None) -> Any:
        """Looks at the raw set quickly; returns anything that has a `digest` of all that the result depends on.

        If it has a `link` that is not empty, the words of a file that lies elsewhere, --follow_links is needed.

        Args:
            arg: the text after the colon of `facerep prepare NAME:ARG`, if there is a colon.
            manual_dir: the folder of the raw set, if it is given.

        Raises:
            ValueError, FileNotFoundError: the input is bad; one line.
        """
        ...

    def plan(self, raw: Any) -> Plan | Parts:
        """What is written, at once or in parts: takes what `read` returned, and does the slow checks."""
        ...


def names() -> list[str]:
    """The data sets of this package."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def load(name: str) -> DataSet:
    """The module of a data set: one of this package by its name, any other by its dotted path.

    Raises:
        ValueError: there is none, it does not hold what `DataSet` asks for, or its family is one of this package.
    """
    if "." not in name:
        if name not in names():
            raise ValueError(f"no data set {name!r}; {nearest(name, names())}")
        name = f"{__name__}.{name}"
    elif family_of(name) in names():
        raise ValueError(f"data set {name!r}: {family_of(name)!r} is a data set of {__name__}; call it otherwise")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"no data set {name!r}: {error}") from error
    if lacking := [part for part in ("NAME", "RAW", "VERSION", "read", "plan") if part not in vars(module)]:
        raise ValueError(f"{name} is no data set: it lacks {', '.join(lacking)}")
    return cast(DataSet, module)


def family_of(name: str) -> str:
    """The first part of the names of prepared copies: the last word of a module's path."""
    return name.rpartition(".")[2]
