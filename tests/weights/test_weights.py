"""How layouts are named, found and recognised; each layout's own test says what it reads."""

import re

import numpy as np
import pytest
import safetensors.numpy
from absl import logging

from facerep_jax import weights
from facerep_jax.config import plain, spec
from facerep_jax.models.vit import ViT
from facerep_jax.weights import dalle, open_clip, open_clip_gelu, timm
from tests.parity import dvae
from tests.weights import small_timm, test_open_clip, test_timm

STATES = {
    dalle: dvae.published("encoder", channels=4, blocks=1, codes=8),
    open_clip: test_open_clip.described(64, 2, 8, 4),
    timm: test_timm.described(64, 2, 8, 4),
}


def test_layouts_are_the_modules_of_the_package_that_hold_all_functions():
    assert weights.names() == ["dalle", "insightface", "open_clip", "open_clip_gelu", "timm", "torchvision_resnet"]
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
    with pytest.raises(ValueError, match=r"json\.decoder is no layout of weights: it lacks encoder, imported"):
        weights.load("json.decoder")


@pytest.mark.parametrize("layout", STATES)
def test_a_layout_is_recognised_by_its_arrays(layout):
    assert weights.recognised(STATES[layout]) is layout
    for other in STATES.keys() - {layout}:
        with pytest.raises(ValueError, match="no array '"):
            other.encoder(STATES[layout])


def test_an_activation_that_no_array_shows_is_assumed_with_a_warning(monkeypatch):
    said = []
    monkeypatch.setattr(logging, "warning", lambda line, *values: said.append(line % values))
    weights.recognised(STATES[timm])
    assert not said
    assert weights.recognised(STATES[open_clip]) is open_clip
    assert said == [
        "weights: arrays do not tell open_clip, which is assumed, from open_clip_gelu; "
        "give FILE@open_clip or FILE@open_clip_gelu"
    ]
    assert open_clip_gelu.encoder(STATES[open_clip])["flavour"] == "clip_gelu"


@pytest.mark.parametrize(
    ("layout", "changed", "message"),
    [
        (timm, dict(image_size=32), "weights.timm cannot say that image_size is 32: its reader would take 224"),
        (timm, dict(heads=4), "weights.timm cannot say that heads is 4: its reader would take 1"),
        (open_clip, dict(heads=4), "cannot say that heads is 4"),
        (open_clip, dict(flavour="clip_gelu"), "cannot say that flavour is 'clip_gelu': its reader would take 'clip'"),
        (open_clip, dict(mean=(0.5, 0.5, 0.5)), "cannot say that mean is .* its reader would take 'the default'"),
    ],
)
def test_what_a_reader_would_guess_wrongly_is_not_exported(layout, changed, message):
    sizes = {name: value for name, value in layout.encoder(STATES[layout]).items() if name != "call"}
    if layout is timm:  # whose positions are left out
        sizes["image_size"] = 224
    ours, settings = layout.imported(STATES[layout]), plain(spec(ViT, **sizes))
    theirs = weights.exported(layout, ours, settings | {"drop_path": 0.1})
    assert layout.imported(theirs).keys() == ours.keys()
    with pytest.raises(ValueError, match=message):
        weights.exported(layout, ours, settings | changed)


def test_a_layout_without_a_way_back_is_only_read():
    with pytest.raises(ValueError, match="stranger has no `exported`: it can only be read"):
        weights.exported(weights.load("tests.contracts.stranger"), {}, {})


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
