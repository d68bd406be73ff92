"""Planted copies are found, others are not, and what is found is taken by `laion_face:exclude_ids`.

Planted and seen red: mirror images left out; crops left out.
"""

import io
import json

import numpy as np
import pytest
from PIL import Image

from facerep_jax import cli, face_world
from facerep_jax.data.library import open_dataset
from facerep_jax.face_world.sampling import Settings
from tests.data.laion import FIRST, sample, write_tar

FACES = 60  # held out, of which the first half has copies in the set to train on


def jpeg(image: Image.Image, quality: int = 90) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return file.getvalue()


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = (round(0.9 * side) for side in image.size)
    x, y = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((x, y, x + width, y + height))


COPIES = {
    "resized": lambda image, rng: jpeg(image.resize((round(0.6 * image.width), round(0.7 * image.height)))),
    "encoded": lambda image, rng: jpeg(image, 40),
    "mirrored": lambda image, rng: jpeg(image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
    "cropped": lambda image, rng: jpeg(cropped(image, rng)),
}


def write(folder, rows):
    """A manifest of (name, split, content, identity)."""
    folder.mkdir(parents=True)
    lines = []
    for name, split, content, person in rows:
        (folder / name).write_bytes(content)
        lines.append(json.dumps({"image": name, "split": split, "identity": person}))
    (folder / "faces.jsonl").write_text("\n".join(lines))


def prepare(folder, data, name):
    assert (
        cli.main(["facerep", "prepare", "manifest", f"--manual_dir={folder}", f"--data_dir={data}", f"--name={name}"])
        == 0
    )


def audit(data, train, *against):
    flags = (f"--against={','.join(against)}", f"--data_dir={data}", f"--out={data}/audit")
    status = cli.main(["facerep", "audit", train, *flags])
    return status, [json.loads(line) for line in (data / "audit" / "near_duplicates.jsonl").read_text().splitlines()]


def recall_and_false_alarms(folder, images):
    """Of each kind of copy: (share of the copies that are found, share of the images without a copy that are)."""
    data, half = folder / "data", len(images) // 2
    write(folder / "held", [(f"{n}.jpg", "test", jpeg(image, 95), f"p{n}") for n, image in enumerate(images)])
    prepare(folder / "held", data, "held")
    rates = {}
    for kind, copy in COPIES.items():
        rng = np.random.default_rng(0)
        rows = [(f"copy{n}.jpg", "train", copy(image, rng), f"p{n}") for n, image in enumerate(images[:half])]
        write(folder / kind, rows)
        prepare(folder / kind, data, kind)
        _, found = audit(data, f"manifest/{kind}", "manifest/held")
        pairs = {(line["id"], line["like"]) for line in found}
        true = {(f"copy{n}.jpg", f"manifest/held test {n}.jpg") for n in range(half)}
        alarms = {like for _, like in pairs} & {f"manifest/held test {n}.jpg" for n in range(half, len(images))}
        rates[kind] = (len(true & pairs) / half, len(alarms) / (len(images) - half))
    return rates


def drawn(count):
    settings = Settings(sessions=1, frames=1)
    return [Image.fromarray(face_world.face(0, n, 112, settings)["image"]) for n in range(count)]


def test_planted_copies_are_found_and_no_others(tmp_path):
    for kind, (recall, alarms) in recall_and_false_alarms(tmp_path, drawn(FACES)).items():
        assert recall >= 0.95, kind
        assert alarms <= 0.01, kind


@pytest.mark.slow
def test_planted_copies_of_real_faces_are_found_and_no_others(tmp_path, real_faces):
    lines = map(json.loads, (real_faces / "faces.jsonl").read_text().splitlines())
    images = [Image.open(real_faces / line["image"]).convert("RGB") for line in lines]
    for kind, (recall, alarms) in recall_and_false_alarms(tmp_path, images).items():
        assert recall >= 0.95, kind
        assert alarms <= 0.01, kind


def test_a_smaller_copy_of_a_part_is_found_from_either_side(tmp_path):
    image = drawn(1)[0]
    part = image.crop((5, 5, 106, 106)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    data = tmp_path / "data"
    for name, split, content in [("whole", "train", jpeg(image)), ("part", "test", jpeg(part))]:
        write(tmp_path / name, [("a.jpg", split, content, "p")])
        prepare(tmp_path / name, data, name)
    status, found = audit(data, "manifest/whole", "manifest/part")
    assert status == 1
    assert [(line["id"], line["like"]) for line in found] == [("a.jpg", "manifest/part test a.jpg")]


def test_people_in_two_splits_are_named(tmp_path, capsys):
    first, second, third, fourth = (jpeg(image) for image in drawn(4))
    data = tmp_path / "data"
    write(
        tmp_path / "two",
        [("a.jpg", "train", first, "ada"), ("b.jpg", "test", second, "ada"), ("c.jpg", "test", third, "bo")],
    )
    write(tmp_path / "one", [("d.jpg", "train", fourth, "cy")])
    for name in ("one", "two"):
        prepare(tmp_path / name, data, name)
    status, found = audit(data, "manifest/one", "manifest/two")
    assert (status, found) == (1, [])
    assert "1 people are in two splits of manifest/two: ada\n" in capsys.readouterr().out
    assert audit(data, "manifest/one", "manifest/one")[0] == 1  # it is its own near-duplicate
    write(tmp_path / "clean", [("e.jpg", "test", third, "cy")])
    prepare(tmp_path / "clean", data, "clean")
    assert audit(data, "manifest/one", "manifest/clean") == (0, [])


def test_what_is_found_is_left_out_by_laion_face(tmp_path):
    images = [jpeg(image) for image in drawn(4)]
    data = tmp_path / "data"
    write(tmp_path / "held", [("a.jpg", "test", images[2], "p")])
    prepare(tmp_path / "held", data, "held")
    write_tar(tmp_path / "raw" / "0.tar", {str(n): sample(n, image=image) for n, image in enumerate(images)})
    words = [f"--manual_dir={tmp_path}/raw", f"--data_dir={data}"]
    assert cli.main(["facerep", "prepare", "laion_face:no_safety_list", *words]) == 0
    status, found = audit(data, "laion_face/default", "manifest/held")
    assert status == 1
    assert [line["id"] for line in found] == [str(FIRST + 2)]
    again = f"laion_face:no_safety_list,exclude_ids={data}/audit/ids.txt"
    assert cli.main(["facerep", "prepare", again, *words, "--overwrite"]) == 0
    assert open_dataset("laion_face/default", data).splits == {"train": 3}
    assert audit(data, "laion_face/default", "manifest/held") == (0, [])


def test_wrong_usage_is_one_line(tmp_path, capsys):
    for words, message in [((), "one set to train on is expected"), (("manifest/x",), "'manifest/x' is not prepared")]:
        flags = ("--against=manifest/y", f"--data_dir={tmp_path}", f"--out={tmp_path}/out")
        assert cli.main(["facerep", "audit", *words, *flags]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
