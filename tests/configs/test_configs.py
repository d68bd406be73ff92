"""Config: every file under configs/ is read, spelt right, and builds. A new config is covered by being there.

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

from facerep_jax import face_world, study
from facerep_jax.config import build, locate, plain
from facerep_jax.data.datasets import generated_faces
from facerep_jax.data.pipeline import build_transforms
from facerep_jax.pretrain import flops_per_image, model_maker
from facerep_jax.train import sharding
from facerep_jax.train.state import abstract, initial
from facerep_jax.train.step import make_step

ROOT = Path(__file__).parents[2]
PATHS = sorted(p.relative_to(ROOT).as_posix() for p in (ROOT / "configs").glob("*/*.py") if p.stem != "__init__")
PRETRAIN = [path for path in PATHS if path.startswith("configs/pretrain/")]
STUDY = [path for path in PATHS if path.startswith("configs/study/")]
EVALUATE = [path for path in PATHS if path.startswith("configs/evaluate/")]

PRETRAIN_NAMES = {
    *("seed", "steps", "log_every", "checkpoint_every", "checkpoint_minutes", "dtype", "remat", "ema"),
    *("data", "encoder", "objective", "optimizer", "mesh", "sharding", "operational"),
}
RUNTIME = {  # what `build` is given beside a spec
    *("encoder", "rngs", "dtype", "remat", "steps", "image_size", "meta"),
    *("outputs", "points", "taps"),  # heads, by their task
}
OTHER = {
    "variant": ("S/16",),
    "protocol": ("finetune",),
    "selection": ("last",),
    "head": ("farl",),
    "crop": ("whole", "box"),
    "dataset": ("manifest/other",),
    "data_dir": ("elsewhere",),
    "objective": ("itc",),
    "tokenizer": ("dvae",),
    "weights": ("elsewhere",),
    "captions": ("oracle_caption",),
    "faces": ("elsewhere",),
    "encoders": ("mim+farl",),
    "encoder_size": (448,),
}
BESIDE = {"weights": "tokenizer=dvae"}  # arguments that act only beside others
VARIANTS = {
    "configs/pretrain/farl.py": (
        *("objective=itc", "objective=mim", "mim_depth=6", "objective=itc,align", "align", "flip", "smoke"),
        "variant=H/14",
        *("tokenizer=dvae,weights=x", "tokenizer=dvae_small,weights=x,objective=mim", "smoke,tokenizer=dvae,weights=x"),
    ),
    "configs/pretrain/farl_nano.py": ("objective=itc", "objective=mim", "crop=align", "crop=whole,flip"),
    "configs/pretrain/dvae.py": ("variant=DALL-E", "crop=box", "smoke"),
}
META = {"classes": ("background", "skin")}  # of a data set, as much as tasks ask for


def load(path: str) -> ModuleType:
    found = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / path)
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def arguments(path: str) -> dict[str, Any]:
    """Names and defaults that the config gives to `parse_arg`."""
    calls = [node for node in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(node, ast.Call)]
    (call,) = (call for call in calls if getattr(call.func, "id", "") == "parse_arg")
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def documentation(path: str) -> str:
    """The docstring, with that of the config that it refers to."""
    text = load(path).__doc__
    return text + "".join(load(other).__doc__ for other in re.findall(r"as of (configs/\S+\.py)", text))


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


def transformed(described: tuple[ConfigDict, ...]) -> dict[str, Any]:
    """A generated face after a config's transforms."""
    example = face_world.face(0, 0, 96)
    for transform in build_transforms(described, face_world.META):
        example = transform(example, np.random.default_rng(0))
    return example


def build_encoder(config: ConfigDict) -> Any:
    return build(config.encoder, dtype="float32", remat=config.remat, rngs=nnx.Rngs(params=0))


def test_there_are_configs():
    assert "configs/pretrain/farl.py" in PRETRAIN
    assert "configs/evaluate/landmarks_manifest.py" in EVALUATE


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
            other = name
        else:
            assert plain(get_config(f"{name}={value}")) == default
            others = OTHER.get(name, (value * 2,))
            other = f"{name}={next(other for other in others if other != value)}"
        beside = BESIDE.get(name, "")
        assert plain(get_config(f"{beside},{other}")) != plain(get_config(beside)), f"{other} changes nothing"
    with pytest.raises(ValueError, match="'nonsense'"):
        get_config("nonsense=1")


@pytest.mark.parametrize("path", [path for path in PATHS if "variant" in arguments(path)])
def test_a_wrong_variant_is_named(path):
    for variant in ("B", "B/x", "Q/16", "B/0"):
        with pytest.raises(ValueError, match=re.escape(variant)):
            nnx.eval_shape(lambda v=variant: build_encoder(load(path).get_config(f"variant={v}")))


@pytest.mark.parametrize("path", [*PRETRAIN, *EVALUATE])
def test_its_specs_name_callables_and_their_keywords(path):
    found = list(specs(plain(load(path).get_config(None))))
    assert len(found) > 2
    for name, described in found:
        call = locate(described)
        function = call.__init__ if inspect.isclass(call) else call
        parameters = {k: v for k, v in inspect.signature(function).parameters.items() if k != "self"}
        assert set(described) - {"call"} <= set(parameters), name
        open_ones = {k for k, v in parameters.items() if k not in described}
        assert open_ones <= RUNTIME, name
        assert all(parameters[k].default is inspect.Parameter.empty for k in open_ones), f"{name}: a default is missing"


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


@pytest.mark.parametrize("path", STUDY)
def test_the_cells_of_a_study_are_commands_that_are_right(path, tmp_path):
    cells = list(study.cells(load(path).get_config("faces=elsewhere"), tmp_path))
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
            assert own.config.data.dataset in prepared


def test_farl_s_own_head_comes_with_farl_s_own_training():
    """What FaRL's optimizers, trainers and logs say; a linear head, and a probe, keep settings of their own."""
    shared = {"batch_size": 40, "weight_decay": 1e-5, "decayed": ".", "warmup_steps": 0, "clip_norm": 0.0, "ema": 0.999}
    for task, rate, milestone, steps in (("landmarks", 1e-2, 0.8, 250 * 79), ("parsing", 1e-3, 2 / 3, 300 * 455)):
        get_config = load(f"configs/evaluate/{task}_manifest.py").get_config
        for protocol in ("frozen", "finetune"):
            found = get_config(f"head=farl,protocol={protocol},size=448,encoder_size=224")
            assert {name: found.protocol[name] for name in shared} == shared
            assert (found.protocol.learning_rate, found.protocol.schedule) == (rate, "steps")
            assert (found.protocol.steps, found.protocol.milestones) == (steps, (milestone,))
            assert (found.encoder.image_size, found.data.transforms[0].size) == (224, 448)
            assert get_config(f"protocol={protocol}").protocol.ema == 0
        assert rate * get_config("head=farl,protocol=finetune").protocol.encoder_multiplier == pytest.approx(1e-4)
        build(get_config("head=farl").protocol)


def test_twice_the_steps_of_one_loss_compute_as_much_as_both():
    """What configs/study/farl.py says of itc_twice and mim_twice."""
    example = dict(
        image=np.zeros((48, 48, 3), np.uint8),
        position=np.uint32(0),
        text=np.zeros(32, np.int32),
        masked=np.zeros(36, bool),
    )
    config = {
        name: load("configs/pretrain/farl_nano.py").get_config(f"objective={name}")
        for name in ("itc+mim", "itc", "mim")
    }
    both, itc, mim = (flops_per_image(each, example) for each in config.values())
    assert both == pytest.approx(2 * itc, rel=0.03)
    assert both == pytest.approx(2 * mim, rel=0.03)


def test_a_study_of_some_encoders_draws_only_what_they_read_and_changes_no_command():
    whole, part = (load("configs/study/farl.py").get_config(arg) for arg in ("", "encoders=mim_twice+farl_shuffled"))
    assert set(part.prepare) == {"shuffled", "web", "labelled"}
    commands = [{cell.arguments for cell in study.cells(config, Path("out"))} for config in (whole, part)]
    assert commands[1] < commands[0]
    with pytest.raises(ValueError, match=r"encoder is itc or mim or .*, not 'both'"):
        load("configs/study/farl.py").get_config("encoders=both")


@pytest.mark.parametrize(("path", "arg"), [(path, arg) for path in PRETRAIN for arg in ("", *VARIANTS.get(path, ()))])
def test_a_pretraining_builds_and_its_step_traces(path, arg):
    config = load(path).get_config(arg)
    assert set(config) == PRETRAIN_NAMES
    assert set(config.mesh) == set(sharding.AXES)
    sharding.rules_by_name(config.sharding)

    make = model_maker(config)
    graph, _, _, frozen = abstract(make)
    optimizer = build(config.optimizer, steps=config.steps)
    state = jax.eval_shape(lambda: initial(make, optimizer.transform.init, ema=config.ema > 0))
    example = {**transformed(config.data.transforms), "position": np.uint32(0)}
    wanted = (*nnx.eval_shape(make).objective.needs, "position")
    batch = {k: jax.ShapeDtypeStruct((2, *example[k].shape), example[k].dtype) for k in wanted}
    step = make_step(graph, optimizer.transform, seed=config.seed, ema=config.ema)
    after, metrics = jax.eval_shape(step, state, frozen, batch)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert {x.shape for x in metrics.values()} == {()}


@pytest.mark.parametrize(
    ("path", "arg"), [(path, arg) for path in EVALUATE for arg in ("", "head=farl")[: 1 + ("head" in arguments(path))]]
)
def test_an_evaluation_builds(path, arg):
    config = load(path).get_config(arg)
    size = transformed(config.data.transforms)["image"].shape[0]
    assert transformed(config.data.augmentations)["image"].shape[0] == size

    def make() -> Any:
        return build(config.task, build_encoder(config), image_size=size, meta=META, rngs=nnx.Rngs(params=0))

    task = nnx.eval_shape(make)
    assert task.label in task.needs
    build(locate(config.task).metric(META))
    assert build(config.protocol).name


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
