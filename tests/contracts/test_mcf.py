"""MCF goes the whole way: MAE trains its frozen network, both losses share one masked pass, and runs are exact.

Planted and seen red: a view of its own for each loss; an M1 that is learnt.
"""

import json

import jax
import numpy as np
import pytest
from safetensors import safe_open

from configs.pretrain import mcf as config
from facerep_jax import cli
from facerep_jax.config import build
from facerep_jax.models.decoder import Decoder
from facerep_jax.train import handover
from facerep_jax.train.flops import of_jaxpr
from facerep_jax.train.frozen import FILE
from facerep_jax.train.model import model_maker
from facerep_jax.train.state import abstract, initial
from facerep_jax.train.step import look_at_views, make_step
from facerep_jax.typing import FROZEN_NETWORK
from tests import processes
from tests.contracts.whole_way import (
    FLAGS,
    assert_kill_and_resume_change_nothing,
    assert_one_device_comes_to_the_same,
    pretrain,
    probe,
)

MCF, MAE = "configs/pretrain/mcf.py:smoke", "configs/pretrain/mae.py:smoke"
SHORT = ("--config.steps=4", "--config.remat=none")  # which compiles sooner
FEATURES, CONTRAST = (f"--config.objective.terms.{name}" for name in ("masked_features", "momentum_contrast"))
SIDE, PATCH, BATCH = 48, 8, 16
TILES, KEPT = 36, 9


@pytest.fixture(scope="module")
def mae(tmp_path_factory):
    return pretrain(MAE, tmp_path_factory.mktemp("mae"), *SHORT)


@pytest.fixture(scope="module")
def run(mae, tmp_path_factory):
    """Regions are masked, for which records bring the classes of their pixels."""
    return pretrain(f"{MCF},masks=regions,m1={mae}", tmp_path_factory.mktemp("mcf"), *SHORT, "--config.ema=0.9")


def shapes(**more):
    images = jax.ShapeDtypeStruct((BATCH, SIDE, SIDE, 3), np.uint8)
    return {"image": images, "position": jax.ShapeDtypeStruct((BATCH,), np.uint32), **more}


def test_both_losses_read_one_masked_pass():
    """The encoder is called once, on a quarter of the patches."""
    make, calls = model_maker(config.get_config("smoke")), []

    def look(images, keys):
        model = make()
        call = type(model.encoder).__call__

        class Counted(type(model.encoder)):
            def __call__(self, view, **keywords):
                calls.append(view.keep.shape)
                return call(self, view, **keywords)

        model.encoder.__class__ = Counted
        views, seen = look_at_views(model.encoder, model.objective, {"image": images}, keys)
        assert set(views) == set(seen) == {"kept"}
        return seen["kept"].tokens

    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), BATCH))
    assert jax.eval_shape(look, shapes()["image"], keys).shape == (BATCH, KEPT, 96)
    assert calls == [(BATCH, KEPT)]


def cost(arg, within=""):
    """Operations of a step of a recipe, or of those in a scope."""
    described = config.get_config(arg)
    make = model_maker(described)
    graph, _, _, frozen = abstract(make)
    optimizer = build(described.optimizer, steps=described.steps).transform
    state = jax.eval_shape(lambda: initial(make, optimizer.init, ema=False))
    step = make_step(graph, optimizer, seed=0)
    return of_jaxpr(jax.make_jaxpr(step)(state, frozen, shapes()).jaxpr, within)


def forward(width, depth, tokens):
    """Operations of the blocks for an image, by hand: projections, MLP, and both products of attention."""
    return depth * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)


def test_the_operations_of_both_losses_are_those_of_one_masked_pass():
    """The two alone compute as much as both, and one pass of the encoder more, forward and backward."""
    both, features, contrast = (cost(f"smoke,objective={name}") for name in ("mcf", "features", "contrast"))
    encoder, pixels = forward(96, 4, 1 + KEPT), 2 * TILES * 3 * PATCH**2 * 96
    # Of the embedding only the kernel has a gradient.
    assert features + contrast - both == BATCH * (3 * encoder + 2 * pixels)


def test_the_operations_of_the_features_are_those_of_two_passes_of_the_frozen_network():
    """One of the true image, and one of the pseudo-image, through which the gradient passes to its pixels alone."""
    m1 = forward(96, 4, 1 + TILES)
    projections, attention = 4 * 2 * (1 + TILES) * 12 * 96**2, 4 * 4 * (1 + TILES) ** 2 * 96
    embedding = 2 * TILES * 3 * PATCH**2 * 96
    encoder = 3 * forward(96, 4, 1 + KEPT) + 2 * embedding
    inside = 2 * (1 + KEPT) * 96 * 64 + forward(64, 1, 1 + TILES) + 2 * TILES * 64 * 3 * PATCH**2
    frozen = m1 + (2 * projections + 3 * attention) + 3 * embedding  # true; pseudo, forward and to its pixels
    assert cost("smoke,objective=features") == BATCH * (encoder + 3 * inside + frozen)
    assert cost("smoke", FROZEN_NETWORK) == BATCH * frozen


def test_its_losses_are_logged_and_its_frozen_network_is_maes(run, mae):
    last = processes.metrics(run)[4]
    weight = 1000 * 37 / 197
    total = weight * last["masked_features/loss"] + last["momentum_contrast/loss"]
    assert last["loss"] == pytest.approx(total, rel=1e-5)
    assert last["momentum_contrast/chance"] == pytest.approx(0.4 * np.log(8))
    with safe_open(run / FILE, "numpy") as file:
        (origin,) = json.loads(file.metadata()["weights"]).values()
        held = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert origin.startswith(f"{mae}@4 sha256:")
    for path, array in handover.arrays_at(mae, 4, "encoder").items():
        np.testing.assert_array_equal(held[f"objective/terms/masked_features/network/{path}"], array)


def test_a_checkpoint_holds_no_frozen_network_and_averages_no_teacher(run):
    saved = processes.saved(run, 4)
    assert not [path for path in saved if "network" in path]
    carried = [path for path in saved if path.startswith("variables/objective/terms/momentum_contrast/teacher")]
    assert len(carried) > 20
    assert not [path for path in saved if path.startswith("ema/") and "teacher" in path]
    meta = json.loads((run / "checkpoints" / "4" / "meta" / "metadata").read_text())
    assert set(meta["frozen"]) == {FILE}


def test_its_encoder_sees_imagenets_normalisation_where_it_is_evaluated(run, tmp_path):
    """No config has to say so: a checkpoint brings its encoder's normalisation along."""
    results = probe(run, tmp_path)
    assert results["config"]["encoder"]["flavour"] == "mae"
    encoder = handover.encoder(str(run)).encoder
    assert encoder.mean == (0.485, 0.456, 0.406)
    assert encoder.std == (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("arg", "flags", "message"),
    [
        ("objective=features", (), "masked_features has no weights; give a file of weights or a pre-training's"),
        ("m1=nowhere", (), "nowhere is neither a file of weights nor a pre-training's WORKDIR"),
        ("m1=MAE", (f"{FEATURES}.network.variant=Ti/8",), "MAE is of another architecture"),
        ("m1=MAE", (f"{FEATURES}.network.depth=3",), "taps (0, 1, 2, 3) are not blocks"),
        ("m1=MAE", (f"{FEATURES}.network.variant=Nano/16",), "patches of 16 pixels are not"),
        ("m1=MAE", ("--config.data.batch_size=24", f"{CONTRAST}.contrast_group=16"),
         "a batch of 24 is no multiple of contrast_group=16, whose images are each other's negatives; the nearest"),
        ("m1=MAE", (f"{CONTRAST}.norm_rows=3",), "16 rows do not divide into groups of 3"),
        ("m1=MAE", ("--config.objective.views.kept.share=0.0",), "the share of kept patches is above 0"),
        ("m1=MAE", ("--config.objective.views.kept.share=1.0",), "the view 'kept' keeps all 36 patches"),
    ],
)  # fmt: skip
def test_bad_input_is_named_and_nothing_is_written(arg, flags, message, mae, tmp_path, capsys):
    # `smoke` has a random frozen network unless one is given: without `m1` the weights are taken away.
    flags = flags or (() if "m1" in arg else (f"{FEATURES}.weights=",))
    command = [f"--config={MCF},{arg.replace('MAE', str(mae))}", *flags, f"--workdir={tmp_path / 'run'}"]
    assert cli.main(["facerep", "pretrain", *command]) == 2
    err = capsys.readouterr().err
    assert message.replace("MAE", str(mae)) in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_killed_and_resumed_it_is_bit_equal(run, mae, tmp_path):
    arg = f"{MCF},masks=regions,m1={mae}"
    assert_kill_and_resume_change_nothing(arg, run, tmp_path, *SHORT, "--config.ema=0.9")


@pytest.mark.slow
def test_eight_devices_equal_one(run, mae, tmp_path):
    arg = f"{MCF},masks=regions,m1={mae}"
    assert_one_device_comes_to_the_same(arg, run, tmp_path, *SHORT, "--config.ema=0.9")


@pytest.mark.slow
@pytest.mark.multihost
def test_two_hosts_equal_one(run, mae, tmp_path):
    """The order of rows in a batch, and so groups of contrast and statistics, goes with the hosts: one group each."""
    arg = f"{MCF},m1={mae}"
    whole = (
        *SHORT,
        f"{CONTRAST}.contrast_group=0",
        f"{CONTRAST}.norm_rows=0",
    )
    alone = pretrain(arg, tmp_path / "alone", *whole)
    both = processes.start(2, tmp_path / "both", *FLAGS, *whole, config=arg)
    for process in both:
        status, said = processes.finish(process)
        assert status == 0, said
    for step, values in processes.metrics(alone).items():
        np.testing.assert_allclose(processes.metrics(tmp_path / "both")[step]["loss"], values["loss"], rtol=1e-4)


def test_decoders_are_told_from_the_default():
    """The recipe of the paper has MAE's decoder, with as many blocks as are asked for."""
    term = config.get_config("decoder_depth=4").objective.terms.masked_features
    assert (term.decoder.width, term.decoder.depth, term.decoder.heads) == (512, 4, 16)
    assert term.decoder.call == f"{Decoder.__module__}:Decoder"
    assert term.taps == (2, 5, 8, 11)
