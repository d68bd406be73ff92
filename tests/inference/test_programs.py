"""Networks as programs of `jax.export`, against what this package makes of the same images, and what is refused.

The same for ONNX: tests/inference/test_onnx.py.
"""

import importlib.util
import sys

import jax
import numpy as np
import pytest
from flax import nnx

from facerep_jax import cli
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.evaluation.tasks.parsing import Parsing
from facerep_jax.inference import programs
from facerep_jax.inference.loading import Loaded, box_crop
from facerep_jax.inference.model import Model
from facerep_jax.weights._torch_save import save
from tests.evaluation.problems import SIZE, make_encoder
from tests.parity import exports

PIXELS = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
CLASSES = ("background", "skin", "hair")
written = pytest.mark.skipif(
    not importlib.util.find_spec("flatbuffers"), reason="flatbuffers is not installed; the extra `export` has it"
)


def filled_with_noise(task):
    """The task with numbers in its head, which begins at 0 or 1."""
    rng = np.random.default_rng(1)
    for path, variable in nnx.to_flat_state(nnx.state(task)):
        least = -0.5 if path[-1] == "kernel" else 0
        variable.set_value(variable.get_value() + rng.uniform(least, 0.5, variable.shape).astype(np.float32))
    return task


def loaded(task="", *, rounds=False, **settings):
    encoder = make_encoder(**settings)
    meta = {"classes": CLASSES}
    given = dict(image_size=SIZE, meta=meta, rngs=nnx.Rngs(params=0))
    built = None
    if task == "landmarks":
        built = filled_with_noise(Landmarks(encoder, taps=(0.5, 1.0), label_shape=(5, 2), **given))
    elif task == "mask":
        built = filled_with_noise(Parsing(encoder, taps=(1.0,), **given))
    return Loaded("here", encoder, built, rounds, meta, SIZE, "digest", (box_crop(0.25),), "box" if task else "")


def run(program):
    return jax.export.deserialize(bytearray(program.content)).call


@written
def test_features_are_those_that_embed_gives():
    what = loaded()
    program = programs.written(programs.STABLEHLO, what)
    here = Model(what, devices=1).features(PIXELS, names=("pooled", "tokens"))
    for count in (1, 3):
        there = run(program)(PIXELS[:count])
        assert there.keys() == here.keys()
        for name, found in there.items():
            np.testing.assert_allclose(found, here[name][:count], atol=1e-5)


@written
@pytest.mark.parametrize("rounds", [False, True])
def test_points_are_those_that_predict_gives(rounds):
    what = loaded("landmarks", rounds=rounds)
    there = run(programs.written(programs.STABLEHLO, what))(PIXELS)
    here = Model(what, devices=1).predict(PIXELS)
    assert np.ptp(there["landmarks"], axis=0).max() > 0.1
    np.testing.assert_allclose(there["landmarks"], [each["landmarks"] for each in here], atol=1e-3)


@written
def test_classes_are_those_that_predict_gives_and_the_card_names_them():
    what = loaded("mask")
    program = programs.written(programs.STABLEHLO, what)
    there = np.asarray(run(program)(PIXELS)["mask"])
    here = np.stack([each["mask"] for each in Model(what, devices=1).predict(PIXELS)])
    assert there.dtype == np.uint8
    assert len(np.unique(there)) > 1
    assert (there == here).mean() > 0.999
    text = "\n".join(programs.described(program, what))
    assert f"`images` are uint8, RGB, (batch, {SIZE}, {SIZE}, 3)" in text
    assert "cut out the face's box and 0.25 of it on each side" in text
    assert f"| `mask` | uint8, (batch, {SIZE}, {SIZE}) | the class of each pixel" in text
    assert "Classes: 0 background, 1 skin, 2 hair." in text


def test_a_program_that_gives_something_else_is_refused():
    function = jax.jit(programs.function_of(loaded()))

    def other(images):
        outputs = function(images)
        return outputs | {"pooled": outputs["pooled"] + 1e-3 * np.abs(outputs["pooled"]).max()}

    with pytest.raises(ValueError, match=r"model\.onnx gives another pooled than the network"):
        programs.require_same(function, other, SIZE, "model.onnx")
    with pytest.raises(ValueError, match=r"model\.onnx gives pooled as float32 \(2,\), not float32 \(2, 32\)"):
        programs.require_same(
            function, lambda x: function(x) | {"pooled": function(x)["pooled"][:, 0]}, SIZE, "model.onnx"
        )


@pytest.fixture(scope="module")
def farl(tmp_path_factory):
    file = tmp_path_factory.mktemp("farl") / "farl.pth"
    save({"state_dict": exports.clip()}, file)
    return file


def convert(*words):
    return cli.main(["facerep", "convert", *map(str, words)])


@written
def test_the_command_line_writes_one_with_a_card(farl, tmp_path):
    assert convert(farl, tmp_path / "out", "--layout=stablehlo", "--size=48") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["README.md", "model.stablehlo"]
    program = jax.export.deserialize(bytearray((tmp_path / "out" / "model.stablehlo").read_bytes()))
    assert set(program.platforms) == {"cpu", "cuda", "tpu"}
    assert program.call(np.zeros((2, 48, 48, 3), np.uint8))["tokens"].shape == (2, 36, 128)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| taken from | farl.pth |" in card
    assert "(batch, 48, 48, 3)" in card
    assert "Licence: " in card


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--layout=onnx"],
            "onnx needs packages (import of onnx halted; None in sys.modules): pip install 'facerep_jax[export]'",
        ),
        (["--layout=stablehlo"], "stablehlo needs a package"),
        (["--layout=onxx"], "no layout 'onxx' of weights; did you mean 'onnx'?"),
        (["--layout=timm", "--size=48"], "--size is for programs, stablehlo and onnx"),
        (["--layout=stablehlo", "--size=20"], "an image of 20 x 20 pixels is no grid of patches of 8 x 8"),
    ],
)
def test_what_cannot_be_written_is_told_in_one_line(farl, tmp_path, flags, message, monkeypatch, capsys):
    for package in ("onnx", "flatbuffers"):
        monkeypatch.setitem(sys.modules, package, None)
    assert convert(farl, tmp_path / "out", *flags) == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()
