"""Look at a prepared data set: faces with all their labels drawn in, counts, and warnings where numbers show faults.

    facerep inspect manifest/mine --data_dir data --out inspected
    facerep inspect celeba --split test --count 48 --data_dir data --out inspected

inspected/inspect.html has warnings, pictures and tables, and loads nothing; inspected/sheet.png has the pictures alone.
Boxes, landmarks, masks, captions and other labels are drawn so that wrong ones are seen at once: left eyes are blue and
right eyes orange, and some landmarks have their number. Warnings are told of boxes that are x, y, width, height, of
coordinates from 0 to 1, of points outside of the image, eyes and classes exchanged, flips that do not mirror, labels
that never change, and images that stand there twice.

Up to 20,000 records are read, drawn at random by --seed; --all reads all. Where the terms of a set forbid to show its
images, no picture is written. Warnings leave the exit status at 0: they are doubts to look into.
"""

import functools
from collections.abc import Sequence

import numpy as np
from absl import flags
from tqdm import tqdm

from facerep_jax import files
from facerep_jax.data import datasets
from facerep_jax.data.bucket import readable
from facerep_jax.data.library import Dataset, open_dataset, prepared
from facerep_jax.data.meta import may_show_images
from facerep_jax.data.survey import chosen, places_in, survey
from facerep_jax.reporting import page, surveys
from facerep_jax.reporting.annotated import contact_sheet, faces, key_of
from facerep_jax.reporting.wording import plural

PAGE, SHEET = "inspect.html", "sheet.png"
DOUBTED = 12  # faces that warnings name, which are shown


def define_flags(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Defines this command's flags."""
    words = functools.partial(flags.DEFINE_string, flag_values=flag_values)
    words("data_dir", "data", "folder of all prepared data sets")
    words("split", None, "look at this split alone, such as train")
    words("out", None, f"folder for {PAGE} and {SHEET}", required=True)
    integer = functools.partial(flags.DEFINE_integer, flag_values=flag_values)
    integer("count", 24, "faces that are shown", lower_bound=1, upper_bound=500)
    integer("seed", 0, "of the choice of faces and records", lower_bound=0)
    flags.DEFINE_bool("all", False, "read all records, however many there are", flag_values=flag_values)


def run(flag_values: flags.FlagValues, words: Sequence[str]) -> int:
    """Reads records, writes the page and the sheet, and prints what stands out."""
    if len(words) != 1:
        raise ValueError(
            f"one data set is expected, not {' '.join(words) or 'none'}: facerep inspect DATASET --out DIR"
        )
    out = files.local_path("--out", flag_values.out)
    files.writable_folder("--out", out)
    dataset = opened(words[0], flag_values.data_dir)
    if flag_values.split is not None:
        dataset.source(flag_values.split)  # raises where there is none
    splits = tuple(dataset.splits) if flag_values.split is None else (flag_values.split,)
    records = chosen(dataset, splits, flag_values.seed, flag_values.all)
    bar = functools.partial(tqdm, desc="reading", unit=" records", leave=False, disable=None)
    found = survey(dataset, records, bar)
    warnings = found.warnings()
    key = key_of(found)
    shown, doubted = [], []
    if may_show_images(dataset.meta):
        shown = [*faces(found, drawn(records, flag_values.count, flag_values.seed))]
        doubted = [*faces(found, [*dict.fromkeys(place for text in warnings for place in places_in(text))][:DOUBTED])]
    text = page.html(surveys.page(found, warnings, shown, doubted, key))
    out.mkdir(parents=True, exist_ok=True)
    (out / SHEET).unlink(missing_ok=True)  # one of another set must not lie beside this page
    if shown:
        sheet = contact_sheet(shown, f"{dataset.name}: {', '.join(splits)}", key)
        files.write(out / SHEET, lambda path: sheet.save(path, format="PNG"))
    files.write(out / PAGE, text)
    for warning in warnings:
        print(f"warning: {warning}")
    wrote = f"{out / PAGE} and {SHEET}" if shown else f"{out / PAGE}; no picture, since the set's terms forbid it"
    told = plural(len(warnings), "warning") if warnings else "no warning"
    print(f"{dataset.name}: {surveys.basis(found)}; {told}; {wrote}")
    return 0


def opened(name: str, data_dir: str) -> Dataset:
    """A data set by its name, FAMILY/NAME, or FAMILY alone where that leaves no choice.

    Raises:
        ValueError, FileNotFoundError: it is not there, or there are several.
    """
    if "/" in name or ":" in name:
        return open_dataset(name, data_dir)
    root = readable("--data_dir", data_dir)
    found = [each for each in prepared(root) if each.startswith(f"{name}/")] if root.is_dir() else []
    if len(found) > 1:
        raise ValueError(f"which of {', '.join(found)}?")
    if not found and name in datasets.names():
        found = [f"{name}/{datasets.load(name).NAME}"]
    return open_dataset(found[0] if found else name, data_dir)


def drawn(records: dict[str, np.ndarray], count: int, seed: int) -> list[tuple[str, int]]:
    """Some of the records (split, index), at random but in order, of each split as its share of them is."""
    places = [(split, index) for split, indices in records.items() for index in indices.tolist()]
    rng = np.random.default_rng(seed)
    return [places[i] for i in np.sort(rng.choice(len(places), min(count, len(places)), replace=False)).tolist()]
