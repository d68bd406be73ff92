"""Tests here import `published` and `freeze`, which lie beside them; pytest's importlib mode does not look there."""

import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import published

CASES = [pytest.param(case, marks=() if case[1] == "small" else pytest.mark.slow) for case in published.CASES]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request):
    """A flavour, the name of a model, and the model. Only one model is held at a time."""
    flavour, name = request.param
    return flavour, name, published.drawn(partial(published.make, flavour, name))


@pytest.fixture(scope="module")
def small():
    """The small model of each flavour."""
    return {flavour: published.drawn(partial(published.make, flavour, "small")) for flavour in ("clip", "mae")}
