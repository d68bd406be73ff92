"""`facerep convert`: what it writes is read again and means the same encoder, and what cannot be said is refused.

What the libraries of the layouts make of these files: tests/parity/test_convert.py.
"""

import json

import jax.numpy as jnp
import numpy as np
import pytest

from facerep_jax import cli, weights
from facerep_jax.train import handover
from facerep_jax.train.model import arrays_of
from facerep_jax.typing import View
from facerep_jax.weights._torch_save import save
from tests.contracts.whole_way import probe
from tests.parity import exports, layouts


@pytest.fixture(scope="module")
def farl(tmp_path_factory):
    """A file as FaRL's: a whole state dict, with a branch for masked tokens, below `state_dict`."""
    file = tmp_path_factory.mktemp("farl") / "farl.pth"
    masked = {"visual.mask_token": np.zeros(128, np.float32), "visual.lm_head.weight": np.zeros((8, 128), np.float32)}
    save({"state_dict": exports.clip() | masked, "epoch": 16}, file)
    return file


def convert(*words):
    return cli.main(["facerep", "convert", *map(str, words)])


@pytest.mark.parametrize("layout", ["auto", "safetensors", "farl", "hf_clip", "open_clip", "timm"])
def test_an_encoder_comes_back_from_each_layout(farl, tmp_path, layout, capsys):
    folder = tmp_path / "out"
    assert convert(farl, folder, f"--layout={layout}") == 0
    said = capsys.readouterr()
    assert "layout farl; 31 arrays read" in said.err
    assert "2 left out: FaRL's prediction of masked tokens; left out beside state_dict: epoch" in said.err
    (file,) = (path for path in folder.iterdir() if path.suffix in (".safetensors", ".pth"))
    there, again = (
        handover.encoder(str(farl)),
        handover.encoder(f"{file}@{'safetensors' if layout == 'auto' else layout}"),
    )
    assert again.origin["digest"] == there.origin["digest"]
    handover.require_same_settings(again.encoder, there.encoder, "it")
    card = (folder / "README.md").read_text()
    assert there.origin["digest"] in card
    assert "| taken from | farl.pth |" in card


def test_our_own_layout_is_recognised_and_holds_what_no_other_says(tmp_path):
    arrays = layouts.state_of("timm_wide")
    file = tmp_path / "wide.pth"
    save(arrays, file)
    assert convert(file, tmp_path / "out") == 0
    there, again = (handover.encoder(str(path)) for path in (file, tmp_path / "out" / "model.safetensors"))
    assert again.origin["weights"] == "safetensors"
    assert dict(again.spec) == dict(there.spec)
    image = jnp.asarray(layouts.image(layouts.SIZE))
    np.testing.assert_array_equal(again.encoder(View(image)).pooled, there.encoder(View(image)).pooled)


def test_a_file_of_ours_names_encoders_of_this_package_only(tmp_path):
    spec = json.dumps({"call": "os:mkdir", "path": str(tmp_path / "made")}).encode()
    arrays = {"encoder.json": np.frombuffer(spec, np.uint8), "x": np.zeros(3)}
    with pytest.raises(ValueError, match=r"names 'os:mkdir', an encoder facerep_jax\.models\.MODULE:CLASS is"):
        weights.load("safetensors").encoder(arrays)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--layout=hf_clp"], "no layout 'hf_clp' of weights; did you mean 'hf_clip'?"),
        (["--layout=moco"], "moco has no `exported`: it can only be read"),
        (["--layout=dinov2"], "no array 'blocks/attention_scale'"),
        (["--layout=hf_siglip"], "no array 'attention_pool/"),
    ],
)
def test_what_cannot_be_written_is_refused_and_nothing_is_left(farl, tmp_path, words, message, capsys):
    assert convert(farl, tmp_path / "out", *words) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert message in said
    assert not (tmp_path / "out").exists()


def test_wrong_words_are_named(farl, tmp_path, capsys):
    for words, message in (
        ([farl], "from where to where?"),
        ([tmp_path / "none", tmp_path / "out"], "none"),
        ([farl, tmp_path], "is there already; give a new folder"),
        ([f"{farl}@mae", tmp_path / "out"], "; its arrays are of the layout farl"),
    ):
        assert convert(*words) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_positions_are_resized_for_the_images_of_a_pretraining(farl, capsys):
    handed = handover.encoder(str(farl))
    ours = handover.empty_encoder({**handed.spec, "image_size": 48}, "float32", "none")
    larger = handover.for_images_of(handed, ours)
    assert "positions for 32 pixels resized for 48" in capsys.readouterr().err
    assert larger.encoder.positions.shape == (37, 128)
    handover.require_same_settings(larger.encoder, ours, "it")
    image = jnp.asarray(layouts.image(48))
    np.testing.assert_allclose(larger.encoder(View(image)).pooled, handed.encoder(View(image)).pooled, atol=1e-5)
    same = handover.for_images_of(handed, handed.encoder)
    assert same is handed
    assert {path: x.shape for path, x in arrays_of(ours).items()} == {
        path: x.shape for path, x in arrays_of(larger.encoder).items()
    }


def test_a_file_of_farl_is_judged_without_a_word_about_its_architecture(farl, tmp_path):
    results = probe(str(farl), tmp_path)
    assert results["checkpoint"]["weights"] == "farl"
    assert results["config"]["data"]["size"] == 32
