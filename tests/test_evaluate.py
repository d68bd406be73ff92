import io
import json
import runpy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from ml_collections import ConfigDict
from PIL import Image

from facerep_jax import cli, lock
from facerep_jax.config import build
from facerep_jax.data.alignment import AlignToTemplate
from facerep_jax.data.library import open_dataset
from facerep_jax.data.pipeline import build_transforms, load
from facerep_jax.evaluate import headline_of, require_same_subject, save
from facerep_jax.evaluation import judgement
from facerep_jax.evaluation.encoders import Loaded, load_encoder, settled
from facerep_jax.evaluation.judgement import completed
from facerep_jax.evaluation.metrics import score
from facerep_jax.evaluation.results import PERCENT, Checkpoint, Results, Summary, name_of
from facerep_jax.evaluation.sets import Sets
from facerep_jax.face_world import META
from facerep_jax.models.vit import ViT
from facerep_jax.reporting.workdirs import read_statistics
from facerep_jax.train.model import arrays_of
from tests.processes import STEPS

DRAWN = "generated_faces:size=48,train=40,validation=12,test=16"
SHORT = ("--config.protocol.steps=12", "--config.devices=1")  # eight are slow on two cores
SMALL, RANDOM = "fraction=0.1,small", "variant=Nano/8,size=48"
TASKS = {"landmarks": "nme_box", "parsing": "f1_mean_foreground"}
LABELS = {"landmarks": "landmarks", "parsing": "mask"}
SCRATCH = ("--config.scratch.steps=4", "--config.scratch.rounds=2", "--config.scratch.batch_size=4")


def get_config(task, arguments=f"{SMALL},{RANDOM}"):
    path = Path(__file__).parents[1] / f"configs/evaluate/{task}.py"
    return runpy.run_path(str(path))["get_config"](arguments)


def evaluate(task, workdir, *flags, checkpoint="random", data=DRAWN, arguments=f"{SMALL},{RANDOM}", seeds=(0, 1)):
    config = f"configs/evaluate/{task}.py:{arguments}"
    where = (f"--config={config}", f"--checkpoint={checkpoint}", f"--workdir={workdir}")
    short = (f"--config.data.dataset={data}", f"--config.seeds={seeds}", *SHORT)
    return cli.main(["facerep", "evaluate", *where, *short, *flags])


@pytest.fixture(scope="module", params=TASKS)
def finished(request, tmp_path_factory):
    workdir = tmp_path_factory.mktemp(request.param)
    assert evaluate(request.param, workdir) == 0
    return request.param, workdir, json.loads((workdir / "results.json").read_text())


def test_results_say_what_they_are(finished):
    task, workdir, results = finished
    assert (results["task"], results["dataset"], results["protocol"]) == (task, DRAWN, "linear_probe")
    assert (results["selection"], results["fraction"], results["seeds"]) == ("validation", 0.1, [0, 1])
    assert (results["labels"], results["validation_labels"]) == (4, 10)
    assert (results["test_images"], results["checkpoint"]) == (16, "random")
    units = pq.read_table(workdir / "examples.parquet")["unit"].to_pylist()
    assert results["test_units"] == len({*units}) == 2  # people, of eight faces each
    encoder, described = results["encoder"], results["config"]["encoder"]
    assert (encoder["kind"], encoder["name"], encoder["parameters"]) == ("random", "ViT Nano/8", 469_824)
    assert encoder["architecture"] == {k: v for k, v in described.items() if k not in ViT.no_matter}
    silent = {"attention", "block_scale", "drop_path", "layer_scale", "patch_dropout", "unroll"}
    assert set(described) - set(encoder["architecture"]) == silent
    assert results["trains_encoder"] is False
    assert results["protocol_settings"]["weight_decay"] == 1e-2  # a default
    assert results["head"] == {"landmarks": "Regression (cells 7)", "parsing": "PerToken (cells 8)"}[task]
    assert {"load", "baselines", "prepare", "learn", "score"} == set(results["seconds"])
    assert results["headline"] == TASKS[task]
    assert results["config"]["protocol"]["weight_decay"] == 1e-2  # a default
    assert results["versions"]["jax"]
    headline = results["metrics"][results["headline"]]
    assert headline["mean"] == pytest.approx(np.mean(headline["values"]))
    assert len(headline["values"]) == 2


def test_a_checkout_that_is_not_installed_has_no_version_and_can_evaluate(monkeypatch):
    monkeypatch.setattr(judgement, "PACKAGES", ("numpy", "a_checkout"))
    assert judgement.versions() == {"numpy": np.__version__, "a_checkout": "not installed"}


def test_results_explain_themselves(finished):
    task, workdir, _ = finished
    words = Results.read(workdir / "results.json").words
    assert words.task.title == {"landmarks": "Landmarks", "parsing": "Parsing"}[task]
    assert (
        words.task.drawn
        == {
            "landmarks": "truth green (ring), prediction red (dot)",
            "parsing": "image, truth, prediction",
        }[task]
    )
    assert words.columns[0] == TASKS[task]
    assert list(words.protocols) == ["linear_probe"]
    assert words.metrics[0].startswith({"landmarks": "NME, normalised mean error", "parsing": "F1 of a class"}[task])
    assert (words.unit, words.per_row, words.error_limit) == ("image", True, {"landmarks": 0.07, "parsing": None}[task])


def test_the_baselines_stand_beside_it(finished):
    task, _, results = finished
    expected = {"landmarks": {"mean_shape", "linear_pixels"}, "parsing": {"most_frequent_class"}}[task]
    assert set(results["baselines"]) == expected
    for baseline in results["baselines"].values():
        assert np.isfinite(baseline["metrics"][results["headline"]]["mean"])


def test_the_statistics_of_every_example_add_up_to_the_metric(finished):
    _, workdir, results = finished
    metric = build(results["metric"])
    rows = pq.read_table(workdir / "examples.parquet").to_pylist()
    for subset, value in enumerate(results["metrics"][results["headline"]]["values"]):
        of = [r for r in rows if r["subset"] == subset and r["encoder"] == "encoder"]
        assert len(of) == 16
        assert len({(r["id"], r["unit"]) for r in of}) == 16
        assert all(r["unit"].startswith("person ") for r in of)
        statistics = np.array([r["statistics"] for r in of])
        assert score(metric, statistics)[results["headline"]] == pytest.approx(value)


def test_predictions_are_kept_and_score_as_reported(finished):
    task, workdir, results = finished
    rows = pq.read_table(workdir / "predictions.parquet").to_pylist()
    assert len(rows) == 16 * 2 * (1 + len(results["baselines"]))
    assert results["predictions"] == 16
    statistics = pq.read_table(workdir / "examples.parquet").to_pylist()
    assert [(r["id"], r["subset"], r["encoder"]) for r in rows] == [
        (r["id"], r["subset"], r["encoder"]) for r in statistics
    ]
    transforms = build_transforms([get_config(task).data.transforms[0]], size=48, whole=False)
    metric = build(results["metric"])
    source = open_dataset(DRAWN, "nowhere").source("test")
    test = load(source, transforms, ("image", LABELS[task]), optional=metric.optional)
    of = [r["prediction"] for r in rows if r["encoder"] == "encoder" and r["subset"] == 1]
    if task == "landmarks":
        prediction = np.array(of, np.float32).reshape(16, 68, 2)
    else:
        prediction = np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in of])
    value = score(metric, metric.rows(prediction, test).statistics)[results["headline"]]
    assert value == pytest.approx(results["metrics"][results["headline"]]["values"][1], rel=1e-6)


def test_parsing_may_be_scored_on_the_original_images(tmp_path):
    """As FaRL's is; the originals are drawn at 80 pixels, of which the encoder sees aligned and warped faces of 48."""
    data, arguments = DRAWN.replace("size=48", "size=80"), f"{SMALL},{RANDOM},crop=farl"
    assert evaluate("parsing", tmp_path, "--config.predictions=3", arguments=arguments, data=data, seeds=(0,)) == 0
    results, kept = Results.read(tmp_path / "results.json"), pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert results.metric["call"].endswith(":OriginalF1")
    assert "on original images" in results.words.task.title
    assert 0 < results.judged.metrics["f1_mean_foreground"].mean < 1
    transforms = build_transforms(get_config("parsing", arguments).data.transforms, META, size=48)
    assert {Image.open(io.BytesIO(row["prediction"])).size for row in kept} == {(48, 48)}
    test = load(open_dataset(data, "nowhere").source("test"), transforms, ("mask", "original_mask"))
    true = {Image.open(io.BytesIO(file)).size for file in test["original_mask"]}
    assert true == {(80, 80)}
    rows = pq.read_table(tmp_path / "examples.parquet")["statistics"].to_pylist()
    assert {sum(row[-len(META["classes"]) :]) for row in rows} == {80.0 * 80.0}  # the true pixels of all classes


def test_a_headline_that_is_not_defined_is_nan(finished):
    """As of a test set whose masks hold one class alone."""
    assert PERCENT.text(None) == "nan"
    results = Results.read(finished[1] / "results.json")
    metrics = {**results.judged.metrics, results.headline: Summary(None, None, [None, None])}
    _, line, *baselines = headline_of(replace(results, judged=replace(results.judged, metrics=metrics))).splitlines()
    assert line.split() == ["random", "nan", "±", "nan"]
    assert baselines
    assert "nan" not in "".join(baselines)


def test_the_labelled_examples_are_stored(finished):
    _, workdir, _ = finished
    subsets = json.loads((workdir / "subsets.json").read_text())
    assert [s["seed"] for s in subsets] == [0, 1]
    assert all(len(s["train"]) == 4 and len(s["validation"]) == 10 for s in subsets)  # of 12, more than a tenth
    assert subsets[0]["train"] != subsets[1]["train"]
    assert "learning_rate" in subsets[0]["selected"]


def test_pictures_show_test_faces(finished):
    _, workdir, _ = finished
    for name in ("overlays", "worst", "best", "tokens"):
        with Image.open(workdir / f"{name}.png") as picture:
            assert 800 <= picture.width <= 1200 + 8
            assert np.asarray(picture).std() > 20


def test_the_command_is_kept(finished):
    task, workdir, _ = finished
    command = (workdir / "command.txt").read_text()
    assert command.startswith("facerep evaluate --config=")
    assert f"configs/evaluate/{task}.py:{SMALL}" in command
    assert "--checkpoint=random" in command
    assert "'--config.seeds=[0, 1]'" in command


def test_the_same_again_is_the_same(finished, tmp_path):
    task, _, results = finished
    assert evaluate(task, tmp_path) == 0
    assert json.loads((tmp_path / "results.json").read_text())["metrics"] == results["metrics"]


@pytest.fixture(scope="module")
def supervised(tmp_path_factory):
    """A run with three baselines, two of which are networks, that selects on the test set."""
    workdir = tmp_path_factory.mktemp("supervised")
    flags = ("--config.fraction=0.5", "--config.selection=test_best", "--config.predictions=3", *SCRATCH)
    assert evaluate("landmarks", workdir, *flags, "--config.baselines=('mean_shape','random','scratch')") == 0
    return workdir, json.loads((workdir / "results.json").read_text())


def test_scratch_is_a_baseline_beside_the_others(supervised):
    workdir, results = supervised
    assert list(results["baselines"]) == ["random", "scratch", "mean_shape"]
    scratch = results["baselines"]["scratch"]
    assert scratch["protocol"] == "finetune"
    assert scratch["protocol_settings"]["optimizer"]["multipliers"] == []
    assert scratch["trains_encoder"] is True
    assert results["seconds"]["learn_scratch"] > 0
    values = [of["metrics"]["nme_box"]["values"] for of in (results, *results["baselines"].values())]
    assert values.pop(1) == values[0]  # `random` is what is judged here, by the same protocol
    assert len({tuple(v) for v in values}) == 3
    metric, statistics = build(results["metric"]), read_statistics(workdir, "scratch")[2]
    again = [score(metric, subset)["nme_box"] for subset in statistics]
    assert again == pytest.approx(scratch["metrics"]["nme_box"]["values"])


def test_simpler_encoders_are_baselines_by_the_same_protocol(tmp_path):
    """k-means of patches is fitted on all training images; blocks that act make another random encoder.

    Tried: k-means in a task that was made for the judged encoder; its head then has another width.
    """
    names = ("random", "random_scaled", "patch_kmeans")
    assert evaluate("landmarks", tmp_path, f"--config.baselines={names}", seeds=(0,)) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results["baselines"]) == [*names]
    values = {name: of["metrics"]["nme_box"]["mean"] for name, of in results["baselines"].items()}
    assert len({*values.values()}) == 3
    assert values["random"] == results["metrics"]["nme_box"]["mean"]
    assert {of["protocol"] for of in results["baselines"].values()} == {"linear_probe"}
    assert set(results["words"]["baselines"]) == {*names}
    assert cli.main(["facerep", "report", str(tmp_path), f"--out={tmp_path / 'page'}"]) == 0
    assert "Patch k-means: features without a network." in (tmp_path / "page" / "report.md").read_text()
    config = get_config("landmarks", "protocol=finetune,patch_kmeans")
    with pytest.raises(ValueError, match="patch_kmeans has nothing to train"):
        completed(config)


def test_a_selection_on_the_test_set_is_labelled(supervised, tmp_path, capsys):
    workdir, results = supervised
    assert results["selection"] == "test_best"
    assert (results["validation_labels"], results["baselines"]["scratch"]["validation_labels"]) == (0, 0)
    for subset, value in zip(
        json.loads((workdir / "subsets.json").read_text()), results["metrics"]["nme_box"]["values"], strict=True
    ):
        assert subset["selected"]["test"] == pytest.approx(value)
        assert subset["selected_scratch"]["step"] in (2, 4)
    assert evaluate("landmarks", tmp_path, "--config.selection=test_best", seeds=(0,)) == 0
    assert "warning: test_best selects on the test set itself" in capsys.readouterr().err


def test_few_predictions_are_kept_on_request(supervised):
    workdir, results = supervised
    rows = pq.read_table(workdir / "predictions.parquet").to_pylist()
    assert (results["predictions"], len(rows)) == (3, 3 * 2 * 4)
    ids = [r["id"] for r in pq.read_table(workdir / "examples.parquet").to_pylist()][:16]
    assert [r["id"] for r in rows][:3] == [ids[0], ids[7], ids[15]]


def test_no_image_is_written_that_may_not_be_shown(tmp_path, monkeypatch, capsys):
    def opened(name, data_dir):
        found = open_dataset(name, data_dir)
        return replace(found, meta=found.meta | {"may_show_images": False})

    monkeypatch.setattr("facerep_jax.evaluation.sets.open_dataset", opened)
    assert evaluate("landmarks", tmp_path, "--config.selection=last", "--config.protocol.learning_rates=(1e-3,)") == 0
    assert f"no sheets of test faces are written: images of {DRAWN} may not be shown" in capsys.readouterr().out
    assert not list(tmp_path.glob("*.png"))
    assert (tmp_path / "results.json").exists()


def test_a_role_is_played_by_the_split_that_the_command_line_names(tmp_path):
    flags = ("--config.data.splits.test=validation", "--config.baselines=()")
    assert evaluate("landmarks", tmp_path, *flags) == 0
    ids = {row["id"] for row in pq.read_table(tmp_path / "examples.parquet").to_pylist()}
    assert len(ids) == 12  # of the validation split, of which ten chose
    for subset in json.loads((tmp_path / "subsets.json").read_text()):
        assert set(subset["validation"]) < ids


def test_a_second_set_is_learnt_from(tmp_path, capsys):
    other = "generated_faces:world=evaluate,size=48,train=40,validation=0,test=0"
    flags, where = (f"--config.data.train_set={other}", "--config.baselines=('linear_pixels',)"), tmp_path / "result"
    test_alone = "generated_faces:size=48,train=0,validation=0,test=16"
    assert evaluate("landmarks", where, *flags, data=test_alone, arguments=f"small,{RANDOM}") == 0
    assert f"{other} has no validation split: " in capsys.readouterr().out
    results = Results.read(where / "results.json")
    assert results.dataset == f"{test_alone}, learnt from {other}"
    tested, learnt = (open_dataset(name, "nowhere") for name in (test_alone, other))
    assert results.dataset_digest == f"{tested.digest}+{learnt.digest}"
    assert {row["id"] for row in pq.read_table(where / "examples.parquet").to_pylist()} == {
        record["id"].decode() for record in tested.source("test")
    }
    (subset,) = json.loads((where / "subsets.json").read_text())
    assert {*subset["train"], *subset["validation"]} == {record["id"].decode() for record in learnt.source("train")}
    assert evaluate("landmarks", where, data=DRAWN) == 2  # a result of other data is not overwritten
    assert f"holds the result of landmarks on {results.dataset} for random" in capsys.readouterr().err


@pytest.mark.parametrize(("selection", "step"), [("validation", None), ("last", 12)])
def test_a_set_without_a_validation_split_gives_a_part_of_its_training_split(selection, step, tmp_path, capsys):
    """The default probe compares two learning rates, so that it needs one by `last` too."""
    data = "generated_faces:size=48,train=40,validation=0,test=16"
    flags = (f"--config.selection={selection}", "--config.fraction=1.0")
    assert evaluate("landmarks", tmp_path, *flags, data=data) == 0
    said = capsys.readouterr().out
    assert f"{data} has no validation split: 8 training examples are held out for it" in said  # all of one person
    assert "32 labels (100%), one subset of them" in said
    assert "(8 validation labels, held out of the training split)" in said
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["selection"], results["validation_labels"], results["held_out"]) == (selection, 8, 8)
    assert results["seeds"] == [0]
    assert np.isfinite(results["baselines"]["linear_pixels"]["metrics"]["nme_box"]["mean"])
    (subset,) = json.loads((tmp_path / "subsets.json").read_text())
    assert len({*subset["train"]} | {*subset["validation"]}) == 32 + 8
    assert step in (None, subset["selected"]["step"])


def test_the_last_step_of_one_training_needs_no_validation(tmp_path):
    data = "generated_faces:size=48,train=40,validation=0,test=16"
    flags = ("--config.selection=last", "--config.protocol.learning_rates=(1e-3,)")
    assert evaluate("landmarks", tmp_path, *flags, data=data) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["selection"], results["validation_labels"], results["held_out"]) == ("last", 0, 0)
    assert np.isfinite(results["baselines"]["linear_pixels"]["metrics"]["nme_box"]["mean"])
    (selected,) = {tuple(s["selected"].items()) for s in json.loads((tmp_path / "subsets.json").read_text())}
    assert dict(selected) == {"step": 12, "learning_rate": 1e-3}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "protocol", "head", "said"),
    [
        ("landmarks", "frozen", "head.dense", "Heatmaps (dense UPerHead (channels 8, "),
        ("parsing", "finetune", "head", "UPerHead (channels 8, "),
    ],
)
def test_farl_s_head_by_the_protocols_that_see_images(task, protocol, head, said, tmp_path):
    config = f"--config=configs/evaluate/{task}.py:head=farl,protocol={protocol},steps=4,{SMALL},{RANDOM}"
    few = ("--config.seeds=(0,)", "--config.protocol.rounds=2", "--config.protocol.batch_size=4")
    where = (f"--config.data.dataset={DRAWN}", "--checkpoint=random", f"--workdir={tmp_path}")
    assert cli.main(["facerep", "evaluate", config, f"--config.task.{head}.channels=8", *few, *where]) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["protocol"], results["protocol_settings"]["steps"]) == (protocol, 4)
    assert results["head"].startswith(said)
    assert np.isfinite(results["metrics"][TASKS[task]]["mean"])
    (subset,) = json.loads((tmp_path / "subsets.json").read_text())
    assert subset["selected"]["step"] in (2, 4)


def test_what_a_config_leaves_open_is_filled_in():
    config = ConfigDict({"selection": "last", "fraction": 1.0})
    full = completed(config)
    assert (full.selection, full.baselines, full.validation_minimum, full.predictions) == ("last", None, 10, 1000)
    assert "baselines" not in config


def test_a_checkpoint_brings_its_encoder_and_is_named(undisturbed, tmp_path, capsys):
    flags = ("--config.baselines=('random',)",)
    assert evaluate("landmarks", tmp_path, *flags, checkpoint=undisturbed, arguments=SMALL, seeds=(0,)) == 0
    assert f"  {undisturbed}@{STEPS} " in capsys.readouterr().out
    assert name_of(Checkpoint("clip.pt")) == "clip.pt"
    results = json.loads((tmp_path / "results.json").read_text())
    origin = results["checkpoint"]
    assert (origin["path"], origin["step"], origin["weights"]) == (str(undisturbed), STEPS, "params")
    assert len(origin["digest"]) == 64
    described = {key: results["encoder"][key] for key in ("kind", "name", "parameters")}
    assert described == {"kind": "pre-trained", "name": "ViT Nano/8", "parameters": 469_824}
    encoder, data = results["config"]["encoder"], results["config"]["data"]
    assert (encoder["variant"], encoder["image_size"]) == ("Nano/8", 48)
    assert (data["size"], data["crop"]) == (48, "box")
    judged, random = (of["metrics"]["nme_box"]["mean"] for of in (results, results["baselines"]["random"]))
    assert judged != random


def test_images_may_be_larger_than_those_of_the_checkpoint(undisturbed, tmp_path):
    flags = ("--config.baselines=()", "--config.selection=last", "--config.protocol.learning_rates=(1e-3,)")
    assert evaluate("landmarks", tmp_path, *flags, checkpoint=undisturbed, arguments=f"{SMALL},size=64") == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["config"]["encoder"]["image_size"], results["config"]["data"]["size"]) == (48, 64)
    with Image.open(tmp_path / "overlays.png") as picture:
        assert picture.width >= 800


def test_a_config_that_describes_the_checkpoint_s_encoder_judges_the_same(undisturbed):
    own, said = (
        load_encoder(get_config("landmarks", arguments), str(undisturbed)) for arguments in (SMALL, f"{SMALL},{RANDOM}")
    )
    assert (own.image_size, own.origin) == (said.image_size, said.origin)
    assert all(own.spec[key] == said.spec[key] for key in own.spec if key not in ViT.no_matter)
    one, other = (arrays_of(loaded.encoder) for loaded in (own, said))
    assert all(np.array_equal(one[path], other[path]) for path in (*one, *other))


def test_what_is_shown_of_an_image_is_asked_for_or_the_data_sets_to_say(tmp_path):
    dataset, loaded = open_dataset(DRAWN, "nowhere"), Loaded(None, {}, 48, "random")

    def crop(asked="", meta=None, features=dataset.features, train=None):
        config = ConfigDict({"encoder": {}, "data": {"crop": asked}})
        told = replace(dataset, meta=meta or {}, features=features)
        return settled(config, Sets(told, train or told), loaded).data.crop

    assert crop() == "box"
    assert crop(features=("id", "image")) == "whole"
    assert crop(meta={"crop": "whole"}) == "whole"
    assert crop("box", meta={"crop": "whole"}) == "box"
    config = get_config("recognition", "crop=aligned")
    shown = settled(config, Sets(dataset, dataset), loaded).data
    assert shown.crop == "aligned"
    for name in ("transforms", "augmentations"):
        (transform,) = build_transforms(shown[name], META, size=112, whole=False)
        assert type(transform) is AlignToTemplate
        np.testing.assert_allclose(transform.template[2], [56.0252, 71.7366])
    with pytest.raises(ValueError, match=r"stands in for the crop to a box, and data\.augmentations has none"):
        settled(get_config("landmarks", "head=farl,crop=aligned"), Sets(dataset, dataset), loaded)
    with pytest.raises(ValueError, match="crop is box, whole or aligned, not 'face'"):
        crop("face")
    with pytest.raises(ValueError, match="does not say the size of its images: add size=PIXELS"):
        settled(ConfigDict({"encoder": {}, "data": {}}), Sets(dataset, dataset), loaded._replace(image_size=None))
    other = replace(dataset, name="other", meta={"crop": "whole"})
    assert crop("box", train=other) == "box"
    with pytest.raises(ValueError, match="what is shown of an image is whole in the one and box, unless crop says it"):
        crop(train=other)


@pytest.mark.parametrize("arguments", ["", "size=48", "variant=Nano/8"])
def test_a_random_encoder_must_be_described(arguments, tmp_path, capsys):
    assert evaluate("landmarks", tmp_path / "result", arguments=arguments) == 2
    message = "--checkpoint random needs an encoder and the size of its images: add variant=SIZE/PATCH,size=PIXELS"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "checkpoint", "data", "message"),
    [
        ((), "nowhere", DRAWN, "no checkpoint in nowhere; give WORKDIR[@STEP] of a pre-training, or random"),
        (("--config.encoder.depth=2",), "PRETRAINED", DRAWN, "another encoder than config.encoder: depth: None -> 2"),
        (("--config.encoder.mean=(0.5,0.5,0.5)",), "PRETRAINED", DRAWN, "another encoder than config.encoder: mean"),
        (("--config.weights=best",), "PRETRAINED", DRAWN, "has no weights 'best'; known: ema, params, text_tower"),
        ((), "random", "generated_faces:size=48,train=8,validation=0,test=0", "'test' of"),
        (("--config.held_out=1.5",), "random", DRAWN.replace("validation=12", "validation=0"), "held_out is above 0"),
        ((), "random", "generated_faces/none", "facerep prepare generated_faces --name none"),
        (("--config.task.taps=(9.0,)",), "random", DRAWN, "taps are shares of the encoder's depth, "),
        (("--config.fraction=1.5",), "random", DRAWN, "fraction must be above 0 and at most 1"),
        (("--config.seeds=(1,)",), "random", DRAWN, "seeds has 1 twice"),  # a flag of a tuple adds to what it was
        (("--config.seeds=(1.5,)",), "random", DRAWN, "seeds has 1.5; a seed is a whole number"),
        (("--config.fraction=0.04",), "random", DRAWN, "0.04 of 40 training examples is less than 2 labels"),
        (("--config.selection=tset_best",), "random", DRAWN, "no selection 'tset_best'; did you mean 'test_best'?"),
        (("--config.baselines=('mean_shap',)",), "random", DRAWN, "no baseline 'mean_shap'; did you mean 'mean_shape'"),
        (("--config.baselines=('scratch',)",), "random", DRAWN, "scratch learns a whole network and needs 16 labels, "),
        (("--config.protocol.cache_folder=/nowhere",), "random", DRAWN, "cannot keep features in /nowhere: No such"),
        (("--config.protocol.steps=5",), "random", DRAWN, "not 6 rounds in 5 steps"),
        ((), "scratch", DRAWN, "scratch is a baseline beside an encoder, not one"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(undisturbed, tmp_path, capsys, flags, checkpoint, data, message):
    workdir = tmp_path / "result"
    where = undisturbed if checkpoint == "PRETRAINED" else checkpoint
    assert evaluate("landmarks", workdir, *flags, checkpoint=where, data=data) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert "\n" not in error
    assert not workdir.exists()


def test_a_workdir_that_cannot_be_is_refused_before_anything_is_done(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert evaluate("landmarks", tmp_path / "file" / "result") == 2
    assert capsys.readouterr().err.strip().endswith(f"{tmp_path / 'file'} is a file")


def test_the_workdir_of_a_pretraining_is_refused(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert evaluate("landmarks", tmp_path) == 2
    assert f"--workdir {tmp_path} is that of a pre-training, since it holds config.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_another_evaluation_is_refused_in_a_used_workdir_and_nothing_is_lost(finished, undisturbed, capsys):
    task, workdir, _ = finished
    before = {path: path.read_bytes() for path in workdir.iterdir()}
    (other,) = {*TASKS} - {task}
    for which, flags in ((other, {}), (task, {"data": f"{DRAWN},seed=1"}), (task, {"checkpoint": undisturbed})):
        assert evaluate(which, workdir, **flags) == 2
        message = f"--workdir {workdir} holds the result of {task} on {DRAWN} for random; choose another --workdir"
        assert capsys.readouterr().err == f"facerep evaluate: {message}\n"
    assert {path: path.read_bytes() for path in workdir.iterdir()} == before


def test_the_same_evaluation_goes_on_in_its_workdir(finished, monkeypatch, capsys):
    def stop(*_, **__):
        raise ValueError("it goes on")

    task, workdir, _ = finished
    monkeypatch.setattr(judgement, "make_problem", stop)
    assert evaluate(task, workdir, "--config.fraction=0.5", seeds=(7,)) == 2
    assert capsys.readouterr().err == "facerep evaluate: it goes on\n"


def test_a_result_is_that_of_a_run_whatever_its_step(finished, tmp_path, monkeypatch):
    task, workdir, _ = finished
    there = replace(Results.read(workdir / "results.json"), checkpoint=Checkpoint("runs/a", 900))
    (tmp_path / "results.json").write_text(json.dumps(there.to_json()))
    monkeypatch.chdir(tmp_path)
    for path in ("runs/a", tmp_path / "runs" / "a"):
        require_same_subject(tmp_path, task, DRAWN, Checkpoint(str(path), 1000))
    for checkpoint in (Checkpoint("runs/b", 900), None):
        with pytest.raises(ValueError, match=f"holds the result of {task} on .* for runs/a@900; choose another"):
            require_same_subject(tmp_path, task, DRAWN, checkpoint)
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(ValueError, match="was it written by facerep evaluate"):
        require_same_subject(tmp_path, task, DRAWN, None)


def test_results_come_last_and_only_while_the_workdir_is_held(tmp_path):
    """Planted and seen red: the old results.json kept beside half of the new files."""
    for name in ("results.json", "worst.png"):
        (tmp_path / name).write_text("old")

    def fail(path):
        assert lock.take(tmp_path) is None
        assert not (tmp_path / "results.json").exists()
        raise OSError("the disk is full")

    with lock.held(tmp_path), pytest.raises(ValueError, match=f"{tmp_path} is in use by process"):
        save(tmp_path, {"command.txt": "new"}, {}, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "results.json", "worst.png"]
    with pytest.raises(OSError, match="full"):
        save(tmp_path, {"command.txt": "new", "examples.parquet": fail}, {}, "new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["command.txt", "lock"]
    save(tmp_path, {}, {}, "new")
    assert (tmp_path / "results.json").read_text() == "new"
