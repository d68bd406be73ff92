"""A stranger's network with batch normalisation goes the whole way: its statistics travel with it.

Planted and seen red: statistics that are left behind when a checkpoint, a frozen network or an average is handed over.
"""

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from facerep_jax.train.handover import arrays_at, encoder
from facerep_jax.train.model import model_maker
from facerep_jax.train.sharding import make_mesh, rules_of, shardings
from facerep_jax.train.state import abstract, flat
from facerep_jax.typing import View
from tests import processes
from tests.contracts.configs import residual as config
from tests.contracts.residual import Residual
from tests.contracts.whole_way import (
    assert_kill_and_resume_change_nothing,
    assert_one_device_comes_to_the_same,
    pretrain,
    probe,
)

CONFIG = "tests/contracts/configs/residual.py"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return pretrain(CONFIG, tmp_path_factory.mktemp("residual"))


def test_statistics_are_saved_averaged_and_handed_over(run):
    saved = processes.saved(run, 4)
    means = {path.removeprefix("variables/encoder/") for path in saved if path.startswith("variables/encoder/")}
    assert {
        path.removeprefix("ema/variables/encoder/") for path in saved if path.startswith("ema/variables/encoder/")
    } == means
    assert all(np.abs(saved[f"variables/encoder/{path}"]).max() > 0 for path in means)
    for weights in ("params", "ema"):
        handed = encoder(str(run), weights=weights)
        prefix = "ema/" if weights == "ema" else ""
        mean = handed.encoder.stem.norm.mean[...]
        np.testing.assert_array_equal(mean, saved[f"{prefix}variables/encoder/stem/norm/mean"])
    image = jnp.asarray(np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8))
    one, other = (encoder(str(run), weights=name).encoder(View(image)).pooled for name in ("params", "ema"))
    assert np.abs(np.asarray(one - other)).max() > 0


@pytest.mark.slow
def test_rematerialisation_changes_no_statistics(run, tmp_path):
    again = pretrain(CONFIG, tmp_path, "--config.remat=none")
    one, other = processes.saved(run, 4), processes.saved(again, 4)
    for path in one:
        if path.startswith("variables/"):
            np.testing.assert_allclose(one[path], other[path], rtol=1e-3, atol=1e-5, err_msg=path)


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal(run, tmp_path):
    assert_kill_and_resume_change_nothing(CONFIG, run, tmp_path)


@pytest.mark.slow
def test_eight_devices_equal_one(run, tmp_path):
    assert_one_device_comes_to_the_same(CONFIG, run, tmp_path)


@pytest.mark.slow
def test_its_kernels_are_split_over_devices(run, tmp_path):
    """By a rule that it brings: the largest axis that divides is split."""
    make = model_maker(config.get_config())
    params, rules = abstract(make)[1], rules_of("fsdp", Residual.rules)
    found = flat(shardings(params, make_mesh({"fsdp": -1}), rules))
    assert not found["encoder/groups/3/second/kernel"].is_fully_replicated
    assert found["encoder/groups/3/second/norm/scale"].is_fully_replicated
    split = pretrain(CONFIG, tmp_path, "--config.sharding=fsdp")
    for step, values in processes.metrics(run).items():
        assert processes.metrics(split)[step]["loss"] == pytest.approx(values["loss"], rel=1e-3)


@pytest.mark.parametrize("protocol", ["linear_probe", pytest.param("finetune", marks=pytest.mark.slow)])
def test_it_is_probed_and_fine_tuned(run, tmp_path, protocol):
    results = probe(run, tmp_path, arg=f"small,protocol={protocol},steps=12")
    assert results["encoder"]["name"].startswith("Residual")
    assert results["protocol"] == protocol


@pytest.mark.slow
def test_it_is_a_frozen_network_beside_another_objective(run, tmp_path):
    """With its statistics, which a run of its own does not change."""
    student = pretrain(f"tests/contracts/configs/mcf_like.py:residual,weights={run}", tmp_path)
    frozen = load_file(student / "frozen.safetensors")
    for path, array in arrays_at(run, 4, "encoder").items():
        np.testing.assert_array_equal(frozen[f"objective/terms/features/network/{path}"], array, err_msg=path)
