"""Configs as plain data: `spec` names a callable with its keyword arguments, and `build` calls it."""

import importlib
import inspect
import os
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias

from ml_collections import ConfigDict, config_dict

from facerep_jax.suggestions import nearest

Spec: TypeAlias = Mapping[str, Any] | ConfigDict  # {"call": "module:name", keyword: value, ...}

QUOTES = ("'", '"')
# One argument of a config: NAME, NAME=VALUE, NAME='VALUE' or NAME="VALUE".
ITEM = re.compile(r"""(?P<name>[^=,]*)(?:=(?P<value>'[^']*'|"[^"]*"|[^,]*))?(?:,|$)""")
OPEN: Any = ...  # given to `spec` for an argument that is known only at run time, although it has a default


def spec(call: Callable[..., Any], **keywords: Any) -> ConfigDict:
    """A callable and its keyword arguments as plain data, with every default written out.

    Parameters without a default that are not given stay open, and so do those given as `OPEN`: `build` takes them at
    run time. None becomes a placeholder, which a command line can fill, in a spec that is a plain dict too. Raises
    ValueError on an unknown keyword.
    """
    parameters = signature_of(call).parameters
    for key in keywords:
        if key not in parameters:
            raise ValueError(f"{call.__qualname__} has no argument {key!r}; {nearest(key, parameters)}")
    hints = _hints_of(call)
    values: dict[str, Any] = {"call": f"{call.__module__}:{call.__qualname__}"}
    for name, parameter in parameters.items():
        value = keywords.get(name, parameter.default)
        if value is not inspect.Parameter.empty and value is not OPEN:
            values[name] = _fillable(value, hints.get(name))
    return ConfigDict(values)


def _fillable(value: Any, hint: Any) -> Any:
    """An argument with a placeholder in place of None, also where it is a spec that is a plain dict."""
    if value is None:
        return config_dict.placeholder(_plain_type(hint))
    if isinstance(value, dict) and "call" in value:
        hints = _hints_of(locate(value))
        return {name: _fillable(inner, hints.get(name)) for name, inner in value.items()}
    return value


def _hints_of(call: Callable[..., Any]) -> dict[str, Any]:
    """The type hints of the arguments of a function or a class."""
    return typing.get_type_hints(call.__init__ if inspect.isclass(call) else call)


def _plain_type(hint: Any) -> type:
    """The type of an optional argument's placeholder; object if the hint is not a single plain type."""
    if isinstance(hint, types.UnionType):
        plain = [t for t in typing.get_args(hint) if t is not types.NoneType]
        hint = plain[0] if len(plain) == 1 else object
    return hint if hint in (bool, int, float, str, tuple) else object


def build(described: Spec, *args: Any, **runtime: Any) -> Any:
    """Call what a spec names with its keywords, nested mappings as plain dicts, and with arguments from run time.

    Raises ValueError if an argument is missing, unknown, or given twice.
    """
    keywords = {
        key: value.to_dict() if isinstance(value, ConfigDict) else value
        for key, value in described.items()
        if key != "call"
    }
    call = locate(described)
    try:
        signature_of(call).bind(*args, **keywords, **runtime)
    except TypeError as error:
        raise ValueError(f"{described['call']}: {error}") from None
    return call(*args, **keywords, **runtime)


def build_with(described: Spec, offered: Mapping[str, Any], *args: Any, **runtime: Any) -> Any:
    """Call what a spec names, see `build`, also with those of the `offered` arguments that it takes and leaves open."""
    return build(described, *args, **runtime, **taken(described, offered))


def taken(described: Spec, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the `offered` arguments that the callable takes and its spec leaves open."""
    parameters = parameters_of(described)
    return {name: value for name, value in offered.items() if name in parameters and name not in described}


def parameters_of(described: Spec) -> Mapping[str, inspect.Parameter]:
    """The parameters of what a spec names."""
    return signature_of(locate(described)).parameters


def signature_of(call: Callable[..., Any]) -> inspect.Signature:
    """The arguments of a function or a class. A class's are read off `__init__`: a module's metaclass hides them."""
    if not inspect.isclass(call):
        return inspect.signature(call)
    whole = inspect.signature(call.__init__)
    return whole.replace(parameters=list(whole.parameters.values())[1:])  # without `self`


def locate(described: Spec) -> Any:
    """The callable that a spec names. Raises ValueError if there is none."""
    module, _, name = described["call"].partition(":")
    try:
        return getattr(importlib.import_module(module), name)
    except (ModuleNotFoundError, AttributeError, ValueError) as error:
        raise ValueError(f"no callable {described['call']!r} (MODULE:NAME): {error}") from error


def overridden(defaults: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Nested defaults of which some values are replaced, each by its own name; ValueError on an unknown name."""
    known: set[str] = set()

    def replaced(values: Mapping[str, Any]) -> dict[str, Any]:
        known.update(name for name, value in values.items() if not isinstance(value, dict))
        return {
            name: replaced(value) if isinstance(value, dict) else overrides.get(name, value)
            for name, value in values.items()
        }

    whole = replaced(defaults)
    for name in overrides:
        if name not in known:
            raise ValueError(f"configs have no {name!r}; {nearest(name, known)}")
    return whole


def parse_arg(arg: str | None, **defaults: Any) -> ConfigDict:
    """The arguments after the colon in `--config file.py:variant=B/16,smoke`, with defaults for those not given.

    A name alone sets a boolean to true; values are converted to the type of their default. A value that holds commas
    stands in quotes, `dataset='generated_faces:size=48,train=64'`, and one that begins with `~` is in the home folder.

    Raises:
        ValueError: a name is unknown, a value of another type, or a quote not closed.
    """
    values, before = dict(defaults), ""
    for name, text in _items(arg or ""):
        if name not in defaults:
            hint = nearest(name, defaults)
            if before and not hint.startswith("did you mean"):
                hint += f"; if it belongs to {before}, put that value in quotes: {before}='...'"
            raise ValueError(f"config argument {name!r} is not known; {hint}")
        kind = type(defaults[name])
        if kind is bool:
            if (text or "").lower() not in ("", "true", "false", "0", "1"):
                raise ValueError(f"config argument {name} is true or false, not {text!r}")
            values[name] = (text or "").lower() in ("", "true", "1")
        elif text is None:
            raise ValueError(f"config argument {name} needs a value: {name}={defaults[name]}")
        else:
            try:
                values[name] = kind(os.path.expanduser(text))
            except ValueError:
                raise ValueError(f"config argument {name} is of type {kind.__name__}, not {text!r}") from None
        before = name if text else ""
    return ConfigDict(values)


def _items(arg: str) -> Iterator[tuple[str, str | None]]:
    """Names and values of `a=1,b,c='x,y'`; the value is None for a name alone."""
    for item in ITEM.finditer(arg):
        name, value = item["name"], item["value"]
        if value and value.startswith(QUOTES):
            if len(value) == 1 or value[-1] != value[0]:
                raise ValueError(f"config argument {name}: the quote is not closed in {value}")
            value = value[1:-1]
        if name or value is not None:
            yield name, value


def quoted(value: object) -> str:
    """A value as `parse_arg` takes it: in quotes if it holds commas, or begins with a quote."""
    text = str(value)
    if "," not in text and not text.startswith(QUOTES):
        return text
    quote = QUOTES[0] if QUOTES[0] not in text else QUOTES[1]
    return f"{quote}{text}{quote}"


def pick(what: str, name: str, choices: Mapping[str, Any]) -> Any:
    """The choice of this name. Raises ValueError if there is none; its message calls the quantity `what`."""
    if name not in choices:
        raise ValueError(f"{what} is {' or '.join(choices)}, not {name!r}")
    return choices[name]


def plain(config: Any) -> Any:
    """A config as JSON data: placeholders become null, and tuples become lists."""
    if isinstance(config, ConfigDict):
        config = config.to_dict()
    if isinstance(config, Mapping):
        return {key: plain(value) for key, value in config.items()}
    return [plain(value) for value in config] if isinstance(config, tuple | list) else config


def difference(old: Any, new: Any, path: str = "") -> list[str]:
    """A line `path: old -> new` for each place where two plain configs differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in sorted({*old, *new}):
            lines += difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
        return lines
    return [] if old == new else [f"{path}: {old} -> {new}"]
