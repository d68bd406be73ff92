"""When the command that runs began: imports are part of what a start costs."""

import time

_began = time.monotonic()


def start() -> None:
    """A command begins now."""
    global _began
    _began = time.monotonic()


def began() -> float:
    """When the command began, by time.monotonic()."""
    return _began
