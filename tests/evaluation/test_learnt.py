import json
from types import SimpleNamespace

import numpy as np
import pytest
from flax import nnx
from ml_collections import ConfigDict

from facerep_jax.config import spec
from facerep_jax.evaluation import learnt
from facerep_jax.evaluation.network import Network, Weights, look_at_images
from facerep_jax.evaluation.tasks.landmarks import Landmarks
from facerep_jax.train.model import arrays_of
from facerep_jax.typing import Frozen, as_kind
from tests.evaluation.problems import SIZE

META = {"landmarks": {"normaliser": {"kind": "box"}}, "identities": ["somebody"], "classes": ["a", "b"]}


@pytest.fixture(scope="module")
def kept(problem):
    """The head of a problem, with numbers as if it had learnt, on a frozen encoder."""
    task = problem.make_task(3)
    for number, (_, variable) in enumerate(nnx.to_flat_state(nnx.state(task))):
        variable.set_value(variable.get_value() + number + 0.5)
    network = Network(as_kind(problem.encoder, Frozen), problem.task, look_at_images)
    protocol = SimpleNamespace(rounds_features=True)
    return task, learnt.learnt_by(problem, protocol, network.weights(task), 3, META, "learnt")


def test_a_file_gives_back_what_was_learnt_without_names_of_people(problem, kept, tmp_path):
    task, before = kept
    learnt.save(before, tmp_path / learnt.FILE)
    found = learnt.load(tmp_path / learnt.FILE, before.digest)
    assert found._replace(arrays={}) == before._replace(arrays={})
    assert (found.seed, found.label_shape, found.image_size, found.rounds) == (3, (68, 2), SIZE, True)
    assert set(found.meta) == {"landmarks", "classes"}
    assert found.encoder == {}
    config = ConfigDict({"task": spec(Landmarks, taps=(0.5, 1.0))})
    again = arrays_of(found.task(config, problem.encoder))
    assert len(again) > 3
    for path, array in arrays_of(task).items():
        np.testing.assert_array_equal(again[path], array)


def test_a_task_of_another_config_is_refused(problem, kept):
    config = ConfigDict({"task": spec(Landmarks, taps=(1.0,))})
    with pytest.raises(ValueError, match=r"learnt\.safetensors is of another architecture: .* float32 there"):
        kept[1].task(config, problem.encoder)


def test_an_encoder_that_was_not_trained_is_kept_if_all_is(problem, kept):
    weights = Weights({"objective": {"kernel": np.ones(2)}}, {})
    found = learnt.learnt_by(problem, SimpleNamespace(), weights, 0, {}, "all")
    before = arrays_of(problem.encoder)
    assert found.encoder.keys() == before.keys()
    for path, array in found.encoder.items():
        np.testing.assert_array_equal(array, before[path])
    assert not found.rounds
    assert found.encoder_digest == kept[1].encoder_digest
    trained = Weights({"encoder": {"head": np.zeros(1)}, **weights.params}, {})
    assert learnt.learnt_by(problem, SimpleNamespace(), trained, 0, {}, "all").encoder["head"] == 0


def test_nothing_is_kept_of_what_learnt_nothing_or_where_it_is_not_wanted(problem):
    assert learnt.learnt_by(problem, SimpleNamespace(), None, 0, {}, "learnt") is None
    assert learnt.learnt_by(problem, SimpleNamespace(), Weights({}, {}), 0, {}, "nothing") is None
    learnt.check("nothing")
    with pytest.raises(ValueError, match="keep is learnt, all or nothing, not 'al'; did you mean 'all'"):
        learnt.check("al")


def test_a_damaged_file_is_refused(kept, tmp_path):
    path, digest = tmp_path / learnt.FILE, kept[1].digest
    learnt.save(kept[1], path)
    whole = path.read_bytes()
    cases = {
        "is not what results.json beside it tells of": whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:],
        "is damaged, or was not written by facerep evaluate": whole[:-9],
    }
    for message, data in cases.items():
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            learnt.load(path, digest)
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    del header["__metadata__"]
    told = json.dumps(header).ljust(length).encode()
    path.write_bytes(whole[:8] + told + whole[8 + length :])
    with pytest.raises(ValueError, match="was not written by facerep evaluate: 'facerep_jax'"):
        learnt.load(path, digest)
