import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from facerep_jax.config import spec
from facerep_jax.models.text import TextTransformer
from facerep_jax.models.vit import CLIP_MEAN, ViT
from facerep_jax.objectives.combined import Combined
from facerep_jax.objectives.contrastive import Contrastive
from facerep_jax.train import handover
from facerep_jax.train.model import arrays_of, model_maker
from facerep_jax.typing import Statistics
from facerep_jax.weights import dalle
from tests.parity.dvae import published
from tests.train.tiny import TinyEncoder, TinyObjective, numbered, write_run

CONFIG = dict(seed=3, steps=9, dtype="float32", remat="none", encoder=spec(TinyEncoder), objective=spec(TinyObjective))
TOWER = spec(TextTransformer, vocabulary=16, context=5, width=8, depth=1, heads=2)
CONTRAST = spec(Contrastive, text_encoder=TOWER, embedding=4)


def equal(found, module, factor=1):
    """Whether a module has another's arrays, times a factor."""
    found, wanted = arrays_of(found), arrays_of(module)
    return found.keys() == wanted.keys() and all(np.array_equal(found[path], factor * wanted[path]) for path in wanted)


@pytest.fixture(scope="module")
def model():
    return numbered(model_maker(CONFIG)())


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    write_run(workdir, CONFIG, model, ema=True)
    (workdir / "model.json").write_text(json.dumps({"image_size": 12}))
    return workdir


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of a small encoder in DALL-E's layout."""
    path = tmp_path_factory.mktemp("file") / "dvae.safetensors"
    safetensors.numpy.save_file(published("encoder", channels=4, blocks=1, codes=8), path)
    return path


def test_weights_come_with_their_statistics(run, model):
    handed = handover.encoder(str(run))
    assert equal(handed.encoder, model.encoder)
    assert type(handed.encoder.norm.mean) is Statistics
    assert handed.image_size == 12
    assert handed.spec["call"] == "tests.train.tiny:TinyEncoder"
    digest = handover.digest_of({path: np.asarray(x) for path, x in arrays_of(model.encoder).items()})
    assert handed.origin == {"path": str(run), "step": 3, "weights": "params", "digest": digest}


def test_the_average_is_that_of_weights_and_statistics(run, model):
    """Tried: statistics as they are."""
    assert equal(handover.encoder(f"{run}@3", weights="ema").encoder, model.encoder, factor=10)


def test_a_teacher_is_handed_over_as_an_encoder(run, model):
    handed = handover.encoder(str(run), weights="teacher")
    assert equal(handed.encoder, model.objective.teacher)
    assert not equal(handed.encoder, model.encoder)
    assert (type(handed.encoder.kernel), type(handed.encoder.norm.mean)) == (nnx.Param, Statistics)
    assert handed.origin["weights"] == "teacher"


def test_settings_of_the_encoder_that_is_built_are_the_callers(run):
    built = handover.encoder(str(run), dtype="bfloat16", remat="dots_saveable").encoder
    assert (built.dtype, built.remat) == ("bfloat16", "dots_saveable")


@pytest.mark.parametrize("objective", [CONTRAST, spec(Combined, terms=dict(pairs=CONTRAST, more=spec(TinyObjective)))])
def test_an_objective_offers_its_text_tower_as_trained(tmp_path, objective):
    config = {**CONFIG, "objective": objective}
    model = numbered(model_maker(config)())
    write_run(tmp_path, config, model)
    tower = handover.offered(str(tmp_path), "text_tower")
    trained = model.objective if objective is CONTRAST else model.objective.terms["pairs"]
    assert equal(tower, trained)
    text = jnp.asarray([[3, 15, 0]])
    np.testing.assert_array_equal(tower.embed_text(text), trained.embed_text(text))
    with pytest.raises(ValueError, match=r"offers .*text_tower.*, not 'tower'"):
        handover.offered(str(tmp_path), "tower")


class Listed(TinyObjective):
    """Offers one of a list."""

    offers = (("second", "layers/1"),)

    def __init__(self, encoder, *, rngs):
        super().__init__(encoder, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(2, 3, rngs=rngs) for _ in range(2)])


def test_what_is_offered_may_stand_in_a_list(tmp_path):
    """Tried: a list that is asked for the text of a number."""
    config = {**CONFIG, "objective": spec(Listed)}
    model = numbered(model_maker(config)())
    write_run(tmp_path, config, model)
    assert equal(handover.offered(str(tmp_path), "second"), model.objective.layers[1])


def test_wrong_names_of_weights_are_an_error(run, model, tmp_path):
    with pytest.raises(ValueError, match="has no weights 'techer'; did you mean 'teacher'"):
        handover.encoder(str(run), weights="techer")
    write_run(tmp_path, CONFIG, model)
    with pytest.raises(ValueError, match=r"holds no average of weights: its config\.ema is 0"):
        handover.encoder(str(tmp_path), weights="ema")


def test_a_checkpoint_of_another_architecture_is_named(model, tmp_path):
    write_run(tmp_path, {**CONFIG, "encoder": spec(TinyEncoder, width=5)}, model)
    with pytest.raises(ValueError, match=r"the checkpoint .*@3 is of another .*: kernel is \(3, 4\) .* and \(3, 5\)"):
        handover.encoder(str(tmp_path))


def test_a_workdir_without_config_or_checkpoint_is_named(model, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint in .*none"):
        handover.encoder(str(tmp_path / "none"))
    write_run(tmp_path, CONFIG, model)
    with pytest.raises(FileNotFoundError, match="no checkpoint of step 4"):
        handover.encoder(f"{tmp_path}@4")
    (tmp_path / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"has no config\.json"):
        handover.encoder(str(tmp_path))


def test_the_size_of_images_is_that_of_the_run_or_of_the_encoder(tmp_path):
    assert handover.image_size_of(tmp_path, {}) is None
    assert handover.image_size_of(tmp_path, {"image_size": 224}) == 224
    (tmp_path / "model.json").write_text(json.dumps({"parameters": 1}))
    assert handover.image_size_of(tmp_path, {"image_size": 224}) == 224
    (tmp_path / "model.json").write_text(json.dumps({"image_size": 112}))
    assert handover.image_size_of(tmp_path, {"image_size": 224}) == 112


@pytest.mark.parametrize("raw", [b"", b'{"seed": ', b"\0\0", b'{"seed": "\xff"}'])
def test_a_damaged_description_of_a_run_is_named(tmp_path, raw):
    for name in ("config.json", "model.json"):
        (tmp_path / name).write_bytes(raw)
    with pytest.raises(ValueError, match=r"config\.json is not JSON: "):
        handover.config_of(tmp_path)
    with pytest.raises(ValueError, match=r"model\.json is not JSON: "):
        handover.image_size_of(tmp_path, {})


@pytest.mark.parametrize("layout", ["", "@dalle", "@facerep_jax.weights.dalle"])
def test_a_file_is_read_in_the_layout_that_is_named_or_recognised(file, layout):
    handed = handover.encoder(f"{file}{layout}")
    wanted = dalle.imported(safetensors.numpy.load_file(file))
    for path, x in arrays_of(handed.encoder).items():
        np.testing.assert_array_equal(x, wanted[path])
    assert handed.origin == {
        "path": str(file),
        "step": None,
        "weights": "dalle",
        "digest": handover.digest_of(wanted),
    }


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ("@dale", "no layout 'dale' of weights; did you mean 'dalle'"),
        ("@timm", "no array 'blocks.0.attn"),
        ("@no.such.module", "no layout 'no.such.module' of weights"),
    ],
)
def test_a_wrong_layout_is_an_error_that_begins_with_the_file(file, layout, message):
    with pytest.raises(ValueError) as error:
        handover.encoder(f"{file}{layout}")
    assert str(error.value).startswith(f"{file}: {message}")


def test_a_file_that_is_no_safetensors_is_named_once(tmp_path):
    path = tmp_path / "text.safetensors"
    path.write_text("no tensors, but more than eight bytes of text")
    with pytest.raises(ValueError) as error:
        handover.encoder(str(path))
    assert str(error.value).startswith(f"{path} is no safetensors file: ")


def test_a_name_is_a_file_if_there_is_one(tmp_path):
    plain, at = tmp_path / "a.safetensors", tmp_path / "b@2.safetensors"
    plain.touch()
    at.touch()
    assert handover.file_of(str(plain)) == (plain, "")
    assert handover.file_of(f"{plain}@timm") == (plain, "timm")
    assert handover.file_of(str(at)) == (at, "")
    assert handover.file_of(f"{at}@timm") == (at, "timm")
    assert handover.file_of(str(tmp_path)) is handover.file_of(f"{tmp_path}@3") is None
    with pytest.raises(ValueError, match="gs:/"):
        handover.file_of("gs://bucket/a.safetensors")


def test_a_digest_is_of_paths_and_bytes():
    x, y = np.arange(3.0), np.arange(4)
    digest = handover.digest_of({"a": x, "b": y})
    assert handover.digest_of({"b": y, "a": x}) == digest
    assert handover.digest_of({"a": x, "c": y}) != digest
    assert handover.digest_of({"a": x + 1, "b": y}) != digest


def test_networks_with_equal_arrays_that_compute_otherwise_are_refused():
    """Tried: arrays alone; types of products count; what does not matter counts."""

    def vit(**settings):
        shape = dict(variant="Nano/8", image_size=16, depth=1, dtype="float32", remat="none")
        return nnx.eval_shape(lambda: ViT(**{**shape, **settings}, rngs=nnx.Rngs(params=0)))

    ours = vit()
    free = dict(dtype="bfloat16", remat="dots_saveable", drop_path=0.1, patch_dropout=0.5, unroll=2)
    handover.require_same_settings(vit(**free, width=96, mean=CLIP_MEAN), ours, "it")
    with pytest.raises(ValueError, match="runs/a holds another network than the config's: blocks/heads: 6 -> 3; heads"):
        handover.require_same_settings(vit(heads=6), ours, "runs/a")
    with pytest.raises(ValueError, match=r"std: \(1\.0, 1\.0, 1\.0\) -> \(0\.2"):
        handover.require_same_settings(vit(std=(1.0, 1.0, 1.0)), ours, "runs/a")


def test_lists_of_a_config_become_tuples_as_they_were():
    assert handover.tuples({"a": [1, [2, {"b": [3]}]]}) == {"a": (1, (2, {"b": (3,)}))}
