"""Time at which the running command began, before its imports, which are part of the cost of a start."""

import time

_began = time.monotonic()


def start() -> None:
    """Note that a command begins now."""
    global _began
    _began = time.monotonic()


def began() -> float:
    """The time at which the command began, by time.monotonic()."""
    return _began
