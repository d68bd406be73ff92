"""What is written can be read, what earlier versions wrote too, and what is broken is named."""

import json

import pytest

from facerep_jax.evaluation.results import (
    Checkpoint,
    Encoder,
    Results,
    Scores,
    Summary,
    TaskWords,
    Words,
)

NME = {"nme_box": Summary(0.05, 0.01, (0.04, 0.06)), "images": Summary(60.0, 0.0, (60.0, 60.0))}
WHOLE = Results(
    task="landmarks",
    dataset="civil_us",
    dataset_digest="77ab",
    encoder=Encoder("ViT B/16", "pre-trained", 86_000_000, {"call": "m:ViT", "variant": "B/16"}),
    head="Regression (cells 7)",
    selection="validation",
    fraction=0.1,
    labels=42,
    test_images=60,
    test_units=12,
    predictions=60,
    seeds=(0, 1),
    headline="nme_box",
    lower_is_better=True,
    judged=Scores(NME, "finetune", {"steps": 77}, 10, trains_encoder=True),
    baselines={"mean_shape": Scores(NME), "random": Scores(NME, "linear_probe", {"steps": 7}, 10)},
    metric={"call": "m:NME", "normaliser": {"kind": "box"}},
    checkpoint=Checkpoint("runs/farl", 20_000, "ema", "9f31"),
    seconds={"load": 1.25},
    config={"fraction": 0.1, "encoder": {"call": "m:ViT"}},
    versions={"jax": "0.10.2"},
    words=Words(
        task=TaskWords("Landmarks", "truth green (ring), prediction red (dot)"),
        columns=("nme_box",),
        names={"nme_box": "NME, box"},
        counts=("images",),
        metrics=("NME: the mean error.",),
        protocols={"finetune": "Fine-tuning: all of it learns."},
        baselines={"random": "Random: before any training."},
        unit="image",
        belongs_to="person",
        per_row=True,
        error_limit=0.07,
        measures={"mae": "years"},
    ),
    notes=("no test image is of class angry",),
)
OLD = {  # the keys that results.json had to have before it had words
    "task": "face_parsing",
    "dataset": "civil_us",
    "protocol": "frozen",
    "selection": "validation",
    "fraction": 1,
    "seeds": [0, 1],
    "labels": 42,
    "metrics": {name: {"mean": 0.5, "std": 0.0, "values": [0.5, None]} for name in ("a", "b", "c", "images_left_out")},
    "headline": "b",
    "lower_is_better": False,
    "metric": {"call": "m:F1"},
    "checkpoint": "random",
}


def read(folder, found):
    (folder / "results.json").write_text(found if isinstance(found, str) else json.dumps(found))
    return Results.read(folder / "results.json")


def test_what_is_written_is_what_is_read(tmp_path):
    assert read(tmp_path, WHOLE.to_json()) == WHOLE


def test_the_judged_encoder_stands_at_the_top_level_and_a_baseline_without_a_network_has_metrics_alone():
    found = WHOLE.to_json()
    assert "judged" not in found
    assert (found["protocol"], found["protocol_settings"], found["trains_encoder"]) == ("finetune", {"steps": 77}, True)
    assert found["metrics"]["nme_box"] == {"mean": 0.05, "std": 0.01, "values": (0.04, 0.06)}
    assert set(found["baselines"]["mean_shape"]) == {"metrics"}
    assert found["baselines"]["random"]["protocol"] == "linear_probe"
    assert WHOLE.scores["random"] is WHOLE.baselines["random"]
    assert WHOLE.scores["encoder"] is WHOLE.judged


def test_a_result_of_an_earlier_version_has_defaults(tmp_path):
    results = read(tmp_path, OLD | {"config": {"encoder": {"call": "m:ViT"}}, "encoder": {"name": "ViT"}})
    words = results.words
    assert words.columns == ("b", "a", "c")
    assert words.counts == ("images_left_out",)
    assert (words.metrics, words.protocols, words.names, words.per_row) == ((), {}, {}, False)
    assert (words.task.title, words.unit, words.belongs_to) == ("Face parsing", "image", "group")
    assert not results.in_units
    assert words.name("nme_inter_ocular") == "Nme inter ocular"
    assert results.encoder.architecture == {"name": "ViT", "encoder": {"call": "m:ViT"}}
    assert results.checkpoint is None
    assert results.to_json()["checkpoint"] == "random"
    assert results.judged.metrics["a"].values == (0.5, None)
    assert not results.judged.trains_encoder


def test_a_metric_is_written_as_its_words_say():
    assert WHOLE.words.name("nme_box") == "NME, box"
    assert WHOLE.words.name("failure_rate") == "Failure rate"


BROKEN = {
    "not json": ("{", r"results\.json is not JSON"),
    "not an object": ("[]", r"results\.json must hold an object, not list"),
    **{
        f"no {key}": ({k: v for k, v in OLD.items() if k != key}, rf"results\.json has no '{key}'; was it written by")
        for key in OLD
    },
    "headline": (OLD | {"headline": "nme"}, r"results\.json has no metric 'nme', its headline"),
    "checkpoint": (OLD | {"checkpoint": "runs/x"}, "checkpoint is an object or 'random', not 'runs/x'"),
    "checkpoint's step": (
        OLD | {"checkpoint": {"path": "a", "step": "b"}},
        r"results\.json: checkpoint: step must be a whole number, not 'b'",
    ),
    "summary": (OLD | {"metrics": {"b": {"mean": 0.1}}}, "metrics: b must have mean, std and values, not mean"),
    "value": (
        OLD | {"metrics": {"b": {"mean": 0.1, "std": 0, "values": ["x"]}}},
        r"results\.json: metrics: b: values must be a number, not 'x'",
    ),
    "metric": (OLD | {"metrics": {"b": 0.1}}, "metrics: b must be an object, not 0.1"),
    "baseline": (OLD | {"baselines": {"mean_shape": {}}}, r"results\.json: baselines: mean_shape has no 'metrics'"),
    "number": (OLD | {"fraction": True}, r"results\.json: fraction must be a number, not True"),
    "seeds": (OLD | {"seeds": [0.5]}, r"results\.json: seeds must be a whole number, not 0.5"),
    "words": (OLD | {"words": {"columns": "b"}}, r"results\.json: words: columns must be a list, not 'b'"),
    "title": (OLD | {"words": {"task": {"title": 3}}}, r"results\.json: words: task: title must be a string, not 3"),
}


@pytest.mark.parametrize(("found", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_results_are_named(tmp_path, found, message):
    with pytest.raises(ValueError, match=message):
        read(tmp_path, found)


def test_values_are_written_as_what_they_are():
    """A share in percent, a count as it is, a measure in its own unit."""
    words = WHOLE.words
    assert words.scale("nme_box").shown(0.0512) == "5.12%"
    assert words.scale("images").shown(60.0) == "60"
    assert words.scale("mae").shown(4.5) == "4.500 years"
    assert (words.scale("mae").bracketed, words.scale("mae").said) == (" (years)", " in years")
    assert words.scale("images").bracketed == ""
