import numpy as np
import pytest

from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.cache import extractor
from facerep_jax.evaluation.protocols import Protocol, by_name
from facerep_jax.evaluation.selection import Outcome
from tests.evaluation.problems import HELD_OUT, ROWS, error, mean_shape_error


class Nearest:
    """The mean label of the nearest training images; no gradient descent. A stranger's protocol."""

    name, explains, trains_encoder, compares = "nearest", "Nearest neighbours: no head learns.", False, False

    def __init__(self, *, neighbours=3):
        self.neighbours = neighbours

    def prepare(self, problem):
        extract = extractor(problem.encoder, problem.task.taps)
        train, test = (
            extract(problem.splits[role]["image"])["pooled"].astype(np.float64) for role in ("train", "test")
        )
        labels = problem.splits["train"][problem.task.label]

        def learn(chosen, held_out, seed):
            distance = np.linalg.norm(test[:, None] - train[chosen][None], axis=-1)
            nearest = chosen[np.argsort(distance, axis=1)[:, : self.neighbours]]
            return Outcome(labels[nearest].mean(1), {"neighbours": float(self.neighbours)})

        return learn


@pytest.mark.parametrize("name", ["linear_probe", "ridge", "frozen", "finetune", "lora", "frozen_batch_norm", "knn"])
def test_protocols_are_found_by_the_name_of_their_module(name):
    protocol = by_name(name)()
    assert isinstance(protocol, Protocol)
    assert protocol.name == name
    assert protocol.trains_encoder == (name in ("finetune", "lora", "frozen_batch_norm"))
    assert protocol.explains.endswith(".")


def test_any_class_is_a_protocol_by_its_full_name():
    found = by_name("facerep_jax.evaluation.protocols.frozen:FrozenEncoder")
    assert found is by_name("frozen")
    with pytest.raises(ValueError, match="did you mean 'finetune'"):
        by_name("finetuen")
    with pytest.raises(ValueError, match="no callable 'elsewhere:KNN'"):
        by_name("elsewhere:KNN")


def test_a_protocol_need_not_descend_a_gradient(problem):
    assert isinstance(Nearest(), Protocol)
    outcome = Nearest(neighbours=len(ROWS)).prepare(problem)(ROWS, HELD_OUT, 0)
    assert error(problem, outcome.prediction) == pytest.approx(mean_shape_error(problem, ROWS), rel=1e-6)
    (alone,) = Nearest(neighbours=1).prepare(problem)(ROWS[:1], HELD_OUT, 0).prediction[:1]
    np.testing.assert_array_equal(alone, problem.splits["train"]["landmarks"][ROWS[0]])


def test_farls_settings_are_those_of_protocols_that_it_has():
    settings = dict(steps=100, learning_rate=1e-2, milestones=(0.8,))
    assert protocols.as_farl("linear_probe", **settings) == {}
    assert protocols.as_farl("frozen", **settings)["optimizer"].multipliers == ()
    assert protocols.as_farl("finetune", **settings)["optimizer"].multipliers == (("^encoder/", 1e-2),)
