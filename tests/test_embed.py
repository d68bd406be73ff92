"""Features that the command writes, against those of an evaluation's way to them."""

import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from flax import nnx
from ml_collections import ConfigDict
from PIL import Image

from facerep_jax import cli
from facerep_jax.config import plain, spec
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.data.transforms import CropToBox, RandomResizedCrop
from facerep_jax.evaluation.cache import HALF, extractor
from facerep_jax.models.vit import ViT
from facerep_jax.train.model import arrays_of
from facerep_jax.train.state import Model
from facerep_jax.weights.safetensors import exported
from tests.evaluation.problems import SIZE, make_encoder
from tests.train.tiny import TinyEncoder, TinyObjective, write_run

DRAWN = "generated_faces:size=48,train=8,validation=8,test=5"
ENCODER = make_encoder()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    described = plain(spec(ViT, variant="Nano/8", image_size=SIZE, width=32, depth=2, heads=2))
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    safetensors.numpy.save_file(exported({p: np.asarray(x) for p, x in arrays_of(ENCODER).items()}, described), path)
    return path


@pytest.fixture
def embed(capsys):
    def run(*words, status=0):
        capsys.readouterr()
        assert cli.main(["facerep", "embed", *map(str, words)]) == status
        out, err = capsys.readouterr()
        return out if status < 2 else err.strip().splitlines()[-1]

    return run


def of_the_evaluation(margin):
    """Pooled features of the test split, in half precision."""
    dataset = open_dataset(DRAWN, "nowhere")
    transforms = build_transforms([spec(CropToBox, size=SIZE, margin=margin)])
    data = load(dataset.source("test"), transforms, ("image",))
    return data["id"], extractor(ENCODER, ())(data["image"])["pooled"].astype(np.float32)


def test_features_of_a_set_are_those_of_an_evaluation(embed, weights, tmp_path):
    out = tmp_path / "new" / "faces.npz"
    said = embed("--dataset", DRAWN, "--checkpoint", weights, "--margin=0.25", "--out", out)
    ids, expected = of_the_evaluation(0.25)
    with np.load(out) as found:  # without pickles
        assert found["id"].tolist() == ids
        assert found["pooled"].dtype == np.float32
        assert (found["pooled"].astype(HALF).astype(np.float32) == expected).mean() > 0.98
        np.testing.assert_allclose(found["pooled"], expected, rtol=2**-7, atol=1e-4)
        about = json.loads(str(found["about"]))
    assert about["checkpoint"] == str(weights)
    assert about["image_size"] == SIZE
    assert len(about["encoder"]) == 64
    assert "faces' boxes and a margin of 0.25 of them on each side, CropToBox to 32 x 32 pixels" in said
    assert said.endswith(f"{out}: 5 faces, pooled 32\n")


def test_parquet_has_the_same_and_more_features(embed, weights, tmp_path):
    which = ("--dataset", DRAWN, "--checkpoint", weights, "--features=pooled,tokens,map0")
    embed(*which, "--out", tmp_path / "faces.parquet")
    embed(*which, "--out", tmp_path / "faces.npz")
    table = pq.read_table(tmp_path / "faces.parquet")
    about = json.loads(table.schema.metadata[b"facerep_jax"])
    assert about["shapes"] == {"pooled": [32], "tokens": [16, 32], "map0": [4, 4, 32]}
    with np.load(tmp_path / "faces.npz") as found:
        assert table["id"].to_pylist() == found["id"].tolist()
        for name, shape in about["shapes"].items():
            column = np.array(table[name].to_pylist(), np.float32).reshape(-1, *shape)
            np.testing.assert_array_equal(column, found[name])


def test_a_truncated_picture_is_skipped_and_counted(embed, weights, tmp_path):
    folder, out = tmp_path / "photos", tmp_path / "faces.npz"
    folder.mkdir()
    noise = Image.effect_noise((80, 60), 60).convert("RGB")
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        noise.save(folder / name)
    whole = (folder / "b.jpg").read_bytes()
    (folder / "b.jpg").write_bytes(whole[: len(whole) // 2])
    said = embed(folder, "--checkpoint", weights, "--out", out, status=1)
    listing = tmp_path / "faces.npz.skipped.jsonl"
    assert f"{out}: 2 faces, pooled 32; 1 skipped, see {listing}: {folder / 'b.jpg'}: Premature end" in said
    (line,) = map(json.loads, listing.read_text().splitlines())
    assert line["id"] == str(folder / "b.jpg")
    with np.load(out) as found:
        assert found["id"].tolist() == [str(folder / "a.jpg"), str(folder / "c.jpg")]
        np.testing.assert_array_equal(found["pooled"][0], found["pooled"][1])
    (folder / "b.jpg").write_bytes(whole)
    embed(folder, "--checkpoint", weights, "--out", out)
    assert not listing.exists()  # of an earlier call


@pytest.fixture
def config():
    transforms = (spec(CropToBox, size=8, margin=0.4, shift=0.1),)
    data = dict(transforms=transforms)
    return dict(seed=0, steps=3, dtype="float32", remat="none", ema=0.0, data=data,
                encoder=spec(TinyEncoder), objective=spec(TinyObjective))  # fmt: skip


def test_a_pretraining_brings_its_size_and_crop(embed, config, tmp_path):
    """The network is the mean colour of what it sees, turned and normalised."""
    encoder = TinyEncoder(dtype="float32", remat="none", rngs=nnx.Rngs(0))
    write_run(tmp_path / "run", ConfigDict(config), Model(encoder, TinyObjective(encoder, rngs=nnx.Rngs(1))))
    (tmp_path / "run" / "model.json").write_text('{"image_size": 8}')
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[10:28, 10:28] = (200, 100, 50)  # the box and its margin of 0.4 on each side
    Image.fromarray(pixels).save(tmp_path / "face.png")
    (tmp_path / "boxes.jsonl").write_text('{"image": "face.png", "bbox": [13.5, 13.5, 23.5, 23.5]}\n')
    where = ("--checkpoint", tmp_path / "run", "--out", tmp_path / "faces.npz")
    assert "a margin of 0.4 of them on each side, CropToBox to 8 x 8 pixels" in embed(
        "--boxes", tmp_path / "boxes.jsonl", *where
    )
    box = np.array([13.5, 13.5, 23.5, 23.5], np.float32)
    crop = CropToBox(size=8, margin=0.4)({"image": pixels, "bbox": box}, np.random.default_rng(0))["image"]
    colour = crop.mean((0, 1), dtype=np.float64) / 255
    expected = colour @ np.asarray(encoder.kernel.get_value()) / np.sqrt(1 + encoder.norm.eps)
    with np.load(tmp_path / "faces.npz") as found:
        assert found["id"].tolist() == ["face.png"]
        np.testing.assert_allclose(found["pooled"][0], expected, rtol=1e-4)
    config["data"]["transforms"] = (spec(RandomResizedCrop, size=8),)
    (tmp_path / "run" / "config.json").write_text(json.dumps(plain(ConfigDict(config))))
    assert "whole pictures, CropToBox to 8 x 8 pixels" in embed(tmp_path / "face.png", *where)


def test_bad_input_is_told_in_one_line(embed, weights, tmp_path):
    (tmp_path / "text.jpg").write_text("no image")
    where = ("--checkpoint", weights, "--out", tmp_path / "faces.npz")
    assert "--out is a file .npz or .parquet, not faces.csv" in embed(
        tmp_path, "--checkpoint", weights, "--out=faces.csv", status=2
    )
    assert "no feature 'maps' of an encoder of 2 stages" in embed(tmp_path, *where, "--features=maps", status=2)
    assert "none of 1 faces can be read" in embed(tmp_path, *where, status=2)
    assert "no records in split 'tset'" in embed("--dataset", DRAWN, "--split=tset", *where, status=2)
    assert "is not prepared in data" in embed("--dataset=manifest/none", *where, status=2)
    assert "no checkpoint in random" in embed(tmp_path, "--checkpoint=random", *where[2:], status=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.jpg"]


def test_the_package_is_imported_without_jax():
    code = "import sys, facerep_jax; print('jax' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
