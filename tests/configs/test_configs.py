"""Config: every file under configs/ is read, spelt right, and builds. A new config is covered by being there.

A config may hold EXAMPLES, arguments worth trying, which are built like its default. They name values for arguments
that are choices, and what stands beside arguments that act only with others.

Planted and seen red, each in a config: a list, a None, a name missing, an argument that changes nothing, one that the
docstring lacks, the command of another config, a misspelt flag in it, a keyword that its callable does not take, heads
that do not divide the width, a mask of another grid than the encoder's.
"""

import ast
import importlib
import importlib.util
import inspect
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import jax
import numpy as np
import pytest
from absl import flags
from flax import nnx
from ml_collections import ConfigDict, FieldReference

from facerep_jax import evaluate, face_world, study, suite
from facerep_jax.config import OPEN, build, build_with, locate, plain, spec
from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.features import NUMBERS
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.evaluation import trial
from facerep_jax.models import vit
from facerep_jax.train import optim, sharding
from facerep_jax.train.flops import flops
from facerep_jax.train.model import model_maker
from facerep_jax.train.recipe import recipe
from facerep_jax.train.state import abstract, initial
from facerep_jax.train.step import make_step

ROOT = Path(__file__).parents[2]
PATHS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "configs").glob("*/*.py") if p.stem != "__init__")
PRETRAIN = [path for path in PATHS if path.startswith("configs/pretrain/")]
STUDY = [path for path in PATHS if path.startswith("configs/study/")]
SUITE = [path for path in PATHS if path.startswith("configs/evaluate/suite_")]
EVALUATE = [path for path in PATHS if path.startswith("configs/evaluate/") and path not in SUITE]

PARSED = {  # -> arguments that it adds
    "parse_arg": {},
    "shown_args": trial.SHARED,
    "learnt_args": trial.LEARNT,
    "compared_args": trial.COMPARED,
}
OTHER = "elsewhere"  # tried as another value of an argument that is text
STAGES = ("transforms", "augmentations")
BARE_RECIPE = recipe(
    steps=1, dataset="", transforms=(), batch_size=1, encoder=spec(vit.ViT), objective={}, optimizer=spec(optim.adamw)
)


def load(path: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def arguments(path: str) -> dict[str, Any]:
    """Names and defaults that the config gives to `parse_arg`, or to a function that adds some."""
    calls = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call)]
    (call,) = (call for call in calls if getattr(call.func, "id", "") in PARSED)
    return PARSED[call.func.id] | {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def examples(path: str) -> tuple[str, ...]:
    """What the config holds as EXAMPLES: arguments worth trying, each as it stands after the colon."""
    return getattr(load(path), "EXAMPLES", ())


def documentation(path: str) -> str:
    """The docstring, with that of the config that it refers to for its arguments."""
    text = load(path).__doc__
    return text + "".join(load(other).__doc__ for other in re.findall(r"Arguments: see (configs/\S+\.py)", text))


def left_open(path: str) -> set[str]:
    """Names of the arguments that the config, or the recipe or trial that it fills, gives to `spec` as OPEN."""
    texts = (ROOT / path).read_text(), inspect.getsource(recipe), inspect.getsource(trial)
    return {name for text in texts for name in re.findall(r"(\w+)=OPEN\b", text)}


def outcome(path: str, arg: str) -> Any:
    """The config as plain data; the error's message if the arguments are refused."""
    try:
        return plain(load(path).get_config(arg))
    except ValueError as error:
        return str(error)


def acts(path: str, name: str, arg: str) -> bool:
    """Whether `arg` is accepted and an argument of this name in it changes what comes out."""
    others = ",".join(item for item in arg.split(",") if item.partition("=")[0] != name)
    return not isinstance(outcome(path, arg), str) and outcome(path, others) != outcome(path, arg)


def leaves(value: Any, name: str = "config") -> Iterator[tuple[str, Any]]:
    """Every value that is not a mapping or tuple, with its path; placeholders stay what they are."""
    if isinstance(value, ConfigDict):
        for key, child in value.items(preserve_field_references=True):
            yield from leaves(child, f"{name}.{key}")
    elif isinstance(value, Mapping):
        for key, child in value.items():
            yield from leaves(child, f"{name}.{key}")
    elif isinstance(value, tuple):
        for index, child in enumerate(value):
            yield from leaves(child, f"{name}[{index}]")
    else:
        yield name, value


def specs(value: Any, name: str = "config") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every spec in a plain config, with its path."""
    if isinstance(value, list):
        for index, child in enumerate(value):
            yield from specs(child, f"{name}[{index}]")
    if isinstance(value, Mapping):
        if "call" in value:
            yield name, value
        for key, child in value.items():
            yield from specs(child, f"{name}.{key}")


def transformed(
    described: tuple[ConfigDict, ...], face: Mapping[str, Any] | None = None, **given: Any
) -> dict[str, Any]:
    """A generated face after a config's transforms."""
    face = {**(face or face_world.face(0, 0, 96)), "identity": 0}  # a number, as in records
    example = face | {name: np.asarray(face[name], kind) for name, (kind, _) in NUMBERS.items() if name in face}
    for transform in build_transforms(described, face_world.META, **given):
        example = transform(example, np.random.default_rng(0))
    return example


def given(config: ConfigDict) -> dict[str, Any]:
    """What an evaluation gives to its transforms."""
    return {"size": config.data.size, "whole": config.data.crop == "whole"}


def build_encoder(config: ConfigDict) -> Any:
    runtime = dict(dtype="float32", remat=config.remat, rngs=nnx.Rngs(params=0))
    return build_with(config.encoder, {"image_size": config.data.get("size")}, **runtime)


def step_of(config: ConfigDict) -> tuple[Any, Any, Any]:
    """A pre-training's step, and the shapes of its state and frozen networks."""
    make = model_maker(config)
    graph, _, _, frozen = abstract(make)
    optimizer = build(config.optimizer, steps=config.steps).transform
    state = jax.eval_shape(lambda: initial(make, optimizer.init, ema=config.ema > 0))
    settings = dict(seed=config.seed, ema=config.ema, micro_batches=config.data.micro_batches)
    return make_step(graph, optimizer, **settings), state, frozen


def test_there_are_configs():
    assert "configs/pretrain/farl.py" in PRETRAIN
    assert "configs/evaluate/landmarks.py" in EVALUATE


@pytest.mark.parametrize("path", PATHS)
def test_it_is_plain_data(path):
    config = load(path).get_config(None)
    assert config == load(path).get_config("")
    assert json.loads(json.dumps(plain(config))) == plain(config)
    for name, value in leaves(config):
        assert isinstance(value, bool | int | float | str | FieldReference), f"{name} is {value!r}"


@pytest.mark.parametrize("path", PATHS)
def test_its_arguments_are_documented_and_used(path):
    get_config, text = load(path).get_config, documentation(path)
    default = plain(get_config(None))
    for name, value in arguments(path).items():
        assert re.search(rf"\b{name}\b", text), f"{name} is not in the docstring"
        if isinstance(value, bool):
            assert value is False, f"{name} is set by its name alone, so it must be false by default"
            assert plain(get_config(f"{name}=false")) == default
            guess = name
        else:
            assert plain(get_config(f"{name}={value}")) == default
            guess = f"{name}={OTHER if isinstance(value, str) else 2 * value or 1}"
        tried = [arg for arg in (guess, *examples(path)) if acts(path, name, arg)]
        assert tried, f"neither {guess} nor any of EXAMPLES shows what {name} changes: add arguments that do"
    with pytest.raises(ValueError, match="'nonsense'"):
        get_config("nonsense=1")


@pytest.mark.parametrize("path", [path for path in PATHS if "variant" in arguments(path) and path not in SUITE])
def test_a_wrong_variant_is_named(path):
    size = ",size=32" if "size" in arguments(path) else ""
    for variant in ("B", "B/x", "Q/16", "B/0"):
        with pytest.raises(ValueError, match=re.escape(variant)):
            nnx.eval_shape(lambda v=variant: build_encoder(load(path).get_config(f"variant={v}{size}")))


@pytest.mark.parametrize("path", [*PRETRAIN, *EVALUATE])
def test_its_specs_name_callables_and_their_keywords(path):
    found = list(specs(plain(load(path).get_config(None))))
    assert len(found) > 2
    for name, described in found:
        call = locate(described)
        function = call.__init__ if inspect.isclass(call) else call
        parameters = {k: v for k, v in inspect.signature(function).parameters.items() if k != "self"}
        assert set(described) - {"call"} <= set(parameters), name
        with_default = {k for k, v in parameters.items() if v.default is not inspect.Parameter.empty}
        assert with_default - set(described) <= left_open(path), f"{name}: a default is missing"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # how ml_collections reads a config
def test_its_docstring_holds_a_command_that_is_right(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = path.split("/")[1]
    text = re.sub(r"\\\n\s*", "", load(path).__doc__)  # lines that a backslash continues
    (line,) = re.findall(rf"^facerep {command} .*$", text, re.MULTILINE)
    assert f"--config {path}" in line
    module, argv = importlib.import_module(f"facerep_jax.{command}"), shlex.split(line)
    own = flags.FlagValues()
    module.define_flags(own, argv)
    assert own(argv)[1:] == [command, *([Path(path).stem] if command == "study" else [])]
    assert command == "study" or own.workdir


def commands_of(config, folder):
    """The cells of a study, those that try learning rates too; the second rate of each recipe is chosen."""
    rates = {name: recipe.rates[1] for name, recipe in config.pretrain.items() if recipe.rates}
    return {*study.trials(config, folder, tuple(config.pretrain), rates), *study.cells(config, folder, rates)}


@pytest.mark.parametrize(("path", "arg"), [(path, arg) for path in STUDY for arg in ("", *examples(path))])
def test_the_cells_of_a_study_are_commands_that_are_right(path, arg, tmp_path):
    cells = commands_of(load(path).get_config(arg), tmp_path)
    assert len({cell.folder for cell in cells}) == len(cells)
    prepared = {
        f"{cell.arguments[1].partition(':')[0]}/{cell.folder.name}" for cell in cells if cell.arguments[0] == "prepare"
    }
    for cell in cells:
        command, *argv = cell.arguments
        module, own = importlib.import_module(f"facerep_jax.{command}"), flags.FlagValues()
        module.define_flags(own, [command, *argv])
        words = own([command, *argv])[1:]
        if command == "prepare":
            dataset, _, arg = words[0].partition(":")
            if dataset == "generated_faces":
                generated_faces.read(arg, None)
        else:
            assert set(own.config.data.dataset.split("+")) <= prepared


@pytest.mark.parametrize(("path", "arg"), [(path, arg) for path in SUITE for arg in ("", *examples(path))])
def test_the_evaluations_of_a_suite_are_configs_that_are_right(path, arg):
    config = load(path).get_config(arg)
    assert suite.is_suite(config)
    for name, evaluation in config.evaluate.items():
        learns = evaluation.get("learns", True)
        for fraction in evaluation.fractions:
            trained, untrained = (
                evaluate.config_of(suite.arguments_of(config, name, fraction, entry))
                for entry in (suite.Entry("a", "a", {}, 32, True, ""), None)
            )
            assert (trained.fraction, trained.data.size) == (fraction, 32)
            assert trained.seeds == (config.seeds if learns else (0,))
            assert not trained.encoder
            assert untrained.encoder.variant in ",".join(config.untrained)


def test_farl_s_own_head_comes_with_farl_s_own_training():
    """What FaRL's optimizers, trainers and logs say; a linear head, and a probe, keep settings of their own."""
    shared = {"weight_decay": 1e-5, "decayed": ".", "clip_norm": 0.0}
    for task, rate, milestone, steps in (("landmarks", 1e-2, 0.8, 250 * 79), ("parsing", 1e-3, 2 / 3, 300 * 455)):
        get_config = load(f"configs/evaluate/{task}.py").get_config
        for protocol in ("frozen", "finetune"):
            found = get_config(f"head=farl,protocol={protocol},size=448")
            optimizer = found.protocol.optimizer
            assert {name: optimizer[name] for name in shared} == shared
            assert (optimizer.learning_rate, optimizer.schedule.milestones) == (rate, (milestone,))
            assert optimizer.schedule.call.endswith(":warmup_steps_down")
            assert optimizer.schedule.warmup_steps == optimizer.schedule.warmup_share == 0
            assert (found.protocol.steps, found.protocol.batch_size, found.protocol.ema) == (steps, 40, 0.999)
            assert (found.encoder.to_dict(), found.data.size) == ({}, 448)  # an encoder of 224 pixels is one of those
            sizes = {transformed(found.data[name], **given(found))["image"].shape for name in STAGES}
            assert sizes == {(448, 448, 3)}
            assert get_config(f"protocol={protocol}").protocol.ema == 0
        ((pattern, multiplier),) = get_config("head=farl,protocol=finetune").protocol.optimizer.multipliers
        assert (pattern, rate * multiplier) == ("^encoder/", pytest.approx(1e-4))
        build(get_config("head=farl").protocol)


def test_twice_the_steps_of_one_loss_compute_as_much_as_both():
    """What configs/study/farl.py says of itc_twice and mim_twice."""
    shapes = dict(image=((48, 48, 3), np.uint8), position=((), np.uint32), text=((32,), np.int32), masked=((36,), bool))
    batch = {name: jax.ShapeDtypeStruct((64, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    config = {
        name: load("configs/pretrain/farl_nano.py").get_config(f"objective={name}")
        for name in ("itc+mim", "itc", "mim")
    }
    both, itc, mim = (flops(*step_of(each), batch) for each in config.values())
    assert both == pytest.approx(2 * itc, rel=0.03)
    assert both == pytest.approx(2 * mim, rel=0.03)


def test_a_long_mae_computes_as_much_as_mcf_and_its_frozen_network():
    """What configs/study/mcf.py says of mae_long and farl."""
    shapes = dict(image=((48, 48, 3), np.uint8), position=((), np.uint32), text=((32,), np.int32), masked=((36,), bool))
    batch = {name: jax.ShapeDtypeStruct((64, *shape), dtype) for name, (shape, dtype) in shapes.items()}
    nano = load("configs/pretrain/mcf_nano.py").get_config
    recipes = nano("objective=mae"), nano(""), load("configs/pretrain/farl_nano.py").get_config("")
    mae, mcf, farl = (flops(*step_of(each), batch) for each in recipes)
    assert pytest.approx((mae + mcf) / mae, rel=0.002) == load("configs/study/mcf.py").LONG
    assert farl == pytest.approx(mae + mcf, rel=0.01)


def test_the_frozen_network_of_a_study_is_trained_first():
    config = load("configs/study/mcf.py").get_config("encoders=mcf_regions")
    assert list(study.rounds(config)) == [("mae",), ("mcf_regions",)]
    with pytest.raises(ValueError, match=r"encoder is mae or mae_long or .*, not 'both'"):
        load("configs/study/mcf.py").get_config("encoders=both")


def test_mcf_trains_its_two_losses_together_or_apart():
    mcf = load("configs/pretrain/mcf.py").get_config
    terms = {arg: list(mcf(arg).objective.terms) for arg in ("", "objective=features", "objective=contrast")}
    assert terms == {
        "": ["masked_features", "momentum_contrast"],
        "objective=features": ["masked_features"],
        "objective=contrast": ["momentum_contrast"],
    }
    whole = mcf("")
    assert whole.objective.weights.to_dict() == {"masked_features": 1000.0, "momentum_contrast": 1.0}
    assert whole.objective.terms.momentum_contrast.momentum["value"] == pytest.approx(0.923, abs=1e-3)
    assert (whole.steps, whole.data.batch_size, whole.optimizer.learning_rate) == (78_112, 4096, 2.4e-3)
    with pytest.raises(ValueError, match="objective is mcf or features or contrast, not 'mae'"):
        mcf("objective=mae")


def test_a_study_of_some_encoders_draws_only_what_they_read_and_changes_no_command():
    whole, part = (load("configs/study/farl.py").get_config(arg) for arg in ("", "encoders=mim_twice+farl_shuffled"))
    assert set(part.prepare) == {"shuffled", "web", "labelled"}
    commands = [{cell.arguments for cell in commands_of(config, Path("out"))} for config in (whole, part)]
    assert commands[1] < commands[0]
    with pytest.raises(ValueError, match=r"encoder is itc or mim or .*, not 'both'"):
        load("configs/study/farl.py").get_config("encoders=both")


@pytest.mark.parametrize(("path", "arg"), [(path, arg) for path in PRETRAIN for arg in ("", *examples(path))])
def test_a_pretraining_builds_and_its_step_traces(path, arg):
    config = load(path).get_config(arg)
    assert set(config) == set(BARE_RECIPE)
    assert set(config.data) == set(BARE_RECIPE.data)
    assert set(config.mesh) == set(sharding.AXES)
    sharding.rules_of(config.sharding, {}, config.sharding_rules)

    step, state, frozen = step_of(config)
    example = {**transformed(config.data.transforms), "position": np.uint32(0)}
    wanted = (*nnx.eval_shape(model_maker(config)).objective.needs, "position")
    size = config.data.batch_size  # objectives may ask for a batch of some size
    batch = {k: jax.ShapeDtypeStruct((size, *example[k].shape), example[k].dtype) for k in wanted}
    after, metrics = jax.eval_shape(step, state, frozen, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert {x.shape for x in metrics.values()} == {()}


@pytest.mark.parametrize(("path", "arg"), [(path, arg) for path in EVALUATE for arg in ("", *examples(path))])
def test_an_evaluation_builds(path, arg):
    config = load(path).get_config(arg)
    if not config.encoder:
        config.encoder = spec(vit.ViT, variant="Nano/8", image_size=OPEN)
    config.data.size = config.data.size or 48
    seen = transformed(config.data.transforms, **given(config))
    size = seen["image"].shape[0]
    assert transformed(config.data.augmentations, **given(config))["image"].shape[0] == size

    def make() -> Any:
        offered = {"label_shape": np.shape(seen.get(locate(config.task).label, 0.0))}
        runtime = dict(image_size=size, meta=face_world.META, rngs=nnx.Rngs(params=0))
        return build_with(config.task, offered, build_encoder(config), **runtime)

    task = nnx.eval_shape(make)
    assert task.label in task.needs
    build(locate(config.task).metric(face_world.META))
    assert build(config.protocol).name


MIRRORED = {
    "landmarks": ("", "head=fan,crop=fan", "protocol=finetune,head=fan"),
    "parsing": ("", "crop=farl", "crop=whole"),
    "action_units": ("", "target=detection"),
    "emotion": ("", "target=expression"),
    **{name: ("",) for name in ("attributes", "age", "head_pose", "reconstruction_3d")},
}


@pytest.mark.parametrize(("task", "arg"), [(task, arg) for task, args in MIRRORED.items() for arg in args])
def test_a_mirrored_training_example_has_the_labels_of_the_mirrored_face(task, arg):
    """Against the scene that is mirrored by geometry before anything is drawn."""
    config = load(f"configs/evaluate/{task}.py").get_config(arg)
    config.data.size = 64
    moved, mirror = config.data.augmentations[-2:]
    assert (moved.shift, moved.zoom, mirror.probability) == (0.05, 0.1, 0.5)
    moved.shift = moved.zoom = 0.0
    mirror.probability = 1.0
    scene = face_world.sample_scene(0, 1)
    one, other = ({**face_world.render(each, 96), "age": 30.0} for each in (scene, face_world.mirror(scene)))
    ours = transformed(config.data.augmentations, one, **given(config))
    theirs = transformed(config.data.transforms, other, **given(config))
    before = transformed(config.data.transforms, one, **given(config))
    assert np.abs(ours["image"].astype(int) - theirs["image"]).mean() < 8
    assert np.abs(ours["image"].astype(int) - before["image"]).mean() > 16
    label = locate(config.task).label
    if label == "mask":
        assert (ours["mask"] == theirs["mask"]).mean() > 0.97  # half a pixel off in the warped square
        assert (before["mask"] == theirs["mask"]).mean() < 0.9
    else:
        np.testing.assert_allclose(ours[label], theirs[label], atol=0.05)
        sides = task in ("landmarks", "attributes", "head_pose", "reconstruction_3d")
        assert (np.abs(np.asarray(before[label]) - theirs[label]).max() > 0.5) == sides


def test_what_small_and_the_authors_settings_do_with_a_training_example_is_not_mirrored():
    for path in sorted(f"configs/evaluate/{task}.py" for task in MIRRORED):
        for arg in ("small", *(arg for arg in examples(path) if "head=farl" in arg)):
            assert "FlipWithLabels" not in str(load(path).get_config(arg).data.augmentations)


def test_an_ablation_leaves_out_what_it_does_not_use():
    farl = load("configs/pretrain/farl.py").get_config
    called = {
        arg: [t.call.partition(":")[2] for t in farl(arg).data.transforms] for arg in ("objective=itc", "objective=mim")
    }
    assert called == {
        "objective=itc": ["RandomResizedCrop", "Tokenize"],
        "objective=mim": ["RandomResizedCrop", "BlockMask"],
    }
    assert list(farl("objective=itc").objective.terms) == ["contrastive"]
    assert list(farl("objective=mim").objective.terms) == ["masked_tokens"]
    assert farl("mim_depth=6").objective.terms.masked_tokens.depth == 6


@pytest.mark.parametrize(
    ("arg", "message"),
    [
        ("objective=clip", r"objective is itc\+mim or itc or mim, not 'clip'"),
        ("tokenizer=vqgan", "tokenizer is kmeans or dvae or dvae_small, not 'vqgan'"),
        ("weights=x", "k-means is fitted and takes no weights; add tokenizer=dvae or tokenizer=dvae_small"),
    ],
)
def test_a_wrong_choice_of_farls_is_named(arg, message):
    with pytest.raises(ValueError, match=message):
        load("configs/pretrain/farl.py").get_config(arg)
