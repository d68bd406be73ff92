"""Planted copies are found, others are not, and what is found is taken by `laion_face:exclude_ids`.

Planted and seen red: mirror images left out; crops left out.
"""

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from facerep_jax import cli, face_world
from facerep_jax.data.library import open_dataset
from facerep_jax.data.planted import KINDS
from facerep_jax.face_world.sampling import Settings
from tests import colour_counts
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


def audit(data, train, *against, flags=()):
    flags = (f"--against={','.join(against)}", f"--data_dir={data}", f"--out={data}/audit", *flags)
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


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """The folder of drawn sets: `held`, and `train` of others with a turned copy of the first and a crop of the second.

    The last of `held` is a turned copy of the first too, of the same person.
    """
    folder, faces, rng = tmp_path_factory.mktemp("planted"), drawn(60), np.random.default_rng(0)
    turned = [jpeg(faces[0].rotate(degrees, Image.Resampling.BICUBIC)) for degrees in (8, -8)]
    held = [(f"{n}.jpg", "test", jpeg(image, 95), f"p{n}") for n, image in enumerate(faces[:39])]
    others = [(f"t{n}.jpg", "train", jpeg(image), f"t{n}") for n, image in enumerate(faces[39:])]
    copies = [("turned.jpg", "train", turned[0], "p"), ("crop.jpg", "train", jpeg(cropped(faces[1], rng)), "q")]
    write(folder / "held", [*held, ("39.jpg", "test", turned[1], "p0")])
    write(folder / "train", [*others, *copies])
    for name in ("held", "train"):
        prepare(folder / name, folder / "data", name)
    return folder / "data"


def test_an_encoder_finds_what_hashes_miss(planted, tmp_path, capsys):
    hashed = audit(planted, "manifest/train", "manifest/held")[1]
    assert [(line["id"], line["like"], line["by"]) for line in hashed] == [
        ("crop.jpg", "manifest/held test 1.jpg", "hash")
    ]
    capsys.readouterr()
    checkpoint = f"--checkpoint={colour_counts.write(tmp_path / 'colours.safetensors')}"
    status, found = audit(planted, "manifest/train", "manifest/held", flags=[checkpoint])
    said = capsys.readouterr().out
    assert status == 1
    lines = {(line["id"], line["like"].split()[-1]): line for line in found}
    least = float(re.search(r"copies have a cosine of (0\.\d+) or more: 1% of 40 images held out reach", said)[1])
    for other in ("0.jpg", "39.jpg"):
        line = lines.pop(("turned.jpg", other))
        assert (line["by"], "bits" in line) == ("embedding", False)
        assert 1.0001 > line["cosine"] >= least > 0.5
    slight = lines.pop(("crop.jpg", "1.jpg"))
    assert (slight["by"], slight["bits"]) == ("hash", hashed[0]["bits"])
    assert slight["cosine"] >= least
    assert len(lines) <= 1
    table = {
        kind: (float(a), float(b)) for kind, a, b in re.findall(r"^  (\S.*?) {2,}(\S+)% +(\S+)%$", said, re.MULTILINE)
    }
    assert list(table) == list(KINDS)
    assert table["resized"] == (100, 100)
    by_hash, by_embedding = table["rotated by 10 degrees"]
    assert by_hash < 10 < 80 < by_embedding
    assert "warning" not in said
    _, found = audit(planted, "manifest/train", "manifest/held", flags=[checkpoint, "--cosine=1"])
    assert found == hashed
    said = capsys.readouterr().out
    assert "a cosine of 1 or more, as --cosine says\n0.0% of 40 images held out reach it" in said
    assert re.search("warning: this encoder does not tell .* finds 0.0% of those that are ", said)


def test_an_encoder_to_which_all_is_alike_is_warned_of(planted, tmp_path, capsys):
    checkpoint = f"--checkpoint={colour_counts.write(tmp_path / 'all.safetensors', shift=1e4)}"
    _, found = audit(planted, "manifest/train", "manifest/held", flags=[checkpoint])
    assert {line["by"] for line in found} == {"hash"}
    assert "warning: this encoder does not tell copies from other faces" in capsys.readouterr().out


def test_features_that_are_no_numbers_are_refused_by_id(planted, tmp_path, capsys):
    write(tmp_path / "dark", [("black.jpg", "train", jpeg(Image.new("RGB", (64, 64))), "p")])
    prepare(tmp_path / "dark", planted, "dark")
    checkpoint = f"--checkpoint={colour_counts.write(tmp_path / 'colours.safetensors')}"
    words = ("--against=manifest/held", f"--data_dir={planted}", f"--out={tmp_path}/out", checkpoint)
    assert cli.main(["facerep", "audit", "manifest/dark", *words]) == 2
    assert "features of 1 of 1 images are not finite: manifest/dark train black.jpg" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_few_images_do_not_tell_which_cosine_is_a_copys(planted, tmp_path, capsys):
    write(tmp_path / "few", [("a.jpg", "test", jpeg(drawn(1)[0]), "p")])
    prepare(tmp_path / "few", planted, "few")
    checkpoint = f"--checkpoint={colour_counts.write(tmp_path / 'colours.safetensors')}"
    words = ("--against=manifest/few", f"--data_dir={planted}", f"--out={tmp_path}/out", checkpoint)
    assert cli.main(["facerep", "audit", "manifest/train", *words]) == 2
    assert "0 images held out have another of 0 that is no copy" in capsys.readouterr().err
    _, found = audit(planted, "manifest/train", "manifest/few", flags=[checkpoint, "--cosine=0.97"])
    assert ("turned.jpg", "embedding") in {(line["id"], line["by"]) for line in found}


BY_BEAM = """
from facerep_jax import cli
from facerep_jax.data import near_duplicates

near_duplicates.blocks.__defaults__ = (7,)  # images
raise SystemExit(cli.main(["facerep", "audit", *sys.argv[1:]]))
"""


def test_beam_finds_the_same_in_the_same_order(planted, tmp_path):
    """The set is its own near-duplicate, so that all blocks find something."""
    _, found = audit(planted, "manifest/train", "manifest/train")
    beam = ("--beam_options=--runner=DirectRunner --direct_num_workers=1", f"--out={tmp_path}")
    words = ("manifest/train", "--against=manifest/train", f"--data_dir={planted}", *beam)
    run = subprocess.run([sys.executable, "-c", f"import sys{BY_BEAM}", *words], capture_output=True, text=True)
    assert run.returncode == 1, run.stderr
    assert [json.loads(line) for line in (tmp_path / "near_duplicates.jsonl").read_text().splitlines()] == found
    assert len(found) >= 23
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ids.txt", "near_duplicates.jsonl"]


WRONG = {
    "no checkpoint": (["--cosine=0.9"], "--cosine needs --checkpoint"),
    "range": (["--cosine=1.5"], "--cosine=1.5: 1.5 is not a number in the range [0, 1]"),
    "unknown": (["--checkpoint=nowhere"], "nowhere"),
    "quotes": (["--beam_options=--a='"], "--beam_options: No closing quotation"),
    "dtype": (["--checkpoint=nowhere", "--dtype=int8"], "int8"),
}


@pytest.mark.parametrize(("flags", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_flag_is_one_line(planted, tmp_path, capsys, flags, message):
    words = ("manifest/train", "--against=manifest/held", f"--data_dir={planted}", f"--out={tmp_path}/out", *flags)
    assert cli.main(["facerep", "audit", *words]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_wrong_usage_is_one_line(tmp_path, capsys):
    for words, message in [((), "one set to train on is expected"), (("manifest/x",), "'manifest/x' is not prepared")]:
        flags = ("--against=manifest/y", f"--data_dir={tmp_path}", f"--out={tmp_path}/out")
        assert cli.main(["facerep", "audit", *words, *flags]) == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
