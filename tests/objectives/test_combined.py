import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from facerep_jax import schedules
from facerep_jax.config import build, spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.tokenizer import KMeansTokenizer
from facerep_jax.models.views import RandomPatches, UnmaskedPatches, random_patches
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.objectives.masked_tokens import MaskedTokens
from facerep_jax.streams import stream
from facerep_jax.train import optim
from facerep_jax.train.state import Model, abstract, count, initial, split
from facerep_jax.train.step import look_at_views, make_step
from facerep_jax.typing import Features, Objective, View


class Term(nnx.Module):
    """Remembers what it is given; its loss is a number."""

    def __init__(self, encoder, *, value=1.0, needs=("image",), taps=(), view="image", offers=(), rngs):
        self.value = nnx.Param(jnp.float32(value) + 0 * rngs.params.count[...])
        self.needs, self.taps, self.view, self.offers = tuple(needs), tuple(taps), view, tuple(offers)

    def begin(self, encoder, step):
        self.value.set_value(self.value[...] + 0 * step)

    def views(self, batch, *, encoder, rng):
        return {self.view: View(batch["image"], taps=self.taps)}

    def loss(self, seen, views, batch, *, encoder, step, rng):
        of_maps = sum((x.mean() for x in seen[self.view].at(self.taps)), jnp.zeros(()))
        return self.value[...] + of_maps, {"loss": self.value[...], "maps": of_maps}


class Drawing(Term):
    """Looks at patches of its own, and draws in the loss."""

    def views(self, batch, *, encoder, rng):
        return {self.view: View(batch["image"], keep=random_patches(stream(rng, "patches"), 4, 2))}

    def loss(self, seen, views, batch, *, encoder, step, rng):
        again = random_patches(stream(rng, "patches"), 4, 2)
        return self.value[...], {"draws": jax.vmap(jax.random.uniform)(rng), "again": again}


class Weighing(Term):
    """Has a random weight."""

    def __init__(self, encoder, *, rngs):
        super().__init__(encoder, value=jax.random.uniform(rngs.params()), rngs=rngs)


class Reading(Term):
    """Reads a view that it does not make."""

    def views(self, batch, *, encoder, rng):
        return {}

    def loss(self, seen, views, batch, *, encoder, step, rng):
        return seen[self.view].pooled.mean(), {"keep": views[self.view].keep, "pooled": seen[self.view].pooled}


class Long(Term):
    """Knows how long the run is."""

    def __init__(self, encoder, *, steps, rngs):
        super().__init__(encoder, value=float(steps), rngs=rngs)


def make_encoder(**settings):
    sizes = dict(variant="Nano/4", image_size=8, width=16, depth=3, heads=2)
    return ViT(**{**sizes, "dtype": "float32", "remat": "none", **settings}, rngs=nnx.Rngs(params=0))


def combine(terms, **settings):
    described = spec(Combined, terms=terms, **settings)
    return build(described, nnx.eval_shape(make_encoder), steps=70, rngs=nnx.Rngs(params=0))


BATCH = {"image": jnp.zeros((2, 8, 8, 3), jnp.uint8)}
KEYS = jax.random.split(jax.random.key(0), 2)


def views_of(objective, batch=BATCH):
    return objective.views(batch, encoder=nnx.eval_shape(make_encoder), rng=KEYS)


@pytest.fixture(scope="module")
def two():
    first = spec(Term, value=2.0, needs=("image", "text"), taps=(0, 2))
    second = spec(Term, value=5.0, needs=("image", "masked"), taps=(1,), view="other")
    return combine(dict(first=first, second=second), weights=dict(second=0.5))


def test_needs_are_those_of_all_terms_and_shared_views(two):
    assert isinstance(two, Objective)
    assert set(two.needs) == {"image", "text", "masked"}
    masks = combine(dict(a=spec(Reading, view="kept")), views=dict(kept=spec(UnmaskedPatches, share=0.5)))
    assert masks.needs == ("image", "masked")


def test_views_of_equal_names_are_one_with_the_taps_of_all(two):
    """tried: the taps of the last term."""
    assert {name: view.taps for name, view in views_of(two).items()} == {"image": (0, 2), "other": (1,)}
    shared = combine(dict(a=spec(Term, taps=(0, 2)), b=spec(Term, taps=(1, 2)), c=spec(Term)))
    views = views_of(shared)
    assert list(views) == ["image"]
    assert views["image"].taps == (0, 1, 2)
    assert views["image"].image is BATCH["image"]


def test_loss_is_the_weighted_sum_and_each_term_sees_its_own_taps(two):
    """tried: weights in another order; the first maps in place of the term's own; metrics without their term."""
    maps = {tap: jnp.full((2, 2, 2, 16), float(10**tap)) for tap in (0, 1, 2)}
    pooled = jnp.zeros((2, 16))
    seen = {name: Features(pooled, pooled[:, None], maps) for name in ("image", "other")}
    encoder = nnx.eval_shape(make_encoder)
    two.begin(encoder, jnp.int32(0))
    loss, metrics = two.loss(seen, views_of(two), {}, encoder=encoder, step=jnp.int32(0), rng=KEYS)
    values = {name: float(value) for name, value in metrics.items()}
    assert values == {"first/loss": 2, "first/maps": 101, "second/loss": 5, "second/maps": 10}
    assert loss == 1.0 * (2 + 101) + 0.5 * (5 + 10)


def test_weights_go_with_their_terms_in_whatever_order_these_are_given():
    """A model that was merged has its terms in the order of their names."""
    terms = dict(second=spec(Term, value=5.0), first=spec(Term, value=2.0))
    encoder = nnx.eval_shape(make_encoder)
    objective = Combined(encoder, terms=terms, weights=dict(first=10.0), steps=1, rngs=nnx.Rngs(params=0))
    merged, seen = nnx.merge(*nnx.split(objective)), {"image": Features(jnp.zeros((2, 16)), jnp.zeros((2, 1, 16)))}
    assert merged.loss(seen, {}, {}, encoder=encoder, step=jnp.int32(0), rng=KEYS)[0] == 10 * 2 + 5


def test_a_weight_without_its_term_is_an_error():
    with pytest.raises(
        ValueError, match="a weight is given for 'contrast', which is no term; did you mean 'contrastive'"
    ):
        combine(dict(contrastive=spec(Term)), weights=dict(contrast=1.0))


def test_terms_that_ask_for_the_length_of_the_run_are_told_it():
    both = combine(dict(long=spec(Long), other=spec(Term)))
    assert both.terms["long"].value[...] == 70


def drawn(terms):
    objective = combine(terms)
    views = views_of(objective)
    return views, objective.loss({}, views, BATCH, encoder=nnx.eval_shape(make_encoder), step=jnp.int32(0), rng=KEYS)[1]


def test_one_more_term_changes_no_draw_of_the_others():
    """tried: the same keys for all terms; keys by the number of the term."""
    views, metrics = drawn(dict(m=spec(Drawing, view="m")))
    for more in ("a", "z"):
        with_more, both = drawn({more: spec(Drawing, view=more), "m": spec(Drawing, view="m")})
        np.testing.assert_array_equal(with_more["m"].keep, views["m"].keep)
        np.testing.assert_array_equal(both["m/draws"], metrics["m/draws"])
        assert not np.isin(both[f"{more}/draws"], both["m/draws"]).any()
        for name in (more, "m"):  # loss is given the keys that the views were
            np.testing.assert_array_equal(both[f"{name}/again"], with_more[name].keep)


def test_initial_weights_are_drawn_in_the_order_of_the_terms_names():
    def weight(*terms):
        return float(combine({name: spec(Weighing) for name in terms}).terms["m"].value[...])

    assert weight("z", "m") == weight("m")
    assert weight("m", "a") != weight("m")


def test_a_term_with_the_encoders_stream_is_refused():
    with pytest.raises(ValueError, match="no term is called 'encoder'"):
        combine(dict(encoder=spec(Term)))


@pytest.mark.parametrize(
    ("terms", "views", "message"),
    [
        (dict(a=spec(Drawing), b=spec(Drawing)), {}, "the term 'a' and the term 'b' both call a view 'image'"),
        (dict(a=spec(Term), b=spec(Drawing)), {}, "the term 'a' and the term 'b' both call a view 'image'"),
        (
            dict(a=spec(Term), b=spec(Drawing, view="kept")),
            dict(kept=spec(RandomPatches, share=0.5)),
            "`views` and the term 'b' both call a view 'kept'",
        ),
    ],
)
def test_two_views_of_one_name_are_refused(terms, views, message):
    """tried: the last one taken for both."""
    with pytest.raises(ValueError, match=f"{message} and mean different ones: give one another name, or let both read"):
        views_of(combine(terms, views=views))


class Counting:
    """An encoder that counts its passes."""

    def __init__(self, encoder):
        self.encoder, self.passes = encoder, []
        self.width, self.stages, self.dtype, self.remat = encoder.width, encoder.stages, encoder.dtype, encoder.remat
        self.no_matter, self.rules = encoder.no_matter, encoder.rules
        self.tap_widths, self.tap_strides, self.grid = encoder.tap_widths, encoder.tap_strides, encoder.grid

    def __call__(self, view, *, train=False, rng=None):
        self.passes.append((len(view.image), None if view.keep is None else view.keep.shape[1]))
        return self.encoder(view, train=train, rng=rng)


def test_a_shared_view_is_encoded_once_and_read_by_both_terms():
    """And drawn alike whoever reads it. tried: keys by the number of terms; a pass for each reader."""
    terms = dict(a=spec(Reading, view="kept"), b=spec(Reading, view="kept"), c=spec(Term))
    objective = combine(terms, views=dict(kept=spec(RandomPatches, share=0.5)))
    passes = []

    @jax.jit
    def run():
        counting = Counting(make_encoder(depth=1))
        views, seen = look_at_views(counting, objective, BATCH, KEYS)
        passes.extend(counting.passes)
        return objective.loss(seen, views, BATCH, encoder=counting, step=jnp.int32(0), rng=KEYS)[1]

    metrics = run()
    assert sorted(passes, key=str) == [(2, 2), (2, None)]
    np.testing.assert_array_equal(metrics["a/keep"], metrics["b/keep"])
    np.testing.assert_array_equal(metrics["a/pooled"], metrics["b/pooled"])
    assert metrics["a/keep"].shape == (2, 2)
    fewer = combine(dict(a=terms["a"]), views=dict(kept=spec(RandomPatches, share=0.5)))
    np.testing.assert_array_equal(views_of(fewer)["kept"].keep, metrics["a/keep"])


def test_a_view_that_nobody_makes_is_named():
    objective = combine(dict(a=spec(Reading, view="kept"), c=spec(Term)))

    def loss():
        encoder = make_encoder()
        views, seen = look_at_views(encoder, objective, BATCH, KEYS)
        return objective.loss(seen, views, BATCH, encoder=encoder, step=jnp.int32(0), rng=KEYS)

    with pytest.raises(ValueError, match="no view is called 'kept'; there are: image"):
        jax.eval_shape(loss)


def test_offers_name_their_term_if_two_offer_the_same():
    """And lead to the module that is offered. tried: the term left out of the path."""
    teacher, tower = ("teacher", "value"), ("tower", "")
    assert combine(dict(a=spec(Term, offers=(teacher, tower)), b=spec(Term))).offers == (
        ("teacher", "terms/a/value"),
        ("tower", "terms/a"),
    )
    both = combine(dict(a=spec(Term, offers=(teacher, tower)), b=spec(Term, value=3.0, offers=(teacher,))))
    assert dict(both.offers) == {"a.teacher": "terms/a/value", "tower": "terms/a", "b.teacher": "terms/b/value"}
    place = both
    for part in dict(both.offers)["b.teacher"].split("/"):
        place = place[part] if isinstance(place, nnx.Dict) else getattr(place, part)
    assert place[...] == 3
    assert nnx.eval_shape(lambda: farl(make_encoder())).offers == (("text_tower", "terms/contrastive"),)


def farl(encoder, *, text=None, codes=16, patch=4, tiles=8, heads=2, embedding=512):
    terms = dict(
        contrastive=spec(Contrastive, text_encoder=spec(TextTransformer, **text or {}), embedding=embedding),
        masked_tokens=spec(
            MaskedTokens, tokenizer=spec(KMeansTokenizer, patch=patch, codes=codes), count=tiles, heads=heads
        ),
    )
    objective = spec(Combined, terms=terms, weights=dict(contrastive=1.0, masked_tokens=1.0))
    return build(objective, encoder, steps=150, rngs=nnx.Rngs(params=1))


def test_farl_has_as_many_parameters_as_its_released_weights():
    def make():
        encoder = ViT(variant="B/16", dtype="float32", remat="none", rngs=nnx.Rngs(params=0))
        return Model(encoder, farl(encoder, codes=8192, patch=16, tiles=75, heads=12))

    _, params, variables, frozen = abstract(make)
    assert count(params) == 163_010_561  # of FaRL-Base-Patch16-LAIONFace20M-ep64.pth
    assert not jax.tree.leaves(variables)
    assert count(frozen) == 8192 * (4 * 4 * 3) + 8192


@pytest.mark.slow
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

    schedule = spec(schedules.warmup_cosine, warmup_steps=10)
    optimizer = optim.adamw(learning_rate=3e-3, schedule=schedule, weight_decay=0.0, clip_norm=1.0, steps=150)
    state = jax.jit(lambda: initial(make, optimizer.transform.init, ema=False))()
    model = nnx.eval_shape(make)
    model.objective.terms.masked_tokens.tokenizer.fit_images(batch["image"])
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
