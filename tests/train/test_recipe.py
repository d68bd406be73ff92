import pytest
from ml_collections import ConfigDict

from facerep_jax.config import plain, spec
from facerep_jax.models.vit import ViT
from facerep_jax.train import optim, sharding
from facerep_jax.train.recipe import recipe

OWN = dict(steps=7, dataset="a+b", transforms=[], batch_size=3, encoder=spec(ViT), objective=spec(ViT))


def made(**overrides) -> ConfigDict:
    return recipe(**OWN, optimizer=spec(optim.adamw), **overrides)


def test_it_holds_the_names_of_every_pretraining():
    names = "seed steps log_every checkpoint_every checkpoint_minutes dtype remat ema data encoder objective optimizer"
    more = "mesh sharding operational init init_weights sharding_rules evaluate writers"
    assert {*names.split(), *more.split()} == set(made().keys())
    assert set(made().mesh) == set(sharding.AXES)
    assert set(made().data) == {"dataset", "data_dir", "split", "weights", "batch_size", "micro_batches", "transforms"}


def test_what_a_config_says_and_what_is_filled_in():
    config = made(ema=0.5, threads=4, fsdp=2, weights=((0, (3, 1)),))
    assert (config.steps, config.data.dataset, config.data.batch_size, config.data.transforms) == (7, "a+b", 3, ())
    assert (config.ema, config.operational.threads, config.mesh.fsdp) == (0.5, 4, 2)
    assert config.data.weights == ((0, (3, 1)),)
    assert (config.seed, config.init, config.sharding_rules, config.mesh.replica) == (0, "", (), 1)
    assert plain(config.encoder) == plain(spec(ViT))
    assert made().operational.threads == 8  # the defaults are nobody's to change


@pytest.mark.parametrize(
    ("name", "nearest"), [("log_evry", "log_every"), ("thread", "threads"), ("spilt", "split"), ("fdsp", "fsdp")]
)
def test_an_unknown_name_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"configs have no '{name}'; did you mean '{nearest}'"):
        made(**{name: 1})


def test_groups_are_set_by_their_members():
    with pytest.raises(ValueError, match="configs have no 'mesh'"):
        made(mesh=dict(fsdp=2))
