"""How layouts are named, found and recognised; each layout's own test says what it reads."""

import re

import numpy as np
import pytest
import safetensors.numpy

from facerep_jax import weights
from facerep_jax.weights import dalle, open_clip, timm
from tests.parity import dvae
from tests.weights import small_timm, test_open_clip, test_timm

STATES = {
    dalle: dvae.published("encoder", channels=4, blocks=1, codes=8),
    open_clip: test_open_clip.described(64, 2, 8, 4),
    timm: test_timm.described(64, 2, 8, 4),
}


def test_layouts_are_the_modules_of_the_package_that_hold_all_functions():
    assert weights.names() == ["dalle", "open_clip", "timm"]
    for name in weights.names():
        layout = weights.load(name)
        assert all(callable(getattr(layout, function)) for function in ("encoder", "imported", "exported")), name


def test_a_layout_is_named_or_given_by_its_path():
    assert weights.load("timm") is timm
    assert weights.load("tests.weights.small_timm") is small_timm
    with pytest.raises(ValueError, match="no layout 'tim' of weights; did you mean 'timm'"):
        weights.load("tim")
    with pytest.raises(ValueError, match=r"no layout 'tests\.weights\.none' of weights: No module named"):
        weights.load("tests.weights.none")
    with pytest.raises(ValueError, match="no layout '_transformer'"):
        weights.load("_transformer")


@pytest.mark.parametrize("layout", STATES)
def test_a_layout_is_recognised_by_its_arrays(layout):
    assert weights.recognised(STATES[layout]) is layout
    for other in STATES.keys() - {layout}:
        with pytest.raises(ValueError, match="no array '"):
            other.encoder(STATES[layout])


def test_arrays_of_no_layout_are_refused_with_the_reason_of_each():
    with pytest.raises(ValueError) as refused:
        weights.recognised({"x": np.zeros(3)})
    message = str(refused.value)
    assert [name for name in weights.names() if f"{name}: no array '" in message] == weights.names()
    assert re.search("the layout of the weights is not known .*; give FILE@LAYOUT", message)


def test_a_file_is_read_by_name_and_another_kind_is_refused(tmp_path):
    file = tmp_path / "some.safetensors"
    safetensors.numpy.save_file({"x": np.arange(3)}, file)
    np.testing.assert_array_equal(weights.read(file)["x"], np.arange(3))
    file.write_text("no tensors, but more than eight bytes of text")
    with pytest.raises(ValueError, match=r"some\.safetensors is no safetensors file: "):
        weights.read(file)
