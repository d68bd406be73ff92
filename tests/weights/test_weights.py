"""How layouts are named, found and recognised; each layout's own test says what it reads."""

import json
import os
import pickle
import re
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from absl import logging

from facerep_jax import torch_files, weights
from facerep_jax.config import plain, spec
from facerep_jax.models.vit import ViT
from facerep_jax.weights import dalle, open_clip, open_clip_gelu, timm
from facerep_jax.weights._torch_save import save
from tests.parity import dvae
from tests.weights import small_timm, test_open_clip, test_timm

STATES = {
    dalle: dvae.published("encoder", channels=4, blocks=1, codes=8),
    open_clip: test_open_clip.described(64, 2, 8, 4),
    timm: test_timm.described(64, 2, 8, 4),
}


def test_layouts_are_the_modules_of_the_package_that_hold_all_functions():
    assert {"dalle", "farl", "hf_clip", "open_clip", "open_clip_gelu", "timm"} < {*weights.names()}
    for name in weights.names():
        layout = weights.load(name)
        assert all(callable(getattr(layout, function)) for function in ("encoder", "imported")), name
        assert all(re.compile(pattern) and why for pattern, why in getattr(layout, "LEFT_OUT", {}).items()), name


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
        (timm, dict(eps=1e-5), "weights.timm cannot say that eps is 1e-05: its reader would take 'the default'"),
        (timm, dict(heads=4), "weights.timm cannot say that heads is 4: its reader would take 1"),
        (open_clip, dict(heads=4), "cannot say that heads is 4"),
        (open_clip, dict(flavour="clip_gelu"), "cannot say that flavour is 'clip_gelu': its reader would take 'clip'"),
        (open_clip, dict(mean=(0.5, 0.5, 0.5)), "cannot say that mean is .* its reader would take 'the default'"),
    ],
)
def test_what_a_reader_would_guess_wrongly_is_not_exported(layout, changed, message):
    sizes = {name: value for name, value in layout.encoder(STATES[layout]).items() if name != "call"}
    ours, settings = layout.imported(STATES[layout]), plain(spec(ViT, **sizes))
    theirs = weights.exported(layout, ours, settings | {"drop_path": 0.1})
    assert layout.imported(theirs).keys() == ours.keys()
    with pytest.raises(ValueError, match=message):
        weights.exported(layout, ours, settings | changed)


def test_a_layout_without_a_way_back_is_only_read():
    with pytest.raises(ValueError, match="stranger has no `exported`: it can only be read"):
        weights.exported(weights.load("tests.contracts.stranger"), {}, {})


def test_arrays_of_no_layout_are_refused_with_the_names_of_all():
    with pytest.raises(ValueError, match=r"the layout of the weights is not known \(its arrays are x\)") as refused:
        weights.recognised({"x": np.zeros(3)})
    assert f"give FILE@LAYOUT: {', '.join(weights.names())}" in str(refused.value)


def test_arrays_that_resemble_a_layout_name_it_and_what_is_wrong():
    almost = {name: x for name, x in STATES[timm].items() if name != "blocks.1.mlp.fc2.bias"}
    with pytest.raises(ValueError, match=r"it resembles \w+, but: no array 'blocks\.1\.mlp\.fc2\.bias'"):
        weights.recognised(almost)


@pytest.mark.parametrize(
    ("names", "what"),
    [
        (("base.blocks.0.attn.qkv.lora_A.weight", "base.blocks.0.attn.qkv.lora_B.weight"), "of a network by LoRA"),
        (("head.weight", "head.bias"), "a head without an encoder"),
        (("fc.weight",), "a head without an encoder"),
    ],
)
def test_what_is_no_encoder_is_said(names, what):
    with pytest.raises(ValueError, match=what):
        weights.recognised({name: np.zeros((2, 2)) for name in names})


def test_a_wrong_layout_suggests_the_one_that_fits():
    assert weights.suggestion(STATES[timm], "open_clip") == "; its arrays are of the layout timm"
    assert weights.suggestion(STATES[timm], "timm") == weights.suggestion({"x": np.zeros(3)}, "timm") == ""


def test_a_report_counts_what_is_read_left_out_and_cast():
    given = STATES[timm] | {"head.weight": np.zeros((3, 64)), "head.bias": np.zeros(3)}
    given |= {"norm.weight": np.ones(64, np.float16), "norm.bias": np.ones(64, ml_dtypes.bfloat16)}
    said = weights.report(timm, given, timm.imported(given))
    assert said.startswith(f"{len(given) - 2} arrays read as ")
    assert said.endswith("; bfloat16 and float16 made float32; 2 left out: a classifier")


def test_a_file_is_read_by_name_and_another_kind_is_refused(tmp_path):
    file = tmp_path / "some.safetensors"
    safetensors.numpy.save_file({"x": np.arange(3)}, file)
    np.testing.assert_array_equal(weights.read(file)["x"], np.arange(3))
    file.write_text("no tensors, but more than eight bytes of text")
    with pytest.raises(ValueError, match=r"some\.safetensors is no safetensors file: "):
        weights.read(file)


@pytest.mark.parametrize(
    "header",
    [
        {"x": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}},  # more than there is
        {"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 8]}},  # another size than its shape's
        {"x": {"dtype": "F32", "shape": [1 << 62, 8], "data_offsets": [0, 12]}},
        {"x": {"dtype": "F99", "shape": [3], "data_offsets": [0, 12]}},
        {"x": 3},
    ],
)
def test_a_header_that_lies_is_refused(tmp_path, header):
    text, file = json.dumps(header).encode(), tmp_path / "lies.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(12))
    with pytest.raises(ValueError, match=r"lies\.safetensors is no safetensors file: "):
        weights.read(file)


def test_a_file_of_torch_is_read_without_what_wraps_its_arrays(tmp_path):
    file = tmp_path / "run.pth"
    inside = {f"module.{name}": np.ascontiguousarray(x) for name, x in STATES[timm].items()}
    save({"state_dict": inside, "epoch": 3, "optimizer": {"state": {}, "param_groups": [1]}}, file)
    arrays, notes = weights.contents(file)
    assert arrays.keys() == STATES[timm].keys()
    np.testing.assert_array_equal(arrays["pos_embed"], STATES[timm]["pos_embed"])
    assert notes == ("left out beside state_dict: epoch, optimizer",)
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=r"run\.pth cannot be read as a file of torch\.save"):
        weights.contents(file)


def test_a_module_of_torchscript_is_a_state_dict():
    inner = torch_files.Inert("__torch__.B", (), {"weight": np.ones(2), "training": True})
    outer = torch_files.Inert("__torch__.A", (), {"conv": inner, "scale": np.ones(()), "size": 3})
    assert weights.unwrapped(outer).arrays.keys() == {"conv.weight", "scale"}
    with pytest.raises(ValueError, match=r"a dict of arrays is expected, not an object of some\.Class"):
        weights.unwrapped(torch_files.Inert("some.Class", (), {}))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ([1, 2], "a dict of arrays is expected, not list"),
        ({"epoch": 3}, "it holds no arrays; at its top are epoch"),
        ({"state_dict": {}}, "it holds no arrays; at its top are state_dict"),
    ],
)
def test_a_file_without_arrays_is_refused(tmp_path, tree, message):
    save(tree, tmp_path / "none.pth")
    with pytest.raises(ValueError, match=rf"none\.pth: {message}"):
        weights.contents(tmp_path / "none.pth")


class Hostile:
    """What a pickle can ask of its reader."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_hostile_file_runs_nothing_and_is_refused_by_name(tmp_path):
    file, made = tmp_path / "hostile.pth", tmp_path / "made"
    content = pickle.dumps({"state_dict": {"x": Hostile(str(made))}}, protocol=2)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    with pytest.raises(ValueError, match=r"hostile\.pth .* it asks for posix\.mkdir, which is not allowed"):
        weights.contents(file)
    assert not made.exists()
