"""Predictions of evaluations, against what these wrote and scored themselves.

Planted and seen red: points that are left in pixels of the crop.
"""

import io
import json

import jax
import numpy as np
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from PIL import Image

import facerep_jax
from facerep_jax import cli
from facerep_jax.config import build, plain, spec
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import load
from facerep_jax.evaluation.learnt import FILE
from facerep_jax.evaluation.metrics import score
from facerep_jax.inference import faces
from facerep_jax.inference.loading import BOX
from facerep_jax.models.vit import ViT
from facerep_jax.train.model import arrays_of
from facerep_jax.weights.safetensors import exported
from tests.evaluation.problems import make_encoder

DRAWN = "generated_faces:size=64,train=24,validation=8,test=6"
SIZE = 32


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """An encoder in a file of our own layout."""
    described = plain(spec(ViT, variant="Nano/8", image_size=SIZE, width=32, depth=2, heads=2))
    arrays = {path: np.asarray(x) for path, x in arrays_of(make_encoder()).items()}
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    safetensors.numpy.save_file(exported(arrays, described), path)
    return path


@pytest.fixture(scope="module")
def evaluated(weights, tmp_path_factory):
    """A function (task, flags) -> the workdir of an evaluation, each made once."""
    made = {}

    def workdir(task, arguments="protocol=ridge", *flags):
        key = (task, arguments, flags)
        if key not in made:
            made[key] = tmp_path_factory.mktemp("evaluated") / task
            config = f"configs/evaluate/{task}.py:fraction=0.5,small,{arguments}"
            own = (f"--config.data.dataset={DRAWN}", "--config.seeds=(0, 1)", "--config.baselines=()")
            where = (f"--checkpoint={weights}", f"--workdir={made[key]}")
            assert cli.main(["facerep", "evaluate", f"--config={config}", *where, *own, *flags]) == 0
        return made[key]

    return workdir


def predict(*words, status=0):
    assert cli.main(["facerep", "predict", *map(str, words)]) == status


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def refused(capsys):
    """The one line that a command of bad input leaves; it names nothing half-written."""

    def line(command, *words):
        capsys.readouterr()
        assert cli.main(["facerep", command, *map(str, words)]) == 2
        err = capsys.readouterr().err
        assert "Traceback" not in err
        return err.strip().splitlines()[-1]

    return line


def split(name):
    return open_dataset(DRAWN, "nowhere").source(name)


def test_landmarks_of_the_test_split_score_as_the_evaluation_did(evaluated, tmp_path, capsys):
    """By the definition of the error, in pixels of the whole picture, from what the command wrote."""
    workdir, out = evaluated("landmarks"), tmp_path / "out"
    predict("--dataset", DRAWN, "--checkpoint", workdir, "--out", out)
    lines = {line["id"]: line for line in lines_of(out / "predictions.jsonl")}
    errors = []
    for record in split("test"):
        line, (x0, y0, x1, y1) = lines[record["id"].decode()], record["bbox"].astype(np.float64)
        found = np.array(line["landmarks"])
        errors.append(np.linalg.norm(found - record["landmarks"], axis=1).mean() / np.sqrt((x1 - x0) * (y1 - y0)))
        assert line["size"] == [64, 64]
        np.testing.assert_allclose(line["bbox"], record["bbox"], atol=1e-3)
    results = json.loads((workdir / "results.json").read_text())
    assert len(errors) == 6
    assert np.mean(errors) == pytest.approx(results["metrics"]["nme_box"]["values"][0], rel=1e-4)
    assert results["metrics"]["nme_box"]["values"][1] != pytest.approx(np.mean(errors), rel=1e-2)
    said = capsys.readouterr().out
    assert "faces' boxes and a margin of 0.25 of them on each side, CropToBox to 32 x 32 pixels; less 0.481" in said
    assert f"{out}: 6 faces, see predictions.jsonl" in said
    assert sorted(path.name for path in out.iterdir()) == ["overlays", "predictions.jsonl"]
    for line in lines.values():
        with Image.open(out / line["overlay"]) as overlay:
            assert overlay.size == (640, 640)


def test_what_was_learnt_leaves_as_a_program(evaluated, tmp_path):
    """It gives the points of `load(...).predict` in pixels of the square; its card says what it learnt from."""
    pytest.importorskip("flatbuffers")
    workdir, out = evaluated("landmarks"), tmp_path / "out"
    assert cli.main(["facerep", "convert", str(workdir), str(out), "--layout=stablehlo"]) == 0
    program = jax.export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    images = np.stack(
        [np.asarray(Image.open(io.BytesIO(each["image"])).resize((SIZE, SIZE))) for each in split("test")]
    )
    found = program.call(images)["landmarks"]
    predicted = facerep_jax.load(workdir).predict(images)
    np.testing.assert_allclose(found, [each["landmarks"] for each in predicted], atol=1e-2)
    results, card = json.loads((workdir / "results.json").read_text()), (out / "README.md").read_text()
    value = 100 * np.mean(results["metrics"]["nme_box"]["values"])
    assert f"| nme_box | {value:.2f}%, 6 test images" in card
    assert f"| learnt from | {results['labels']} labels of {DRAWN}, by ridge |" in card


@pytest.mark.parametrize(
    ("arguments", "flags"),
    [
        ("protocol=linear_probe", ("--config.protocol.steps=8", "--config.protocol.rounds=2")),
        *[
            pytest.param(
                f"protocol={name}", ("--config.protocol.steps=4", "--config.protocol.rounds=2"), marks=pytest.mark.slow
            )
            for name in ("finetune", "lora")
        ],
    ],
)
def test_classes_of_the_test_split_score_as_the_evaluation_did(evaluated, arguments, flags):
    """Also where the encoder learnt with the head."""
    workdir = evaluated("parsing", arguments, *flags, "--config.devices=1")
    results = json.loads((workdir / "results.json").read_text())
    model = facerep_jax.load(workdir)
    transforms = model.loaded.transforms(BOX)
    dataset = open_dataset(DRAWN, "nowhere")
    found = [*model.run(faces.in_dataset(dataset, "test", transforms), transforms, predicts=True)]
    prediction = np.stack([each.outputs["prediction"] for each in found])
    test = load(dataset.source("test"), transforms, ("image", "mask"))
    assert [each.face.id for each in found] == test["id"]
    metric = build(results["metric"])
    value = score(metric, metric.rows(prediction, test).statistics)["f1_mean_foreground"]
    assert value == pytest.approx(results["metrics"]["f1_mean_foreground"]["values"][0], abs=2e-3)
    kept = [row for row in pq.read_table(workdir / "predictions.parquet").to_pylist() if row["encoder"] == "encoder"]
    of = {row["id"]: np.asarray(Image.open(io.BytesIO(row["prediction"]))) for row in kept if row["subset"] == 0}
    assert np.mean(prediction == np.stack([of[name] for name in test["id"]])) > 0.999
    trained = safetensors.numpy.load_file(workdir / FILE).keys()
    assert any(path.startswith("encoder/") for path in trained) == ("linear_probe" not in arguments)


def test_masks_are_as_large_as_the_pictures(evaluated, tmp_path):
    workdir = evaluated("parsing", "protocol=linear_probe", "--config.protocol.steps=8", "--config.protocol.rounds=2",
                        "--config.devices=1")  # fmt: skip
    record = split("test")[0]
    Image.open(io.BytesIO(record["image"])).resize((100, 50)).save(tmp_path / "wide.png")
    predict(tmp_path / "wide.png", "--checkpoint", workdir, "--out", tmp_path / "out", "--overlays=0")
    (line,) = lines_of(tmp_path / "out" / "predictions.jsonl")
    mask = np.asarray(Image.open(tmp_path / "out" / line["mask"]))
    assert mask.shape == (50, 100)
    assert line["size"] == [100, 50]
    assert line["crop"] == [[-0.5, -0.5], [99.5, -0.5], [99.5, 49.5], [-0.5, 49.5]]
    assert mask.max() < 11
    assert not (tmp_path / "out" / "overlays").exists()
    (again,) = facerep_jax.load(workdir).predict([tmp_path / "wide.png"])
    np.testing.assert_array_equal(again["mask"], mask)


def test_points_are_of_the_upright_picture_and_what_is_broken_is_skipped(evaluated, tmp_path, capsys):
    """A picture that its EXIF turns gives the points of the one that lies as it is meant."""
    workdir, folder = evaluated("landmarks"), tmp_path / "photos"
    folder.mkdir()
    upright = Image.open(io.BytesIO(split("test")[1]["image"])).convert("RGB").resize((90, 60))
    upright.save(folder / "a_upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    upright.rotate(90, expand=True).save(folder / "b_turned.png", exif=exif)
    upright.save(folder / "c_cut.jpg")
    (folder / "c_cut.jpg").write_bytes((folder / "c_cut.jpg").read_bytes()[:1500])
    predict(folder, "--checkpoint", workdir, "--out", tmp_path / "out", status=1)
    one, two = lines_of(tmp_path / "out" / "predictions.jsonl")
    assert one["size"] == two["size"] == [90, 60]
    assert one["bbox"] is None
    np.testing.assert_array_equal(one["landmarks"], two["landmarks"])
    points = np.array(one["landmarks"])
    assert np.ptp(points[:, 0]) > np.ptp(points[:, 1]) > 5  # the picture is wider than high, and so is the face
    (skipped,) = lines_of(tmp_path / "out" / "skipped.jsonl")
    assert skipped["id"] == str(folder / "c_cut.jpg")
    assert "Premature end" in skipped["reason"]
    out = capsys.readouterr().out
    assert f"2 faces, see predictions.jsonl; 1 skipped, see {tmp_path / 'out' / 'skipped.jsonl'}: " in out
    assert "note: it learnt from boxes of faces, which these are not" in out
    by_hand = facerep_jax.load(workdir).predict([upright])
    np.testing.assert_allclose(by_hand[0]["landmarks"], points, atol=1e-3)


def test_faces_that_are_detected_are_those_of_their_boxes(evaluated, tmp_path):
    workdir, folder = evaluated("landmarks"), tmp_path / "photos"
    folder.mkdir()
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[8:24, 10:26], pixels[20:50, 40:76] = 250, 180
    Image.fromarray(pixels).save(folder / "a.png")
    Image.fromarray(np.zeros_like(pixels)).save(folder / "dark.png")
    (tmp_path / "boxes.jsonl").write_text(
        "".join(
            json.dumps({"image": str(folder / "a.png"), "bbox": box}) + "\n"
            for box in ([9.5, 7.5, 25.5, 23.5], [39.5, 19.5, 75.5, 49.5])
        )
    )
    boxes = ("--boxes", tmp_path / "boxes.jsonl", "--checkpoint", workdir, "--out", tmp_path / "boxes")
    predict(*boxes)
    detector = ("--detect", "--detector=tests.contracts.brightest:Brightest")
    predict(folder, *detector, "--checkpoint", workdir, "--out", tmp_path / "found", status=1)
    assert lines_of(tmp_path / "found" / "predictions.jsonl") == lines_of(tmp_path / "boxes" / "predictions.jsonl")
    (skipped,) = lines_of(tmp_path / "found" / "skipped.jsonl")
    assert skipped == {"id": str(folder / "dark.png"), "reason": "no face is found in it"}


def test_attributes_have_probabilities_and_poses_angles(evaluated, tmp_path):
    meta = open_dataset(DRAWN, "nowhere").meta
    path = tmp_path / "faces.jsonl"
    record = split("test")[0]
    (tmp_path / "face.png").write_bytes(record["image"])
    path.write_text(json.dumps({"image": "face.png", "bbox": record["bbox"].tolist(), "id": "../one face"}) + "\n")
    for task in ("attributes", "head_pose"):
        predict("--boxes", path, "--checkpoint", evaluated(task), "--out", tmp_path / task)
    (line,) = lines_of(tmp_path / "attributes" / "predictions.jsonl")
    assert list(line["attributes"]) == list(meta["attributes"])
    kept = pq.read_table(evaluated("attributes") / "predictions.parquet").to_pylist()
    (scores,) = [
        row["prediction"]
        for row in kept
        if (row["id"], row["subset"], row["encoder"]) == (record["id"].decode(), 0, "encoder")
    ]
    np.testing.assert_allclose([*line["attributes"].values()], 1 / (1 + np.exp(-np.array(scores))), atol=2e-4)
    (line,) = lines_of(tmp_path / "head_pose" / "predictions.jsonl")
    assert list(line["head_pose"]) == ["yaw", "pitch", "roll"]
    assert line["overlay"] == "overlays/000000_face.png"
    assert line["id"] == "../one face"


def test_a_set_that_may_not_be_shown_has_no_overlays(evaluated, tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = []
    for number, record in enumerate(split("test")):
        (raw / f"{number}.png").write_bytes(record["image"])
        lines.append({"image": f"{number}.png", "bbox": record["bbox"].tolist(), "split": "test"})
    (raw / "faces.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (raw / "faces.meta.json").write_text('{"may_show_images": false}')
    data = f"--data_dir={tmp_path / 'data'}"
    assert cli.main(["facerep", "prepare", "manifest", "--name=secret", f"--manual_dir={raw}", data]) == 0
    workdir, out = evaluated("landmarks"), tmp_path / "out"
    predict("--dataset=manifest/secret", data, "--checkpoint", workdir, "--out", out)
    assert sorted(path.name for path in out.iterdir()) == ["predictions.jsonl"]
    assert "no overlays are written: images of manifest/secret may not be shown" in capsys.readouterr().out
    by_id = {line["id"]: line["landmarks"] for line in lines_of(out / "predictions.jsonl")}
    predict("--dataset", DRAWN, "--checkpoint", workdir, "--out", tmp_path / "drawn", "--overlays=0")
    drawn = [line["landmarks"] for line in lines_of(tmp_path / "drawn" / "predictions.jsonl")]
    np.testing.assert_allclose([by_id[f"{number}.png"] for number in range(6)], drawn, atol=2e-3)


def test_bad_input_is_told_in_one_line_and_leaves_nothing(evaluated, weights, refused, tmp_path):
    workdir, out = evaluated("landmarks"), tmp_path / "out"
    (tmp_path / "text.jpg").write_text("no image")
    good = ("--checkpoint", workdir, "--out", out)
    assert "no image or folder nowhere.jpg" in refused("predict", "nowhere.jpg", *good)
    assert "give images and folders, or --boxes FILE, or --dataset NAME" in refused("predict", *good)
    assert "one of these alone" in refused("predict", tmp_path, "--dataset", DRAWN, *good)
    assert "images alone have no boxes" in refused("predict", tmp_path, "--crop=box", *good)
    assert "--faces needs --detect" in refused("predict", tmp_path, "--faces=best", *good)
    assert "--detect finds boxes in images and folders" in refused("predict", "--dataset", DRAWN, "--detect", *good)
    detector = ("--detect", "--detector=no_such:Thing")
    assert "no_such" in refused("predict", tmp_path, *detector, *good)
    assert "--crop is box or whole, not 'fce'" in refused("predict", tmp_path, "--crop=fce", *good)
    assert "none of 1 faces can be read; the first is" in refused("predict", tmp_path / "text.jpg", *good)
    assert "--margin is for encoders alone" in refused("predict", tmp_path, "--margin=0.5", *good)
    assert "learnt from images of 32 pixels" in refused("predict", tmp_path, "--size=64", *good)
    only_weights = ("--checkpoint", weights, "--out", out)
    assert "holds nothing that predicts" in refused("predict", tmp_path, *only_weights)
    assert "no checkpoint in" in refused("predict", tmp_path, "--checkpoint", tmp_path / "none", "--out", out)
    assert "is there already" in refused("predict", tmp_path, "--checkpoint", workdir, "--out", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["text.jpg"]


def test_what_is_not_kept_not_there_or_not_the_same_is_told(evaluated, weights, refused, tmp_path):
    workdir = evaluated("landmarks")
    copy = tmp_path / "copy"
    copy.mkdir()
    results = json.loads((workdir / "results.json").read_text())
    where = ("predict", weights.parent, "--checkpoint", copy, "--out", tmp_path / "out")

    def tell(**changed):
        (copy / "results.json").write_text(json.dumps({**results, **changed}))

    tell(learnt={})
    assert "holds nothing that predicts" in refused(*where)
    tell()
    assert "learnt.safetensors" in refused(*where)
    learnt = (workdir / FILE).read_bytes()
    (copy / FILE).write_bytes(learnt[:-1] + bytes([learnt[-1] ^ 1]))
    assert "is not what results.json beside it tells of: evaluate again" in refused(*where)
    (copy / FILE).write_bytes(learnt)
    tell(checkpoint={**results["checkpoint"], "path": str(tmp_path / "gone.safetensors")})
    assert "evaluate with --config.keep=all" in refused(*where)
    other = {path: x + 1 if x.dtype == np.float32 else x for path, x in safetensors.numpy.load_file(weights).items()}
    safetensors.numpy.save_file(other, tmp_path / "other.safetensors")
    tell(checkpoint={**results["checkpoint"], "path": str(tmp_path / "other.safetensors")})
    assert "is another encoder than the one that" in refused(*where)


def test_a_whole_network_is_kept_where_that_is_wanted(evaluated, tmp_path):
    """It predicts where the checkpoint is gone."""
    some, whole = evaluated("landmarks"), evaluated("landmarks", "protocol=ridge", "--config.keep=all")
    results = json.loads((whole / "results.json").read_text())
    gone = {**results, "checkpoint": {**results["checkpoint"], "path": "gone.safetensors"}}
    (whole / "results.json").write_text(json.dumps(gone))
    picture = [np.asarray(Image.open(io.BytesIO(split("test")[2]["image"])))]
    one, two = (facerep_jax.load(workdir).predict(picture)[0]["landmarks"] for workdir in (some, whole))
    np.testing.assert_array_equal(one, two)
    nothing = evaluated("landmarks", "protocol=ridge", "--config.keep=nothing")
    assert not (nothing / FILE).exists()
    assert json.loads((nothing / "results.json").read_text())["learnt"] == {}
