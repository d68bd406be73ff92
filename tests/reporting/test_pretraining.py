import math

import numpy as np
import pytest

from facerep_jax.reporting import pretraining
from facerep_jax.reporting.workdirs import Pretraining, read


def scalars(**values):
    return {name: (10 * np.arange(1, 1 + len(v)), np.array(v, float)) for name, v in values.items()}


def section(folder, scalars, config=None, note=""):
    return pretraining.section(Pretraining(folder, config or {}, scalars, note), allowed=10_000)


def gallery(section, title):
    return next((part for part in section.blocks if part.title == title), None)


def test_losses_come_first_then_speed(tmp_path, written):
    written.pretraining(tmp_path / "run")
    (run,) = read([tmp_path])[1]
    one = pretraining.section(run, allowed=10_000)
    pictures = gallery(one, "Curves").pictures
    steps, loss = run.scalars["masked_tokens/loss"]
    ends = (f"{loss[i]:.4g} at step {steps[i]:,}" for i in (0, -1))
    assert pictures[2].alt == f"Loss of masked tokens against steps: {', '.join(ends)}."
    wait = run.scalars["input_wait"][1]
    assert f"{100 * wait[-1]:.4g} at step" in pictures[4].alt  # in percent
    rate = np.median(run.scalars["images_per_second"][1])
    assert one.facts.endswith(f"median {rate:,.0f} images/s, {np.median(wait):.1%} of the time waiting")
    assert gallery(one, "What was masked") is None


def test_where_the_wall_time_went(tmp_path, written):
    """20 of 140 windows of 10 s were taken again, and 200 s lie between the runs."""
    written.pretraining(tmp_path / "run")
    one = pretraining.section(read([tmp_path])[1][0], allowed=10_000)
    (picture,) = gallery(one, "Where the wall time went").pictures
    total = 140 * 10 + 200
    assert picture.caption == f"{total / 60:.1f} min since the first start; goodput {120 * 9 / total:.1%}"
    shares = ((120 * 9, "training steps"), (200, "between runs"), (20 * 9, "steps that were lost"))
    for seconds, name in (*shares, (140, "waiting for input")):
        assert f"{seconds / total:.1%} {name}" in picture.alt
        assert name in picture.svg
        assert f"{seconds / total:.1%}" in picture.svg
    assert "seconds/step" not in {row.cells[0] for row in gallery(one, "All logged scalars").rows}


@pytest.mark.parametrize("chance", ["chance", "unigram"])
def test_chance_is_drawn_beside_the_loss_of_any_objective(tmp_path, chance):
    logged = {"new/loss": [2.0, 1.0], f"new/{chance}": [3.0, 3.0], "old/loss": [1.0, 1.0]}
    new, old = gallery(section(tmp_path, scalars(**logged)), "Curves").pictures
    assert [name for _, name in new.key] == ["logged", "chance"]
    assert old.key == ()


def test_a_loss_that_stays_at_chance_is_named(tmp_path):
    steps = np.arange(100, 2100, 100)
    stuck = {"x/loss": (steps, np.where(steps < 600, 2.0, 2.99)), "x/chance": (steps, np.full(20, 3.0))}
    (picture,) = gallery(section(tmp_path, stuck), "Curves").pictures
    assert picture.caption == "Loss of x, at chance since step 600, ↓ lower is better"
    stuck["x/loss"][1][-1] = 2.9
    (picture,) = gallery(section(tmp_path, stuck), "Curves").pictures
    assert picture.caption == "Loss of x, ↓ lower is better"


def test_a_short_run_at_chance_is_named_sooner(tmp_path):
    steps = np.arange(20, 720, 20)
    stuck = {"x/loss": (steps, np.full(35, 3.0)), "x/chance": (steps, np.full(35, 3.0))}
    for length, said in ((700, True), (70_000, False)):
        (picture,) = gallery(section(tmp_path, stuck, {"steps": length}), "Curves").pictures
        assert ("at chance since step 20" in picture.caption) is said


def test_scores_are_drawn_beside_those_before_training(tmp_path):
    steps = np.array([0, 100, 200])
    logged = {"evaluate/landmarks": (steps, np.array([0.2, 0.1, 0.05])), "evaluate/spread": (steps[1:], np.ones(2))}
    error, spread = gallery(section(tmp_path, logged), "Curves").pictures
    assert error.caption == "NME of landmarks, ↓ lower is better"
    assert [name for _, name in error.key] == ["logged", "before training"]
    assert error.alt.endswith("0.2 at step 0, 0.05 at step 200.")
    assert spread.key == ()


def test_a_log_of_little(tmp_path):
    one = section(tmp_path, scalars(loss=[math.nan, 2.0, math.nan]))
    assert gallery(one, "Curves").pictures[0].alt == "Total loss against steps: 2 at step 20, 2 at step 20."
    nothing = section(tmp_path, scalars(loss=[math.nan]))
    assert "no finite value" in gallery(nothing, "Curves").pictures[0].alt
    empty = section(tmp_path, {}, note="a note")
    assert gallery(empty, "Curves") is None
    assert gallery(empty, "All logged scalars").notes == ("a note",)


@pytest.mark.parametrize(
    ("config", "facts"),
    [
        ({"objective": {"call": "a.b:SwAV"}, "steps": 1200}, "SwAV · 1,200 steps"),
        ({"encoder": {"call": "a:ViT"}, "data": {"dataset": "x/y"}}, "ViT · x/y"),
        ({}, ""),
    ],
)
def test_facts_are_those_that_the_config_has(tmp_path, config, facts):
    assert section(tmp_path, {}, config).facts == facts
