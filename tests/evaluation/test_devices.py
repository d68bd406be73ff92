"""Eight devices give what one gives."""

import jax
import numpy as np
import pytest

from facerep_jax.evaluation.cache import extractor, parts_of
from facerep_jax.evaluation.devices import count_of, mesh_of, spread
from facerep_jax.evaluation.protocols.finetune import FineTune
from facerep_jax.evaluation.protocols.frozen import FrozenEncoder
from facerep_jax.evaluation.training import HEAD
from tests.evaluation.problems import HELD_OUT, ROWS


def test_as_many_devices_compute_as_split_a_batch_evenly():
    assert (count_of(0), count_of(3)) == (8, 3)
    for wanted in (-1, 9):
        with pytest.raises(ValueError, match=f"devices is 0, for all, or up to the 8 that are here, not {wanted}"):
            count_of(wanted)
    assert mesh_of(8, 7).size == 7
    assert mesh_of(8, 12).size == 6
    assert mesh_of(8, 32).size == 8
    assert mesh_of(1, 32) is mesh_of(8, 11) is None
    batch = {"image": np.zeros((12, 2)), "position": np.arange(12)}
    assert spread(batch, None) is batch
    assert len(spread(batch, mesh_of(8, 12))["position"].sharding.device_set) == 6


def test_parts_are_filled_up_to_a_number_that_devices_split():
    assert [part.tolist() for part in parts_of(10, 5)] == [[*range(10), *[9] * 25]]
    assert {len(part) for part in parts_of(300, 3)} == {129}
    assert [len(part) for part in parts_of(40)] == [64]
    assert [part.tolist() for part in parts_of(3, most=2)] == [[0, 1], [2, 2]]


def test_eight_devices_see_what_one_sees(problem):
    images = problem.splits["test"]["image"][:10]
    one, eight = (extractor(problem.encoder, (0, 1), devices)(images) for devices in (1, 8))
    for name, x in one.items():
        assert len(eight[name]) == 10
        np.testing.assert_allclose(np.float32(eight[name]), np.float32(x), rtol=2**-7, atol=1e-5)


@pytest.mark.parametrize("protocol", [FrozenEncoder, pytest.param(FineTune, marks=pytest.mark.slow)])
def test_eight_devices_learn_what_one_learns(problem, protocol):
    """Predictions are of 24 faces, a part of which is filled up."""
    optimizer = HEAD | {"learning_rate": 3e-3}
    learnt = protocol(steps=3, rounds=1, batch_size=16, optimizer=optimizer)
    one, eight = (
        learnt.prepare(problem._replace(devices=devices, selection="last"))(ROWS, HELD_OUT, 0)
        for devices in (1, len(jax.devices()))
    )
    np.testing.assert_allclose(eight.prediction, one.prediction, atol=1e-2)  # pixels of 32
    assert eight.selected == one.selected
