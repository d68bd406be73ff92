"""Heads that learn once on clean images and are scored on corrupted ones, through a protocol and from the command line.

Planted and seen red: labels of copies that are not in the order of their images.
"""

import json

import numpy as np
import pytest
from scipy import stats

from facerep_jax import cli
from facerep_jax.data.arrays import Lazy
from facerep_jax.evaluation.corruptions import STRENGTHS, corrupted
from facerep_jax.evaluation.metrics import rows_of, score
from facerep_jax.evaluation.problem import truth_of
from facerep_jax.evaluation.protocols.ridge import Ridge
from facerep_jax.evaluation.results import Results
from facerep_jax.evaluation.robustness import harms, parted, with_copies
from facerep_jax.evaluation.shared import Shared
from tests.evaluation.problems import HELD_OUT, ROWS

KINDS = ("noise", "occlusion")
SET = "generated_faces:world=evaluate,size=48,train=160,validation=16,test=64,frames=1,sessions=1"
CONFIG = f"configs/evaluate/landmarks.py:dataset='{SET}',small,protocol=ridge,variant=Nano/8,size=32"
SHALLOW = ("--config.encoder.depth=2", "--config.devices=1", "--config.baselines=()")


@pytest.fixture(scope="module")
def learnt(problem):
    """A problem, and what a head that learnt on it predicts of clean and of corrupted images."""
    problem = problem._replace(splits={**problem.splits, "train": {**problem.splits["train"]}})
    outcome = Ridge(penalties=(1e-4, 1e-2)).prepare(with_copies(problem, KINDS))(ROWS, HELD_OUT, 0)
    return problem, outcome


def test_copies_of_the_test_split_keep_their_labels(problem):
    whole = with_copies(problem, KINDS).splits
    test, clean = whole["test"], problem.splits["test"]
    assert whole["train"] is problem.splits["train"]
    assert len(test["id"]) == len(test["image"]) == 11 * 24
    assert test["id"][24:48] == clean["id"]
    assert len(np.unique(test["row"])) == 11 * 24
    for copy, (kind, strength) in enumerate([(kind, s) for kind in KINDS for s in STRENGTHS], 1):
        row = 24 * copy + 5
        np.testing.assert_array_equal(test["landmarks"][row], clean["landmarks"][5])
        np.testing.assert_array_equal(test["image"][row], corrupted(clean["image"][5], clean["id"][5], kind, strength))
    with pytest.raises(ValueError, match="test_best looks at the test split"):
        with_copies(problem._replace(selection="test_best"), KINDS)


def test_a_head_learns_the_same_and_each_copy_is_scored_by_itself(learnt):
    problem, outcome = learnt
    test, count = problem.splits["test"], len(problem.splits["test"]["id"])
    alone = Ridge(penalties=(1e-4, 1e-2)).prepare(problem)(ROWS, HELD_OUT, 0)
    parts = parted(outcome.prediction, count)
    assert len(parts) == 11
    np.testing.assert_allclose(parts[0], alone.prediction, atol=1e-4)
    clean = rows_of(problem.metric, parts[0], truth_of(test))
    found = harms(problem.metric, [clean], [parts], test, KINDS)
    before = score(problem.metric, clean.statistics)["nme_box"]
    for kind in KINDS:
        means = [harm.mean for harm in found[kind]]
        assert len({before, *means}) == 6
        for harm in found[kind]:
            assert harm.low < harm.change < harm.high
            assert harm.change == pytest.approx(harm.mean - before)
            assert list(harm.values) == [harm.mean]
    last = rows_of(problem.metric, parts[10], truth_of(test))
    assert found["occlusion"][-1].mean == score(problem.metric, last.statistics)["nme_box"]


def test_predictions_on_disk_stay_there():
    lazy = Lazy(lambda rows: rows[:, None] * np.ones(2), (6, 2), np.float64)
    parts = parted(lazy, 2)
    assert all(isinstance(part, Lazy) for part in parts)
    np.testing.assert_array_equal(np.asarray(parts[2])[:, 0], [4, 5])
    assert parted(lazy, 6) == [lazy]


def test_evaluations_that_share_images_do_not_mix_up_their_copies(problem):
    """Features are kept by the image; noise of strength 1 is another one than occlusion of strength 1."""
    shared = Shared()
    some = problem._replace(shared=shared, images=dict.fromkeys(problem.splits, "images"))
    protocol = Ridge(penalties=(1e-2,))
    images = {role: f"images of {role}" for role in problem.splits}
    some = some._replace(images=images, selection="last")
    first = protocol.prepare(with_copies(some, ("noise",)))(ROWS, HELD_OUT, 0).prediction
    encoded = shared.encoded
    second = protocol.prepare(with_copies(some, ("occlusion",)))(ROWS, HELD_OUT, 0).prediction
    assert shared.encoded == encoded + 5 * 24  # clean images were known
    np.testing.assert_allclose(first[:24], second[:24], atol=1e-5)
    assert np.abs(first[24:48] - second[24:48]).max() > 1e-3


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """An evaluation by groups and under noise, from the command line."""
    folder = tmp_path_factory.mktemp("evaluation")
    command = ["facerep", "evaluate", f"--config={CONFIG}", *SHALLOW, "--checkpoint=random", f"--workdir={folder}"]
    assert cli.main([*command, "--config.corruptions=('noise',)", "--config.keep=nothing"]) == 0
    return folder


def test_results_json_tells_of_groups_and_corruptions_and_is_read_back(workdir):
    results = json.loads((workdir / "results.json").read_text())
    groups = results["breakdown"]["groups"]
    assert {"yaw", "occlusion", "skin tone", "smiling", "lines of age"} < {group["axis"] for group in groups}
    yes, no = (next(g for g in groups if (g["axis"], g["name"]) == ("smiling", name)) for name in ("yes", "no"))
    assert yes["rows"] + no["rows"] == 64
    whole = results["metrics"]["nme_box"]["mean"]
    assert (yes["rows"] * yes["value"] + no["rows"] * no["value"]) / 64 == pytest.approx(whole)
    assert results["breakdown"]["worst"] in [f"{g['axis']}: {g['name']}" for g in groups if g["enough"]]
    assert "occlusion: from 30%" in results["breakdown"]["small"]
    noise = results["corruptions"]["noise"]
    assert [harm["strength"] for harm in noise] == [1, 2, 3, 4, 5]
    assert [len(harm["values"]) for harm in noise] == [1] * 5
    read = Results.read(workdir / "results.json")
    assert read.breakdown.worst == results["breakdown"]["worst"]
    assert json.loads(json.dumps(read.to_json())) == results


def test_noise_does_harm_that_grows(workdir):
    found = Results.read(workdir / "results.json")
    means = [harm.mean for harm in found.corruptions["noise"]]
    assert stats.spearmanr(means, STRENGTHS).statistic >= 0.9
    assert means[0] > found.judged.metrics["nme_box"].mean
    assert found.corruptions["noise"][-1].low > 0  # beyond what other test faces would give


def test_the_report_shows_groups_and_curves(workdir, tmp_path):
    assert cli.main(["facerep", "report", str(workdir), f"--out={tmp_path}"]) == 0
    text, page = ((tmp_path / f"report.{kind}").read_text() for kind in ("md", "html"))
    assert "The group that each encoder serves worst" in text
    assert "| smiling: yes |" in text
    assert "too few people to say anything" in text or "too few images to say anything" in text
    assert "ImageNet-C" in text
    assert "against the strength of Noise" in page


def test_switches_choose_and_refuse(workdir, tmp_path, capsys):
    command = ["facerep", "evaluate", f"--config={CONFIG}", *SHALLOW, "--checkpoint=random", f"--workdir={tmp_path}"]
    assert cli.main([*command, "--config.corruptions=('fog',)"]) == 2
    assert "corruption is blur or noise" in capsys.readouterr().err
    assert cli.main([*command, "--config.groups=('skin',)"]) == 2
    assert "tell of no group 'skin'" in capsys.readouterr().err
    assert not (tmp_path / "results.json").exists()
