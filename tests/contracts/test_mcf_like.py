"""A stranger's momentum contrast and masked features go the whole way of a pre-training.

Planted and seen red: a teacher whose statistics are trained; a queue that is averaged.
"""

import jax
import numpy as np
import pytest

from facerep_jax.train.handover import arrays_at, encoder
from facerep_jax.train.model import model_maker
from facerep_jax.train.step import look_at_views
from tests import processes
from tests.contracts.configs import mcf_like as config
from tests.contracts.whole_way import (
    assert_kill_and_resume_change_nothing,
    assert_one_device_comes_to_the_same,
    pretrain,
    probe,
)

CONFIG = "tests/contracts/configs/mcf_like.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrain(CONFIG, tmp_path_factory.mktemp("mcf"))


def test_both_terms_read_one_masked_pass():
    """The encoder is called once, on half of the patches; both losses are given those that it kept."""
    make = model_maker(config.get_config())
    calls = []

    def look(images, keys):
        model = make()
        call = type(model.encoder).__call__

        class Counted(type(model.encoder)):
            def __call__(self, view, **keywords):
                calls.append(view.keep.shape)
                return call(self, view, **keywords)

        model.encoder.__class__ = Counted
        views, seen = look_at_views(model.encoder, model.objective, {"image": images}, keys)
        return views["kept"].keep, seen["kept"].tokens

    shapes = (
        jax.ShapeDtypeStruct((4, 32, 32, 3), np.uint8),
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 4)),
    )
    keep, tokens = jax.eval_shape(look, *shapes)
    assert calls == [(4, 8)]
    assert (keep.shape, tokens.shape) == ((4, 8), (4, 8, 32))


def test_losses_are_logged_by_the_names_of_the_terms(run):
    last = processes.metrics(run)[4]
    assert {"contrast/loss", "contrast/chance", "features/loss", "features/masked"} <= set(last)
    assert last["loss"] == pytest.approx(last["contrast/loss"] + last["features/loss"], rel=1e-5)
    assert last["features/masked"] == 0.5


def test_teacher_and_queue_are_carried_and_never_averaged(run):
    saved = processes.saved(run, 4)
    carried = {
        path.removeprefix("variables/") for path in saved if path.startswith("variables/objective/terms/contrast/")
    }
    teachers = {path for path in carried if "/teacher" in path}
    assert {path for path in carried - teachers} >= {f"objective/terms/contrast/{name}" for name in ("queue", "place")}
    assert len(teachers) > 20
    averaged = {path for path in saved if path.startswith("ema/variables/")}
    assert averaged == {
        f"ema/variables/objective/terms/contrast/projector/norm/{name}" for name in ("mean", "variance")
    }


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal(run, tmp_path):
    assert_kill_and_resume_change_nothing(CONFIG, run, tmp_path)


@pytest.mark.slow
def test_eight_devices_equal_one(run, tmp_path):
    assert_one_device_comes_to_the_same(CONFIG, run, tmp_path)


def test_its_teacher_is_handed_over_and_judged(run, tmp_path):
    teacher = arrays_at(run, 4, "objective/terms/contrast/teacher")
    student = arrays_at(run, 4, "encoder")
    assert teacher.keys() == student.keys()
    results = probe(run, tmp_path, "--config.weights=teacher")
    assert results["checkpoint"]["weights"] == "teacher"
    assert results["checkpoint"]["digest"] != probe(run, tmp_path / "student")["checkpoint"]["digest"]
    with pytest.raises(ValueError, match="has no weights 'teachr'; did you mean 'teacher'"):
        encoder(str(run), weights="teachr")
