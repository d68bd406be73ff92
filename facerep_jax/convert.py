r"""Write the weights of an encoder in another layout.

facerep convert runs/farl export --layout hf_clip
facerep convert FaRL-Base-Patch16-LAIONFace20M-ep64.pth farl

The first word is a WORKDIR[@STEP] of a pre-training or a FILE[@LAYOUT] of published weights, as --checkpoint takes it;
a file's layout is recognised by its arrays if none is given. The second is a new folder. --layout names the layout that
is written; by default it is our own, `safetensors`, which holds all settings of the encoder and which --checkpoint and
--config.init read. With a contrastive objective, layouts of CLIP get the text tower too. --weights takes params, ema,
or an encoder that the objective offers, such as a teacher.

Two more are no weights but programs, which run without this package: stablehlo, for `jax.export`, and onnx, for
onnxruntime and others. From the workdir of an evaluation they hold the head too, such as that of landmarks.

The folder gets the weights, in the files of the layout's own library, its configs, and README.md, which says what they
are of. A layout that cannot say what an encoder is, such as its number of heads, is refused.
"""

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import safetensors.numpy
from absl import flags

from facerep_jax import weights
from facerep_jax.config import locate, plain
from facerep_jax.evaluation.results import Results
from facerep_jax.files import local_path, read_object, writable_folder, write
from facerep_jax.inference import loading, programs
from facerep_jax.reporting import wording
from facerep_jax.suggestions import nearest
from facerep_jax.train import handover
from facerep_jax.train.model import arrays_of
from facerep_jax.weights import _torch_save

AUTO, OWN = "auto", "safetensors"
FILE = "model.safetensors"
OFFERED = "text_tower"  # what a contrastive objective calls itself

TERMS = (  # the last lines of a model card
    "Licence: that of the weights' source and of the data, which this tool does not know; fill it in before you",
    "share them.",
    "",
    "Features of faces can identify people. Use them with the consent of those who are shown, and measure errors",
    "for the groups of people that they will be used on; no result is claimed here.",
    "",
)

Files = Mapping[str, Callable[[Path], Any] | str]


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    known = [name for name in weights.names() if hasattr(weights.load(name), "exported")] + [*programs.KINDS]
    flags.DEFINE_string("layout", AUTO, f"what is written: {', '.join(known)}, or a module; auto is {OWN}", flag_values)
    flags.DEFINE_string("weights", handover.PARAMS, "of a pre-training: params, ema, or a teacher's name", flag_values)
    flags.DEFINE_integer(
        "size", 0, "of programs: pixels of a side of the images, 0 for the checkpoint's", 0, flag_values=flag_values
    )


def run(flag_values: flags.FlagValues, words: list[str]) -> None:
    """The entry point."""
    if len(words) != 2:
        raise ValueError("from where to where? facerep convert WORKDIR[@STEP]|FILE[@LAYOUT] FOLDER")
    source, folder = words[0], local_path("FOLDER", words[1])
    name = OWN if flag_values.layout == AUTO else flag_values.layout
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; give a new folder")
    writable_folder("FOLDER", folder)
    if name in programs.KINDS:
        written = files_of_program(source, name, flag_values.weights, flag_values.size)
    elif flag_values.size:
        raise ValueError(f"--size is for programs, {' and '.join(programs.KINDS)}: weights are for images of any size")
    else:
        written = files_of(source, layout_of(name), flag_values.weights)
    folder.mkdir(parents=True)
    for path, content in written.items():
        write(folder / path, content)
    print(f"{folder}: {', '.join(sorted(written))}, in the layout {name}")


def layout_of(name: str) -> ModuleType:
    """The module of a layout. Raises ValueError, also for a name that resembles a program's kind, if there is none."""
    if "." not in name and name not in weights.names():
        raise ValueError(f"no layout {name!r} of weights; {nearest(name, [*weights.names(), *programs.KINDS])}")
    return weights.load(name)


def files_of_program(source: str, kind: str, which: str, size: int) -> Files:
    """The files of an encoder as a program, with the head if the source is an evaluation's workdir."""
    loaded = loading.load(source, weights=which, dtype="float32", size=size)
    program = programs.written(kind, loaded)
    rows = {
        "layout": kind,
        "taken from": Path(source).name,
        "SHA-256 of the encoder's arrays": loaded.digest,
        "images": f"{loaded.image_size} pixels a side",
    }
    what = "An encoder of faces"
    if loaded.task is not None:
        what, rows = f"{what} and what it learnt: {loaded.task.label}", rows | learnt_rows(source)
    text = [*heading(source, what, rows), "", *programs.described(program, loaded), *TERMS]
    return {programs.FILES[kind]: programs.saver(program.content), "README.md": "\n".join(text)}


def learnt_rows(workdir: str) -> dict[str, str]:
    """What a model card says of an evaluation: what was learnt from what, and how well."""
    results = Results.read(local_path("SRC", workdir) / "results.json")
    value = results.judged.metrics[results.headline].mean
    return {
        "learnt from": f"{results.labels:,} labels of {results.dataset}, by {results.judged.protocol}",
        "terms of these data": results.licence.get("licence", "not said"),
        results.headline: f"{results.words.scale(results.headline).shown(value)}, {wording.tested(results)}",
    }


def files_of(source: str, layout: ModuleType, which: str) -> Files:
    """The files of an encoder in a layout: name -> text, or what writes it to a path."""
    handed = handover.encoder(source, weights=which)
    ours = {path: np.asarray(x) for path, x in arrays_of(handed.encoder).items()}
    spec = {name: value for name, value in handed.spec.items() if value is not None}
    theirs = weights.exported(layout, ours, spec)
    objective = objective_of(source) if hasattr(layout, "exported_objective") else {}
    if objective:
        theirs = theirs | layout.exported_objective(objective)
    saved = getattr(layout, "save", None)
    name, tree = saved(theirs) if saved else (FILE, theirs)
    content = partial(_torch_save.save, tree) if name.endswith(".pth") else partial(save, tree)
    described: Mapping[str, Any] = layout.configs(spec, theirs) if hasattr(layout, "configs") else {}
    configs = {file: json.dumps(plain(config), indent=1) + "\n" for file, config in described.items()}
    return {name: content, **configs, "README.md": card(handed, layout, theirs, bool(objective))}


def save(arrays: Mapping[str, np.ndarray], path: Path) -> None:
    """Write a file of safetensors, and read it again: version 0.8 writes arrays that are not contiguous wrongly."""
    ready = {name: np.ascontiguousarray(x).reshape(x.shape) for name, x in arrays.items()}
    safetensors.numpy.save_file(ready, path, metadata={"format": "pt"})
    again = safetensors.numpy.load_file(path)
    if again.keys() != ready.keys() or not all(np.array_equal(x, again[name]) for name, x in ready.items()):
        raise OSError(f"{path} does not hold what was written")


def objective_of(source: str) -> dict[str, np.ndarray]:
    """The arrays of the contrastive objective that a source has, by path; empty if it has none."""
    if (found := handover.file_of(source)) is not None:
        path, name = found
        theirs = weights.read(path)
        layout = weights.load(name) if name else weights.recognised(theirs)
        try:
            return layout.imported_objective(theirs) if hasattr(layout, "imported_objective") else {}
        except ValueError:  # the visual tower alone
            return {}
    try:
        objective = handover.offered(source, OFFERED)
    except ValueError:  # it has no contrast with captions
        return {}
    tower = objective.text_encoder
    if tower.blocks.heads * 64 != tower.width:
        raise ValueError(f"the text tower has {tower.blocks.heads} heads, readers would take {tower.width // 64}")
    return {path: np.asarray(x) for path, x in arrays_of(objective).items()}


def card(handed: handover.Handed, layout: ModuleType, theirs: Mapping[str, np.ndarray], captions: bool) -> str:
    """A model card: what the weights are of, and what is not known of them."""
    origin, encoder = handed.origin, handed.encoder
    name = layout.__name__.rpartition(".")[2]
    rows = {
        "layout": name,
        "taken from": Path(origin["path"]).name + ("" if origin["step"] is None else f", step {origin['step']}"),
        "weights": origin["weights"],
        "SHA-256 of the encoder's arrays": origin["digest"],
        "numbers": f"{sum(map(np.size, theirs.values())):,}",
        "text tower": "yes" if captions else "no",
        "images": f"{handed.image_size} pixels a side" if handed.image_size else "of any size",
        "mean of RGB in [0, 1]": getattr(encoder, "mean", "as the encoder has it"),
        "standard deviation": getattr(encoder, "std", "as the encoder has it"),
    }
    config = Path(origin["path"]) / "config.json"
    if origin["step"] is not None and config.is_file():
        whole = read_object(config)
        rows |= {
            "objective": locate(whole["objective"]).__name__,
            "data": whole.get("data", {}).get("dataset", "not said"),
            "batch": whole.get("data", {}).get("batch_size", "not said"),
            "steps": whole.get("steps", "not said"),
        }
    lines = heading(origin["path"], "An encoder of faces", rows)
    lines += ["", "The encoder's settings:", "", "```json", json.dumps(plain(handed.spec), indent=1), "```", ""]
    return "\n".join([*lines, *TERMS])


def heading(source: str, what: str, rows: Mapping[str, Any]) -> list[str]:
    """The first lines of a model card: a title, a sentence, a table."""
    lines = ["---", "library_name: facerep_jax", "tags: [face, image-feature-extraction]", "---", ""]
    lines += [f"# {Path(source).name}", "", f"{what}, written by `facerep convert`.", "", "| | |", "|---|---|"]
    return lines + [f"| {what} | {value} |" for what, value in rows.items()]
