r"""Predict what an evaluation learnt, on pictures.

facerep predict photos one.jpg --checkpoint results/landmarks --out predictions
facerep predict --boxes faces.jsonl --checkpoint results/parsing --out predictions --overlays 1000
facerep predict --dataset manifest/faces --split test --checkpoint results/age --out predictions

--checkpoint is the workdir of `facerep evaluate`, which keeps what it learnt from the first subset of the labels
(learnt.safetensors; config.keep); if its encoder was not trained, the checkpoint that it judged must still be where it
was. Words are images and folders, which are searched to their depths; --boxes names faces in images, as a manifest's
faces.jsonl does; --detect finds them; --dataset is a prepared set. Pictures are turned upright as their EXIF says and
cut, resized and normalised as the test images of the evaluation were; what is done is printed.

OUT, a new folder, gets predictions.jsonl: a line for each face with `id`, `image`, `size` (width and height of the
upright picture), `bbox`, `crop` (the corners of what the encoder saw) and what is predicted: `landmarks` in pixels of
the upright picture; `mask`, a PNG of class ids as large as the picture, 255 outside of the crop; `attributes` with
probabilities; `age`, and so on. overlays/ has pictures with what was predicted, of the first --overlays pictures; none
of a data set whose terms forbid to show its images.

Pictures that cannot be read are skipped, and listed in OUT/skipped.jsonl. The exit status is then 1; it is 0 if none
was, and 2, with nothing written, if all were.
"""

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import Image

from facerep_jax.files import local_path, writable_folder
from facerep_jax.inference import choice, overlays
from facerep_jax.inference.loading import BOX
from facerep_jax.inference.model import Model, Seen, Skipped

DIGITS = 4  # of predicted numbers, after the point


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Declare what the command line takes."""
    choice.define_flags(flag_values)
    flags.DEFINE_string("out", None, "new folder for the predictions", flag_values, required=True)
    flags.DEFINE_integer("overlays", 100, "pictures that are drawn, at most", 0, flag_values=flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> int:
    """The entry point; gives the exit status."""
    out = local_path("--out", flag_values.out)
    if out.exists():
        raise FileExistsError(f"--out {out} is there already; give a new folder")
    writable_folder("--out", out)
    loaded = choice.loaded(flag_values)
    model = Model(loaded, devices=flag_values.devices, batch_size=flag_values.batch_size)
    model.require_task()
    faces, transforms, may_show, crop = choice.chosen(flag_values, words, loaded)
    if crop != loaded.crop:
        print(f"note: it learnt from {'whole pictures' if crop == BOX else 'boxes of faces'}, which these are not")
    drawn = flag_values.overlays if may_show else 0
    if flag_values.overlays and not may_show:
        print(f"no overlays are written: images of {flag_values.dataset} may not be shown")
    pictures = {name: place for place, name in enumerate(dict.fromkeys(face.picture for face in faces))}
    keep = overlays.small if drawn else lambda pixels: None
    seen = model.run(faces, transforms, predicts=True, keep=keep, what="predicting")
    unfinished = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        unfinished.mkdir(parents=True)
        skipped = list[Skipped]()
        with (unfinished / "predictions.jsonl").open("w", encoding="utf-8") as file:
            count = 0
            for group in by_picture(seen, skipped):
                place = pictures[group[0].face.picture]
                for line in written(model, group, unfinished, place, draws=place < drawn):
                    file.write(json.dumps(line, allow_nan=False) + "\n")
                    count += 1
        if not count:
            raise ValueError(
                f"none of {len(faces)} faces can be read; the first is {skipped[0].id}: {skipped[0].reason}"
            )
        if skipped:
            lines = "".join(json.dumps(line) + "\n" for line in choice.lines_of(skipped))
            (unfinished / "skipped.jsonl").write_text(lines, encoding="utf-8")
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    told = choice.told_of(skipped, out / "skipped.jsonl")
    print("; ".join(filter(None, (f"{out}: {count} faces, see predictions.jsonl", told))))
    return int(bool(skipped))


def by_picture(seen: Iterable[Seen | Skipped], skipped: list[Skipped]) -> Iterator[list[Seen]]:
    """The faces of one picture after the other; what was skipped is added to the list."""

    def there() -> Iterator[Seen]:
        for each in seen:
            if isinstance(each, Skipped):
                skipped.append(each)
            else:
                yield each

    for _, group in groupby(there(), key=lambda each: each.face.picture):
        yield list(group)


def written(model: Model, group: list[Seen], folder: Path, place: int, *, draws: bool) -> Iterator[dict[str, Any]]:
    """The lines of the faces of a picture, whose masks and overlay are written into the folder."""
    told = [model.told(each) for each in group]
    overlay = f"overlays/{file_name(place, group[0].face.picture)}"
    if draws:
        (folder / "overlays").mkdir(exist_ok=True)
        overlays.drawn(group, told, model.loaded.meta).save(folder / overlay)
    for number, (each, values) in enumerate(zip(group, told, strict=True)):
        line: dict[str, Any] = {"id": each.face.id, "image": each.face.picture, "size": list(each.crop.size)}
        line["bbox"] = None if each.box is None else plain(each.box)
        line["crop"] = plain(each.crop.outline)
        if "mask" in values:
            (folder / "masks").mkdir(exist_ok=True)
            name = f"masks/{file_name(place, each.face.picture, number if len(group) > 1 else None)}"
            Image.fromarray(values["mask"]).save(folder / name)
            values = {**values, "mask": name}
        line |= {name: plain(value) for name, value in values.items()}
        yield {**line, "overlay": overlay} if draws else line


def file_name(place: int, picture: str, number: int | None = None) -> str:
    """A name for a file about a picture, or about one of its faces; no two are alike, whatever pictures are called."""
    stem = re.sub(r"[^\w.-]+", "_", Path(picture).stem)[-60:]
    return f"{place:06d}_{stem}{'' if number is None else f'_{number}'}.png"


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers of `DIGITS` digits, None for those that are not finite."""
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, float):
        return round(value, DIGITS) if np.isfinite(value) else None
    return value
