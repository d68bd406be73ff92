"""Command lines: where the configs lie that they name, and the command that repeats one."""

import os
import shlex
from pathlib import Path

from absl import flags
from ml_collections import ConfigDict

from facerep_jax.suggestions import nearest

ROOTS = (Path(), Path(__file__).parents[1], Path(__file__).parent)  # working directory, checkout, installed package


def command_line(name: str, flag_values: flags.FlagValues) -> str:
    """The shell command that runs a sub-command again with the flags that were given."""
    given = [flag_values[flag] for flag in flag_values if flag_values[flag].present]
    words: list[str] = []
    for flag in given:
        if type(flag) is flags.MultiFlag:  # not those of a config, whose values are one
            words += [f"--{flag.name}={value}" for value in flag.value or ()]
        else:
            words += [flag.serialize() if isinstance(flag.value, ConfigDict) else f"--{flag.name}={flag.value}"]
    return shlex.join(["facerep", name, *words])


def require_kind(config: ConfigDict, command: str, *keys: str) -> None:
    """Check that a config is one of a sub-command, all of whose configs have `keys`. Raises ValueError if not."""
    if missing := [key for key in keys if key not in config]:
        raise ValueError(f"--config names no config of facerep {command}: it has no key {missing[0]!r}")


def cause_of(error: BaseException) -> BaseException:
    """What went wrong while flags and a config were read: config_flags puts a whole traceback into its own message."""
    while error.__context__ is not None and "Error whilst parsing config file" in str(error):
        error = error.__context__
    return error


def resolve(argument: str, before: str = "") -> str:
    """A word of a command line with the home folder in place of a `~` that its path begins with.

    If it names a config, the name becomes the path at which the file was found. `before` is the word before it, since
    the name may follow `--config` as a word of its own.
    """
    flag, equals, value = argument.partition("=") if argument.startswith("-") else (before, "", argument)
    path = os.path.expanduser(value)
    if path and flag.startswith("-") and flag.lstrip("-") == "config":
        path = with_found_path(path)
    return f"{flag}={path}" if equals else path or argument


def with_found_path(config: str) -> str:
    """FILE[:arguments], with the path at which FILE was found."""
    path, colon, arguments = config.partition(":")
    return find(path) + colon + arguments


def find(path: str) -> str:
    """The path of a config's file, found in the working directory, the checkout or the installed package, in order."""
    for root in ROOTS:
        if (root / path).is_file():
            return str(root / path)
    known = [p.relative_to(root).as_posix() for root in ROOTS for p in (root / "configs").glob("*/*.py")]
    raise FileNotFoundError(f"no config {path!r}; {nearest(path, {k for k in known if '__' not in k})}")
