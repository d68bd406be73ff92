import pytest

from facerep_jax.config import build, plain, spec
from facerep_jax.data.transforms import Resize
from facerep_jax.evaluation.protocols.finetune import FineTune, from_scratch
from facerep_jax.evaluation.protocols.linear_probe import LinearProbe
from facerep_jax.evaluation.tasks.parsing import Parsing
from facerep_jax.evaluation.trial import learnt, learnt_args, trial


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


def described(arg):
    return learnt(learnt_args(arg), task=spec(Parsing, taps=(1.0,)), baselines=())


@pytest.mark.parametrize("protocol", ["finetune", "frozen_batch_norm", "lora"])
def test_layers_of_an_encoder_that_is_trained_may_learn_slower(protocol):
    """The settings of one evaluation are not those of the next. Without the argument a command line can say it."""
    assert described(f"protocol={protocol},layer_decay=0.75").protocol.optimizer.layer_decay == 0.75
    config = described(f"protocol={protocol}")
    assert config.protocol.optimizer.layer_decay is None
    config.protocol.optimizer.layer_decay = 0.5
    assert build(config.protocol).training.optimizer["layer_decay"] == 0.5
    assert described(f"protocol={protocol}").protocol.optimizer.layer_decay is None
    with pytest.raises(ValueError, match=r"layer_decay is above 0 and at most 1, not 75"):
        build(described(f"protocol={protocol},layer_decay=75").protocol)


@pytest.mark.parametrize("protocol", ["linear_probe", "frozen", "ridge"])
def test_layers_of_an_encoder_that_is_not_trained_may_not(protocol):
    with pytest.raises(ValueError, match=rf"layer_decay is for protocols that train the encoder, .*, not {protocol}"):
        described(f"protocol={protocol},layer_decay=0.75")
