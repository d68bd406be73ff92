"""What shows that nothing is learnt: losses at chance, features that are all alike."""

import json

import numpy as np
import pytest

from facerep_jax import cli
from facerep_jax.train.collapse import Watch, measures, patience_of
from facerep_jax.train.writer import Writer
from tests.processes import facerep, finish


def test_measures_by_hand():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    pairs = np.concatenate([directions[:, :3], -directions[:, :3]], axis=1).T  # three orthogonal lines through 0
    assert measures(pairs)["effective_rank"] == pytest.approx(3)
    assert measures(5 + pairs)["effective_rank"] == pytest.approx(3)  # a common offset is no variety
    line = np.arange(4)[:, None] * directions[:1]
    assert measures(line)["effective_rank"] == pytest.approx(1)

    everywhere = rng.normal(size=(4000, 16))
    assert measures(everywhere)["spread"] == pytest.approx(1, abs=0.02)
    assert measures(everywhere)["effective_rank"] == pytest.approx(16, abs=0.05)
    alike = measures(np.tile(directions[:1], (5, 1)))
    assert alike == {"effective_rank": pytest.approx(1), "spread": pytest.approx(0, abs=1e-9)}
    assert all(np.isnan(x) for x in measures(np.array([[np.nan, 1.0], [0.0, 1.0]])).values())


def at(loss):
    return {"contrastive/loss": loss, "contrastive/chance": 4.0, "loss": 9.0}


def test_a_loss_that_stays_at_chance_is_said_once():
    watch = Watch()
    assert not any(watch.look(step, at(3.95)) for step in range(0, 1000, 50))
    (warning,) = watch.look(1000, at(3.95))
    assert warning.startswith("contrastive/loss has been at that of chance since step 0 (3.950, chance is 4.000)")
    assert watch.look(1050, at(3.95)) == []


def test_an_objective_that_logs_a_bare_loss_is_watched_too():
    watch = Watch(patience=100)
    watch.look(20, {"loss": 6.238, "chance": 6.238, "accuracy": 0.0})
    (warning,) = watch.look(120, {"loss": 6.238, "chance": 6.238, "accuracy": 0.0})
    assert warning.startswith("loss has been at that of chance since step 20 (6.238, chance is 6.238)")


def test_a_short_run_is_watched_less_patiently():
    assert [patience_of(steps) for steps in (30, 400, 700, 100_000)] == [100, 100, 175, 1000]
    watch = Watch(patience=175)
    assert not any(watch.look(step, at(3.95)) for step in range(20, 190, 20))
    assert len(watch.look(200, at(3.95))) == 1


def test_a_loss_that_once_fell_below_chance_counts_anew():
    watch = Watch()
    for step in range(0, 900, 50):
        watch.look(step, at(3.95))
    watch.look(900, at(3.5))
    assert not any(watch.look(step, at(4.1)) for step in range(950, 1950, 50))
    assert len(watch.look(1950, at(4.1))) == 1


def test_what_earlier_runs_logged_counts_and_is_not_said_again():
    lines = [{"step": step, **at(3.95)} for step in range(0, 800, 50)]
    assert len(Watch(lines).look(1000, at(3.95))) == 1
    lines += [{"step": step, **at(3.95)} for step in range(800, 1100, 50)]
    assert Watch(lines).look(1100, at(3.95)) == []
    assert Watch([{"step": 0, "contrastive/loss": None, "contrastive/chance": 4.0}]).look(1000, at(3.95)) == []


def test_features_that_are_all_alike_are_said_once():
    watch = Watch()
    assert watch.look(0, {"evaluate/effective_rank": 20.0, "evaluate/spread": 0.4}) == []
    (warning,) = watch.look(10, {"evaluate/effective_rank": 20.0, "evaluate/spread": 0.001})
    assert warning == "the features of all images are nearly alike: spread is 0.001 at step 10"
    assert watch.look(20, {"evaluate/spread": 0.001}) == []
    (warning,) = watch.look(30, {"prototypes_used": 1.01, "spread": 0.4})
    assert warning == "the features of all images are nearly alike: prototypes_used is 1.01 at step 30"


def test_the_log_says_it(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("facerep_jax.train.writer.logging.warning", lambda *words: said.append(words[-1]))
    for steps in (range(10, 30, 10), range(30, 60, 10)):  # a run that was stopped goes on
        writer = Writer(tmp_path, patience=20)
        for step in steps:
            writer.write(step, at(4.0))
        writer.close()
    assert len(said) == 1
    assert "since step 10" in said[0]
    assert len([json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]) == 5


@pytest.mark.slow
def test_a_run_that_does_not_train_says_so_while_it_runs(tmp_path):
    """Contrast alone with captions as the web has them stays at chance at 2e-3; the demo's recipe does not."""
    faces = "generated_faces:size=80,train=16000,validation=0,test=0"
    assert cli.main(["facerep", "prepare", faces, "--name=web", f"--data_dir={tmp_path}"]) == 0
    recipe = f"configs/pretrain/farl_nano.py:dataset=generated_faces/web,data_dir={tmp_path},steps=240"
    for more, stuck in (("objective=itc,stem=0", True), ("captions=oracle_caption", False)):
        flags = (f"--config={recipe},{more}", "--config.optimizer.learning_rate=2e-3")
        status, said = finish(facerep(tmp_path / more, *flags, devices=1))
        assert status == 0, said
        assert ("contrastive/loss has been at that of chance since step" in said) is stuck
