"""Micro-batches against the whole batch."""

import functools
import importlib
import pkgutil
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from facerep_jax import cli, objectives
from facerep_jax.config import build, spec
from facerep_jax.models import margins
from facerep_jax.models.crops import Crop
from facerep_jax.models.decoder import Decoder
from facerep_jax.models.dvae import DVAEEncoder
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.views import RandomPatches
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.attributes import Attributes
from facerep_jax.objectives.byol import BYOL
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.dino import DINO
from facerep_jax.objectives.dvae import DiscreteVAE
from facerep_jax.objectives.masked_features import MaskedFeatures
from facerep_jax.objectives.masked_pixels import MaskedPixels
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.objectives.momentum_contrast import MomentumContrast
from facerep_jax.objectives.regression import Regression
from facerep_jax.objectives.simsiam import SimSiam
from facerep_jax.objectives.supervised import Supervised
from facerep_jax.objectives.swav import SwAV
from facerep_jax.train import sharding
from facerep_jax.train.state import Model, abstract, flat, split, state_of
from facerep_jax.train.step import make_step
from tests.contracts.whole_way import assert_kill_and_resume_change_nothing, pretrain
from tests.train.tiny import TinyEncoder

B, MICRO, EMBEDDING = 64, 4, 8
OPTIMIZER = optax.sgd(0.1, momentum=0.9)  # linear in the gradient, of which Adam makes whole steps where it is rounding


def vit(**settings):
    sizes = dict(flavour="mae", variant="Nano/4", image_size=8, width=16, depth=2, heads=2, drop_path=0.5)
    return spec(ViT, **{**sizes, **settings})


def contrastive(**settings):
    text = spec(TextTransformer, vocabulary=32, context=6, width=16, depth=1, heads=2)
    return spec(Contrastive, text_encoder=text, embedding=EMBEDDING, **settings)


DECODER = spec(Decoder, width=8, depth=1, heads=2)
CASES = dict(
    masked=(
        vit(),
        spec(
            Combined,
            terms=dict(
                contrastive=contrastive(loss="ring"),
                masked_tokens=spec(
                    MaskedTokens, tokenizer=spec(KMeansTokenizer, patch=4, codes=8, cells=2), count=2, heads=2
                ),
                masked_pixels=spec(MaskedPixels, decoder=DECODER),
                masked_features=spec(
                    MaskedFeatures,
                    network=vit(depth=1, drop_path=0.0),
                    weights="random",
                    decoder=DECODER,
                    taps=(0,),
                    region="masked",
                    pixel_weight=0.5,
                ),
            ),
            weights=dict(masked_tokens=0.5),
            views=dict(kept=spec(RandomPatches, share=0.5)),
        ),
    ),
    labelled=(
        vit(patch_dropout=0.5),
        spec(
            Combined,
            terms=dict(
                attributes=spec(Attributes, count=3),
                contrastive=contrastive(sigmoid=True),
                dino=spec(DINO, large=2, small=1, prototypes=6, hidden=6, bottleneck=5),
                regression=spec(Regression, label="age", mean=35.0, unit=20.0),
                supervised=spec(Supervised, classes=40, margin=spec(margins.AdaFace)),
            ),
        ),
    ),
    dvae=(spec(DVAEEncoder, variant="Nano", codes=16), spec(DiscreteVAE, embedding=16)),
)


@pytest.fixture(scope="module")
def batch():
    """Faces some of which have no mask, no age or no name; half of the batch has more of them than the other."""
    rng = np.random.default_rng(0)
    images = {"image": (), "image_large": (1,), "image_small": (1,)}
    sizes = dict.fromkeys(images, 8) | {"image_small": 4}
    return {
        **{name: rng.integers(0, 256, (B, *v, sizes[name], sizes[name], 3), np.uint8) for name, v in images.items()},
        "text": np.concatenate([rng.integers(1, 31, (B, 5)), np.full((B, 1), 31)], 1).astype(np.int32),
        "masked": np.array([rng.permutation(4) < rng.integers(0, 3) * (i < 48) for i in range(B)]),
        "identity": rng.integers(-1, 40, B).astype(np.int32),
        "attributes": np.where(rng.uniform(size=(B, 3)) < 0.3, np.nan, rng.integers(0, 2, (B, 3))).astype(np.float32),
        "age": np.where(np.arange(B) < 20, np.nan, rng.integers(1, 90, B)).astype(np.float32),
        "position": np.arange(100, 100 + B, dtype=np.uint32),
    }


def make_model(case):
    encoder, objective = CASES[case]
    built = build(encoder, dtype="float32", remat="dots_with_no_batch_dims_saveable", rngs=nnx.Rngs(params=0))
    return Model(built, build(objective, built, steps=10, rngs=nnx.Rngs(params=1)))


@pytest.fixture(scope="module")
def started(reference):
    """`started(case)`: the graph, the state before the first step, and what is frozen."""

    @functools.cache
    def started(case):
        model = reference.randomised(jax.jit(functools.partial(make_model, case))())
        for _, module in nnx.iter_modules(model):
            if isinstance(module, KMeansTokenizer):
                module.centres.set_value(jax.random.normal(jax.random.key(0), module.centres.shape))
                module.frequency.set_value(jnp.full(8, 1 / 8))
        graph, _, _, frozen = split(model)
        return graph, jax.device_get(state_of(model, OPTIMIZER.init, ema=True)), jax.device_get(frozen)

    return started


def step_of(graph, micro_batches):
    return make_step(graph, OPTIMIZER, seed=3, ema=0.9, micro_batches=micro_batches)


@pytest.fixture(scope="module")
def whole(started, batch):
    """`whole(case)`: the state and metrics after a step of the whole batch on one device."""

    @functools.cache
    def whole(case):
        graph, state, frozen = started(case)
        return jax.device_get(jax.jit(step_of(graph, 1))(state, frozen, batch))

    return whole


def assert_same(one, other):
    """1e-5 in loss and metrics, and in relative norm in each leaf of gradients (which are the momentum) and state.

    Some gradients are rounding alone: attention does not depend on the bias of its keys.
    """
    (state, metrics), (again, more) = one, jax.device_get(other)
    assert set(metrics) == set(more)
    for name, value in metrics.items():
        np.testing.assert_allclose(more[name], value, rtol=1e-5, err_msg=name)
    found = flat(again)
    for path, leaf in flat(state).items():
        rounding = 1e-7 * metrics["gradient_norm"] * ("/trace/" in path)
        difference = np.linalg.norm(np.float64(found[path]) - leaf)
        assert difference <= 1e-5 * np.linalg.norm(np.float64(leaf)) + rounding, path


@pytest.mark.parametrize("case", CASES)
def test_micro_batches_change_nothing(case, started, whole, batch):
    """1 x 64 is 4 x 16, with drop-path, dropped patches, masks drawn in the step, and labels that are missing."""
    graph, state, frozen = started(case)
    assert_same(whole(case), jax.jit(step_of(graph, MICRO))(state, frozen, batch))
    before, after = flat(state.variables), flat(whole(case)[0].variables)
    moved = {path.rsplit("/", 1)[-1] for path, leaf in before.items() if (leaf != after[path]).any()}
    if case == "labelled":  # what `loss_of` and `begin` write
        assert moved >= {"centre", "mean", "deviation", "kernel"}


def test_every_objective_is_among_these_or_says_why_it_cannot_be():
    terms = [objective.get("terms", {"": objective}) for _, objective in CASES.values()]
    shown = {term["call"].rsplit(":", 1)[-1] for each in terms for term in each.values()} | {"Combined"}
    for module in pkgutil.iter_modules(objectives.__path__):
        for name, found in vars(importlib.import_module(f"facerep_jax.objectives.{module.name}")).items():
            if isinstance(found, type) and issubclass(found, nnx.Module) and hasattr(found, "begin"):
                assert hasattr(found, "representations") != isinstance(getattr(found, "indivisible", None), str), name
                assert hasattr(found, "representations") == (name in shown), name


@pytest.mark.slow  # minutes to compile
def test_eight_devices_a_ring_and_micro_batches_come_to_the_same(started, whole, batch):
    """Parameters are split over four of them. And embeddings go around the ring: they are gathered nowhere."""
    graph, state, frozen = started("masked")
    mesh = sharding.make_mesh(dict(replica=2, fsdp=4))
    layout = sharding.shardings(state, mesh, sharding.rules_of("fsdp", {}))
    everywhere, batches = sharding.replicated(mesh), sharding.batch_sharding(mesh)
    with jax.set_mesh(mesh):
        step = jax.jit(
            step_of(graph, MICRO), in_shardings=(layout, everywhere, batches), out_shardings=(layout, everywhere)
        )
        given = (jax.device_put(state, layout), jax.device_put(frozen, everywhere), sharding.global_batch(batch, mesh))
        compiled = step.lower(*given).compile()
        assert_same(whole("masked"), compiled(*given))
    text = compiled.as_text()
    assert "collective-permute" in text
    gathered = set(re.findall(r"= \w+\[([\d,]+)\]\S* all-gather", text))
    assert gathered  # split parameters
    assert f"{B},{EMBEDDING}" not in gathered


def test_they_take_less_memory():
    """Temporaries of a small ViT and text tower, compiled and not run, in float32."""
    encoder = vit(image_size=32, width=64, depth=4)
    text = spec(TextTransformer, vocabulary=32, context=16, width=64, depth=2, heads=2)
    objective = spec(Contrastive, text_encoder=text, embedding=16)

    def make():
        built = build(encoder, dtype="float32", remat="dots_with_no_batch_dims_saveable", rngs=nnx.Rngs(params=0))
        return Model(built, build(objective, built, rngs=nnx.Rngs(params=1)))

    state = jax.eval_shape(lambda: state_of(make(), OPTIMIZER.init, ema=True))
    shapes = {
        "image": jax.ShapeDtypeStruct((B, 32, 32, 3), jnp.uint8),
        "text": jax.ShapeDtypeStruct((B, 16), jnp.int32),
        "position": jax.ShapeDtypeStruct((B,), jnp.uint32),
    }

    def temporaries(micro_batches):
        step = jax.jit(step_of(abstract(make)[0], micro_batches), donate_argnums=0)
        return step.lower(state, {}, shapes).compile().memory_analysis().temp_size_in_bytes

    held = sum(4 * leaf.size for leaf in jax.tree.leaves(state.params))
    one, four, eight = (temporaries(number) - held for number in (1, 4, 8))  # gradients are there in any case
    assert four < 0.4 * one, (one, four, eight, held)
    assert eight < 0.7 * four, (one, four, eight, held)


def of_tiny(objective, **settings):
    """A model of few numbers, whose encoder has batch normalisation if `encoder` is not given."""
    encoder = TinyEncoder(dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
    return Model(encoder, objective(encoder, **settings, rngs=nnx.Rngs(params=1)))


VIEWS = dict(first=spec(Crop, index=0))
SIZES = dict(hidden=8, width=8, contrast_group=0, norm_rows=0)
MOCO = spec(MomentumContrast, view="first", patches=spec(Crop, index=1), symmetric=True, **SIZES)


class Stranger(nnx.Module):
    """An objective that knows nothing of micro-batches."""

    needs, offers = ("image",), ()

    def __init__(self, encoder, *, rngs):
        self.weight = nnx.Param(jnp.ones(()))

    def begin(self, encoder, step):
        pass

    def views(self, batch, *, encoder, rng):
        return {}

    def loss(self, seen, views, batch, *, encoder, step, rng):
        return self.weight[...], {}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: of_tiny(Attributes, count=3), "would change encoder/norm/mean: running statistics"),
        (lambda: of_tiny(SwAV, small=1, prototypes=5), "would change SwAV: its codes share the prototypes out"),
        (lambda: of_tiny(SimSiam), "would change SimSiam: its projector and predictor are normalised"),
        (lambda: of_tiny(BYOL, steps=1), "would change BYOL: its projector and predictor are normalised"),
        (
            lambda: of_tiny(Combined, terms=dict(a=spec(Attributes, count=3), b=MOCO), views=VIEWS, steps=1),
            "would change Combined: of its term 'b', it contrasts and normalises images in groups",
        ),
        (lambda: of_tiny(Stranger), "would change Stranger: it has no representations of single examples"),
    ],
)
def test_what_needs_the_whole_batch_is_refused_and_says_why(make, message, batch):
    graph, *trees = abstract(make)
    optimizer = optax.sgd(0.1)
    state = jax.eval_shape(lambda: state_of(make(), optimizer.init, ema=False))
    with pytest.raises(
        ValueError, match=rf"data.micro_batches=2 {message}.* take data.micro_batches=1, and more devices"
    ):
        jax.eval_shape(make_step(graph, optimizer, seed=0, micro_batches=2), state, trees[2], batch)
    jax.eval_shape(make_step(graph, optimizer, seed=0, micro_batches=1), state, trees[2], batch)


@pytest.mark.slow
def test_a_run_that_is_killed_and_started_again_is_equal_to_the_bit(tmp_path):
    config, four = "configs/pretrain/farl.py:smoke,loss=ring,micro_batches=2", "--config.steps=4"
    left_alone = pretrain(config, tmp_path / "left_alone", four)
    assert_kill_and_resume_change_nothing(config, left_alone, tmp_path / "killed", four)


def test_the_command_line_refuses_it_and_writes_nothing(tmp_path, capsys):
    argv = ("--config=configs/pretrain/mcf.py:smoke", "--config.data.micro_batches=2", f"--workdir={tmp_path / 'run'}")
    assert cli.main(["facerep", "pretrain", *argv]) == 2
    error = capsys.readouterr().err.strip()
    assert "data.micro_batches=2 would change Combined: of its term 'momentum_contrast', it contrasts" in error
    assert "\n" not in error
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("3", "not divisible by the 8 devices .* times the 3 micro-batches; the nearest that is: 24"),
        ("0", "at least 1"),
    ],
)
def test_a_number_that_does_not_divide_is_refused(flag, message):
    mesh = sharding.make_mesh({"fsdp": -1})
    sharding.check_batch(48, mesh, 3)
    with pytest.raises(ValueError, match=message):
        sharding.check_batch(16, mesh, int(flag))
