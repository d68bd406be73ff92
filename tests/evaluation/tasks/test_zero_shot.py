"""A text tower of a known answer, one that a pre-training would offer, and one of a file of CLIP's layout."""

from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from facerep_jax.config import build, spec
from facerep_jax.data import sentence_pieces
from facerep_jax.data.transforms import Lacking, tokens
from facerep_jax.evaluation import text_towers
from facerep_jax.evaluation.finite import require_finite
from facerep_jax.evaluation.problem import Problem
from facerep_jax.evaluation.protocols.zero_shot import ZeroShot
from facerep_jax.evaluation.tasks.zero_shot import MOST, NO, YES, AllCaptions, Captions, ZeroShotAttributes, ensemble
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.vit import ViT
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.train.model import arrays_of
from facerep_jax.train.state import Model
from facerep_jax.typing import Task, View
from facerep_jax.weights import open_clip
from tests.evaluation.tasks.pooled_features import loss_of, pictures, seen
from tests.parity import layouts

META = {"attributes": ["Bald", "Wearing_Hat"]}
RNG = np.random.default_rng(0)


def make_model(vocabulary=300, context=20):
    """An encoder and a contrastive objective, whose widths are those of layouts: 64 for each head."""
    sizes = dict(variant="B/16", image_size=32, width=64, depth=2, heads=1, flavour="clip")
    encoder = ViT(**sizes, dtype="float32", remat="none", rngs=nnx.Rngs(0))
    tower = spec(TextTransformer, vocabulary=vocabulary, context=context, width=64, depth=2, heads=1)
    return Model(encoder, Contrastive(encoder, text_encoder=tower, embedding=16, rngs=nnx.Rngs(1)))


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def file(model, tmp_path_factory):
    """The same as published weights."""
    path = tmp_path_factory.mktemp("clip") / "clip.safetensors"
    encoder = {name: np.asarray(x) for name, x in arrays_of(model.encoder).items()}
    objective = {name: np.asarray(x) for name, x in arrays_of(model.objective).items()}
    arrays = open_clip.exported(encoder) | open_clip.exported_objective(objective)
    safetensors.numpy.save_file({name: x.copy(order="C") for name, x in arrays.items()}, path)
    return path


def make(task_class, encoder, **settings):
    described = spec(task_class, **settings)
    return build(described, encoder, image_size=32, meta=META, rngs=nnx.Rngs(0))


def problem_of(model, task_class, test, checkpoint="", **settings):
    task = make(task_class, model.encoder, **settings)
    return Problem(
        encoder=model.encoder,
        make_task=lambda seed: task,
        task=task,
        metric=None,
        splits={"test": test},
        source=None,
        transforms=(),
        checkpoint=checkpoint,
    )


def direct(tower, texts):
    """Embeddings of texts one by one."""
    length, vocabulary = tower.text_encoder.context, tower.text_encoder.token_embedding.shape[0]
    return np.stack([tower.embed_text(jnp.asarray(tokens(text, length, vocabulary)[0][None]))[0] for text in texts])


def test_scores_are_differences_of_ensembles(model, file):
    test = {"image": pictures(4), "attributes": np.zeros((4, 2)), "id": list("abcd")}
    problem = problem_of(model, ZeroShotAttributes, test, checkpoint=f"{file}@open_clip")
    assert isinstance(problem.task, Task)
    found = ZeroShot().prepare(problem)(np.arange(0), np.arange(0), 0).prediction
    images = np.asarray(model.objective.embed_image(model.encoder(View(jnp.asarray(test["image"]))).pooled), np.float64)
    for column, words in enumerate(("bald", "wearing hat")):
        sides = []
        for prompts in (YES, NO):
            mean = direct(model.objective, [each.format(words) for each in prompts]).astype(np.float64).mean(0)
            sides.append(mean / np.linalg.norm(mean))
        np.testing.assert_allclose(found[:, column], images @ (sides[0] - sides[1]), atol=5e-3)  # half precision
    assert np.abs(found).max() > 1e-2


def test_prompts_may_be_given(model):
    words = {"Bald": (("a bald man.",), ("a man with hair.", "hair.")), "Wearing_Hat": "a hat"}
    task = make(ZeroShotAttributes, model.encoder, words=words)
    assert (task.yes[0], task.no[0]) == (("a bald man.",), ("a man with hair.", "hair."))
    assert task.yes[1] == tuple(each.format("a hat") for each in YES)
    with pytest.raises(ValueError, match="words are given for 'Beard', which the data set has not"):
        make(ZeroShotAttributes, model.encoder, words={"Beard": "a beard"})
    with pytest.raises(ValueError, match="needs prompts with it and prompts without it"):
        make(ZeroShotAttributes, model.encoder, no=())
    one = ensemble(model.objective, ("a hat",))
    np.testing.assert_allclose(one, direct(model.objective, ["a hat"])[0], atol=1e-5)
    with pytest.raises(ValueError, match="compares features as they are and learns nothing"):
        loss_of(task, seen(3), {})


def test_a_tower_is_that_of_a_file(model, file):
    tower = text_towers.text_tower(f"{file}@open_clip")
    texts = ["a man with a beard", "a very long text, " * 30, "woman"]
    np.testing.assert_allclose(
        text_towers.embedded(tower, text_towers.tokens_of(tower, texts)), direct(model.objective, texts), atol=1e-5
    )
    np.testing.assert_array_equal(tower.log_scale[...], model.objective.log_scale[...])


def test_a_tower_of_siglip_reads_tokens_of_its_own_file(model, tmp_path, monkeypatch):
    path = tmp_path / "siglip.safetensors"
    safetensors.numpy.save_file(layouts.state_of("hf_siglip_texts"), path)
    tower = text_towers.text_tower(str(path))
    stand_in = SimpleNamespace(encode=lambda text: [ord(letter) for letter in text], bos_id=lambda: -1)
    monkeypatch.setattr(sentence_pieces, "of_file", lambda file: stand_in)
    found = text_towers.tokens_of(tower, ["A hat!", "a man with a beard"], "some.model")
    assert found.tolist() == [[*map(ord, "a hat")] + [1] * 11, [*map(ord, "a man with a be"), 1]]
    embedded = text_towers.embedded(tower, found)
    np.testing.assert_allclose(np.linalg.norm(embedded, axis=1), 1, atol=1e-5)
    mean = embedded.mean(0) / np.linalg.norm(embedded.mean(0))
    np.testing.assert_allclose(ensemble(tower, ("A hat!", "a man with a beard"), "some.model"), mean, atol=1e-5)
    texts = AllCaptions(tokenizer="some.model")({"id": "a", "caption": ["A hat!"]}, RNG)["texts"]
    assert texts[0, :16].tolist() == found[0].tolist()
    assert not texts[1:].any()
    with pytest.raises(ValueError, match="reads SentencePiece's tokens, 320 of them: give tokenizer=FILE"):
        text_towers.tokens_of(tower, ["a hat"])
    with pytest.raises(ValueError, match="reads CLIP's tokens: leave out tokenizer=FILE"):
        text_towers.tokens_of(model.objective, ["a hat"], "some.model")


def test_captions_are_tokens_side_by_side(model, file):
    example = {"id": "a", "caption": ["a man", " ", "a man with a hat"]}
    texts = AllCaptions()(example, RNG)["texts"]
    assert texts.shape == (MOST, 77)
    assert texts.any(1).tolist() == [True, True, False, False, False]
    with pytest.raises(Lacking, match="has no caption"):
        AllCaptions()({"id": "a", "caption": [" "]}, RNG)
    test = {"image": pictures(2), "texts": np.stack([texts, texts[::-1]]), "id": list("ab")}
    problem = problem_of(model, Captions, test)
    found = ZeroShot(tower=f"{file}@open_clip").prepare(problem)(np.arange(0), np.arange(0), 0).prediction
    assert found.shape == (2, 1 + MOST, 16)
    np.testing.assert_allclose(found[0, 1:3], direct(model.objective, ["a man", "a man with a hat"]), atol=1e-5)
    np.testing.assert_array_equal(np.isnan(found[0, :, 0]), [False, False, False, True, True, True])
    chance = Captions.baselines({}, {}, test, META)["chance"]
    np.testing.assert_array_equal(chance[0, 1:][::-1], chance[1, 1:])  # equal captions are equal


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ("random", "an encoder before any training has no text tower"),
        ("visual", "no text tower is found by the layout open_clip"),
        ("nowhere", "nowhere"),
    ],
)
def test_an_encoder_without_a_text_tower_is_refused(checkpoint, message, model, tmp_path):
    if checkpoint == "visual":
        encoder = {name: np.asarray(x) for name, x in arrays_of(model.encoder).items()}
        arrays = {name: np.ascontiguousarray(x) for name, x in open_clip.exported(encoder).items()}
        safetensors.numpy.save_file(arrays, tmp_path / "visual.safetensors")
        checkpoint = f"{tmp_path / 'visual.safetensors'}@open_clip"
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        text_towers.text_tower(checkpoint)


def test_towers_must_fit(model, file):
    test = {"image": pictures(1), "attributes": np.zeros((1, 2)), "id": ["a"]}
    narrow = ViT(
        variant="Nano/8", image_size=32, width=16, depth=1, heads=2, dtype="float32", remat="none", rngs=nnx.Rngs(0)
    )
    problem = problem_of(SimpleNamespace(encoder=narrow), ZeroShotAttributes, test, checkpoint=f"{file}@open_clip")
    with pytest.raises(ValueError, match="goes with an encoder of 64 channels, the one that is judged has 16"):
        ZeroShot().prepare(problem)
    problem = problem._replace(task=SimpleNamespace(title="Age"))
    with pytest.raises(ValueError, match="of tasks that compare images with texts, and Age does not"):
        ZeroShot().prepare(problem)


def test_features_that_are_no_numbers_are_named():
    x = np.ones((6, 3))
    require_finite(x, list("abcdef"))
    x[1, 2], x[3:] = np.nan, np.inf
    with pytest.raises(ValueError, match="features of 4 of 6 images are not finite: b, d, e and 1 more"):
        require_finite(x, list("abcdef"))
