import pytest

from facerep_jax.config import build, plain, spec
from facerep_jax.data.transforms import Resize
from facerep_jax.evaluation.protocols.finetune import FineTune, from_scratch
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.tasks.parsing import Parsing
from facerep_jax.evaluation.trial import trial


def made(**overrides):
    own = dict(task=spec(Parsing, taps=(1.0,)), protocol=spec(LinearProbe), dataset="manifest/faces")
    return trial(**own, transforms=[spec(Resize)], augmentations=[], **overrides)


def test_what_a_config_says_and_what_is_filled_in():
    config = made(fraction=0.1, size=48, seeds=(1,))
    assert (config.fraction, config.data.size, config.seeds, config.data.crop) == (0.1, 48, (1,), "")
    assert (config.data.dataset, config.data.splits.train) == ("manifest/faces", "train")
    assert [transform.call for transform in config.data.transforms] == ["facerep_jax.data.transforms:Resize"]
    assert config.data.augmentations == ()
    assert (config.encoder.to_dict(), config.baselines, config.selection) == ({}, None, "validation")


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="configs have no 'fracton'; did you mean 'fraction'"):
        made(fracton=0.1)


def test_scratch_is_the_protocol_of_that_baseline():
    config = made()
    assert isinstance(build(config.scratch), FineTune)
    assert plain(made(scratch=from_scratch(steps=10)).scratch)["steps"] == 10
