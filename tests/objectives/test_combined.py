import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.train import optim
from facerep_jax.train.state import Model, abstract, count, initial, split
from facerep_jax.train.step import make_step
from facerep_jax.typing import Features, View


class Term(nnx.Module):
    """Remembers what it is given; its loss is a number."""

    def __init__(self, encoder, *, value=1.0, needs=("image",), taps=(), micro="exact", view="image", rngs):
        self.value = nnx.Param(jnp.float32(value) + 0 * rngs.params.count[...])
        self.needs, self.taps, self.micro_batches, self.view = tuple(needs), tuple(taps), micro, view

    def begin(self, encoder, step):
        self.value.set_value(self.value[...] + 0 * step)

    def views(self, batch, rng):
        return {self.view: View(batch["image"])}

    def loss(self, seen, batch, *, encoder, step, rng):
        of_maps = sum((x.mean() for x in seen[self.view].maps), jnp.zeros(()))
        return self.value[...] + of_maps, {f"{self.view}/loss": self.value[...], f"{self.view}/maps": of_maps}


def make_encoder(**settings):
    sizes = dict(variant="Nano/4", image_size=8, width=16, depth=3, heads=2)
    return ViT(**{**sizes, "dtype": "float32", "remat": "none", **settings}, rngs=nnx.Rngs(params=0))


def combine(terms, **settings):
    return build(spec(Combined, terms=terms, **settings), nnx.eval_shape(make_encoder), rngs=nnx.Rngs(params=0))


@pytest.fixture(scope="module")
def two():
    first = spec(Term, value=2.0, needs=("image", "text"), taps=(0, 2), micro="cached")
    second = spec(Term, value=5.0, needs=("image", "masked"), taps=(1,), view="other")
    return combine(dict(first=first, second=second), weights=dict(second=0.5))


def test_needs_taps_and_strictness_are_those_of_all_terms(two):
    assert set(two.needs) == {"image", "text", "masked"}
    assert two.taps == (0, 1, 2)
    assert two.micro_batches == "cached"
    strict = combine(dict(a=spec(Term, micro="refuse"), b=spec(Term, micro="exact")))
    assert strict.micro_batches == "refuse"
    assert combine(dict(a=spec(Term))).micro_batches == "exact"


def test_views_of_equal_names_are_one(two):
    batch = {"image": jnp.zeros((2, 8, 8, 3), jnp.uint8)}
    rng = jax.random.split(jax.random.key(0), 2)
    assert set(two.views(batch, rng)) == {"image", "other"}
    shared = combine(dict(a=spec(Term), b=spec(Term)))
    assert list(shared.views(batch, rng)) == ["image"]


def test_loss_is_the_weighted_sum_and_each_term_sees_its_own_taps(two):
    """tried: weights in another order; the first maps in place of the term's own."""
    maps = tuple(jnp.full((2, 2, 2, 16), float(10**tap)) for tap in two.taps)
    pooled = jnp.zeros((2, 16))
    seen = {name: Features(pooled, pooled[:, None], maps) for name in ("image", "other")}
    rng = jax.random.split(jax.random.key(0), 2)
    two.begin(nnx.eval_shape(make_encoder), jnp.int32(0))
    loss, metrics = two.loss(seen, {}, encoder=nnx.eval_shape(make_encoder), step=jnp.int32(0), rng=rng)
    values = {name: float(value) for name, value in metrics.items()}
    assert values == {"image/loss": 2, "image/maps": 101, "other/loss": 5, "other/maps": 10}
    assert loss == 1.0 * (2 + 101) + 0.5 * (5 + 10)


def test_a_weight_without_its_term_is_an_error():
    with pytest.raises(
        ValueError, match="a weight is given for 'contrast', which is no term; did you mean 'contrastive'"
    ):
        combine(dict(contrastive=spec(Term)), weights=dict(contrast=1.0))


def farl(encoder, *, text=None, codes=16, patch=4, tiles=8, heads=2, embedding=512):
    terms = dict(
        contrastive=spec(Contrastive, text_encoder=spec(TextTransformer, **text or {}), embedding=embedding),
        masked_tokens=spec(
            MaskedTokens, tokenizer=spec(KMeansTokenizer, patch=patch, codes=codes), count=tiles, heads=heads
        ),
    )
    objective = spec(Combined, terms=terms, weights=dict(contrastive=1.0, masked_tokens=1.0))
    return build(objective, encoder, rngs=nnx.Rngs(params=1))


def test_farl_has_as_many_parameters_as_its_released_weights():
    def make():
        encoder = ViT(variant="B/16", dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        return Model(encoder, farl(encoder, codes=8192, patch=16, tiles=75, heads=12))

    _, params, variables, frozen = abstract(make)
    assert count(params) == 163_010_561  # of FaRL-Base-Patch16-LAIONFace20M-ep64.pth
    assert not jax.tree.leaves(variables)
    assert count(frozen) == 8192 * (4 * 4 * 3) + 8192


def test_farl_overfits_eight_records():
    """tried: captions that belong to other images each step; codes of other patches each step."""
    rng = np.random.default_rng(0)
    batch = {
        "image": rng.integers(0, 256, (8, 16, 16, 3), np.uint8),
        "text": np.concatenate([rng.integers(1, 31, (8, 5)), np.full((8, 1), 31)], 1).astype(np.int32),
        "masked": np.array([rng.permutation(16) < 6 for _ in range(8)]),
        "position": np.arange(8, dtype=np.uint32),
    }

    def make():
        encoder = make_encoder(image_size=16, width=32, depth=2)
        sizes = dict(vocabulary=32, context=6, width=16, depth=1, heads=2)
        return Model(encoder, farl(encoder, text=sizes, embedding=16))

    optimizer = optim.adamw(learning_rate=3e-3, warmup_steps=10, weight_decay=0.0, clip_norm=1.0, steps=150)
    state = jax.jit(lambda: initial(make, optimizer.transform.init, ema=False))()
    model = nnx.eval_shape(make)
    model.objective.terms.masked_tokens.tokenizer.fit(batch["image"])
    graph, _, _, frozen = split(model)
    step = jax.jit(make_step(graph, optimizer.transform, seed=0))
    state, start = step(state, frozen, batch)
    for _ in range(149):
        state, metrics = step(state, frozen, batch)
    assert start["contrastive/accuracy"] < 1
    assert metrics["contrastive/accuracy"] == 1
    assert metrics["contrastive/loss"] < 0.1
    assert metrics["masked_tokens/loss"] < 0.3 * start["masked_tokens/loss"]
    assert metrics["masked_tokens/loss"] < 0.5 * metrics["masked_tokens/unigram"]
    assert state.step == 150
