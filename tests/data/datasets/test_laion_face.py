"""LAION-Face's layout, joins, filters and crops, on archives that are written from its description."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from facerep_jax import cli
from facerep_jax.data import sample_ids
from facerep_jax.data.datasets import laion_face
from facerep_jax.data.library import open_dataset
from facerep_jax.data.meta import may_show_images
from tests.data.laion import FIRST, face, picture, sample, write_detections, write_table, write_tar


def truncated(data: bytes) -> bytes:
    return data[: len(data) // 2]


# What may be of the ninth sample in an archive, and how it is counted.
REASONS = {
    "excluded": sample(10),
    "not among the ids that are cleared": sample(11),
    "no SAMPLE_ID": sample(12, SAMPLE_ID=None),
    "a SAMPLE_ID that is no integer": sample(13, SAMPLE_ID="abc"),
    "NSFW": sample(14, NSFW="NSFW"),
    "similarity too low, or not said": sample(15, similarity=0.1),
    "caption with a NUL byte": sample(16, caption="a\0b"),
    "caption of more than # letters": sample(17, caption="ha" * 50_000),
    "caption that is not UTF-8": {**sample(18), "txt": b"\xff\xfe"},
    "no image": {"json": sample(19)["json"]},
    "image: Premature end of JPEG file": sample(20, image=truncated(picture(20))),
    "image: not an image": sample(21, image=b"<html>404</html>"),
    "image too small": sample(22, image=picture(22, size=(1, 1))),
    "JSON that cannot be read": {**sample(23), "json": b"{"},
    "JSON that is no object": {**sample(24), "json": b"[]"},
    "JSON of more than a megabyte": {**sample(25), "json": b" " * (1 << 20) + b"{}"},
    "no detections": sample(26),
    "no face": sample(27),
    "no face that is large, sure and possible enough": sample(28),
    "resized to other proportions than its boxes are of": sample(29, original_width=96, original_height=512),
}


@pytest.fixture
def raw(tmp_path):
    """Two parts: one archive of eight good samples, whose ids are integers, floats and texts, and one of bad ones."""
    folder = tmp_path / "raw"
    ids = {0: FIRST, 1: float(FIRST + 1), 2: str(FIRST + 2), 3: f"{FIRST + 3}.0"}
    good = {f"{n:09d}": sample(n, SAMPLE_ID=ids.get(n, FIRST + n)) for n in range(8)}
    write_tar(folder / "split_00000" / "00000.tar", good)
    write_table(folder / "split_00000" / "00000.parquet", 8, {"HTTP Error 404: Not Found": 10, "timed out": 2})
    write_tar(folder / "split_00005" / "00000.tar", {f"{n:09d}": files for n, files in enumerate(REASONS.values())})
    faces = {FIRST + n: [face()] for n in range(40) if n != 26}
    faces[FIRST + 27] = []
    faces[FIRST + 28] = [face(score=0.5), face((10, 10, 20, 20)), face((200, 200, 260, 260))]
    write_detections(tmp_path / "detections" / "sample2detect_0.pth", {k: faces[k] for k in list(faces)[:8]})
    write_detections(tmp_path / "detections" / "sample2detect_5.pth", {k: faces[k] for k in list(faces)[8:]})
    (tmp_path / "safe.txt").write_text("".join(f"{FIRST + n}\n" for n in range(40) if n != 11))
    (tmp_path / "out.txt").write_text(f"{FIRST + 10}\n")
    return folder


def prepare(raw, arguments, *flags, status=0):
    data = raw.parent / "data"
    arguments = arguments.replace("HERE", str(raw.parent))
    words = ["facerep", "prepare", f"laion_face:{arguments}", f"--manual_dir={raw}", f"--data_dir={data}", *flags]
    assert cli.main(words) == status
    return data


def records(data, name="default"):
    return {record["id"].decode(): record for record in open_dataset(f"laion_face/{name}", data).source("train")}


ALL = "safe_ids=HERE/safe.txt,exclude_ids=HERE/out.txt,detections=HERE/detections,similarity=0.2,score=0.9,face=20"


def test_pairs_are_kept_as_they_are_and_each_other_is_counted(raw, capsys):
    data = prepare(raw, ALL)
    dataset = open_dataset("laion_face/default", data)
    assert dataset.features == ("id", "image", "caption", "bbox", "landmarks", "score", "similarity")
    assert dataset.splits == {"train": 8} == dataset.meta["counts"]
    assert not may_show_images(dataset.meta)
    found = records(data)
    assert list(found) == [str(FIRST + n) for n in range(8)]
    for n in range(8):
        record = found[str(FIRST + n)]
        assert record["image"] == picture(n)
        assert record["caption"] == [f"portrait {n}".encode()]
        np.testing.assert_array_equal(record["bbox"], np.array([30, 40, 70, 90], np.float32))
        np.testing.assert_array_equal(record["landmarks"], face()[1])
        assert (record["score"], record["similarity"]) == (np.float32(0.99), np.float32(0.31))
    told = json.loads((dataset.path / "coverage.json").read_text())
    assert told["left_out"] == dict.fromkeys(REASONS, 1)
    assert (told["images"], told["kept"], told["records"]) == (len(REASONS) + 8, 8, 8)
    assert (told["links"], told["downloaded"]) == (20, 8)
    assert told["not_downloaded"] == {"HTTP Error 404: Not Found": 10, "timed out": 2}
    with Image.open(dataset.path / "coverage.png") as picture_of_it:
        assert picture_of_it.size[0] == 900
    out = capsys.readouterr().out
    assert "8 of 20 (40.0%) links gave an image; the others: 10 HTTP Error 404: Not Found, 2 timed out\n" in out
    assert f"8 of {len(REASONS) + 8} (" in out
    assert not list(data.glob(".*"))
    prepare(raw, ALL)
    assert "Prepared already" in capsys.readouterr().out


def test_a_list_of_cleared_ids_is_asked_for(raw, capsys):
    prepare(raw, "nsfw=drop", status=2)
    assert "laion_face:no_safety_list" in capsys.readouterr().err
    prepare(raw, "no_safety_list", "--name=without")
    told = json.loads((open_dataset("laion_face/without", raw.parent / "data").path / "coverage.json").read_text())
    assert "no SAMPLE_ID" not in told["left_out"]
    assert "000000002" in " ".join(records(raw.parent / "data", "without"))  # its key stands in for the id
    assert open_dataset("laion_face/without", raw.parent / "data").features == ("id", "image", "caption", "similarity")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("no_safety_list,safe_ids=HERE/safe.txt", "exclude each other"),
        ("no_safety_list,crop=square", "crop, score and face need detections=FILES"),
        ("no_safety_list,detections=HERE/detections,faces=all", "faces=all needs crop=square or crop=align"),
        ("no_safety_list,variant=crops", "variant must be pairs or cropped, not 'crops'"),
        ("no_safety_list,variant=cropped,parts=5", "crop, score and face need detections=FILES"),
        ("no_safety_list,nsfw=never", "nsfw must be drop, strict or keep, not 'never'"),
        ("no_safety_list,score=2", "score must be between 0 and 1, not 2"),
        ("no_safety_list,alike=9", "alike must be between 0 and 3 bits"),
        ("no_safety_list,parts=7", "no .tar of part 7 in"),
        ("no_safety_list,parts=30M", "parts must be 20M, or numbers such as"),
        ("safe_ids=HERE/nothing.txt", "nothing.txt: no such file"),
        ("no_safety_list,exclude_ids=HERE/bad.txt", "bad.txt: line 2: a SAMPLE_ID is an integer of 64 bits, not 'x'"),
        ("no_safety_list,detections=HERE/bad.txt", "bad.txt cannot be read as a file of torch.save"),
        ("no_safety_list,nonsense=1", "'nonsense' is not known"),
    ],
)
def test_a_wrong_argument_is_one_line(raw, arguments, message, capsys):
    (raw.parent / "bad.txt").write_text("1\nx\n")
    prepare(raw, arguments, status=2)
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (raw.parent / "data" / "laion_face").exists()


def test_parts_are_chosen_by_their_folders(raw):
    prepare(raw, "no_safety_list,parts=0", "--name=first")
    assert open_dataset("laion_face/first", raw.parent / "data").splits == {"train": 8}


def test_nothing_kept_is_an_error_that_says_why(raw, capsys):
    prepare(raw, "no_safety_list,similarity=0.9", status=2)
    err = capsys.readouterr().err
    assert "nothing would be written to " in err
    assert "similarity too low, or not said" in err


def pixels(record):
    return np.asarray(Image.open(io.BytesIO(record["image"])))


def test_faces_are_chosen_and_cropped(tmp_path):
    raw = tmp_path / "raw"
    write_tar(raw / "00000.tar", {"a": sample(1, image=picture(1, kind="PNG")), "b": sample(2)})
    faces = [face((30, 40, 50, 60), 0.99), face((10, 20, 70, 80), 0.95), face((0, 0, 5, 5), 0.2)]
    write_detections(tmp_path / "d.pth", {FIRST + 1: faces, FIRST + 2: [face((60, 80, 90, 120))]})
    crop = "no_safety_list,detections=HERE/d.pth,crop=square,score=0.9,size=0,margin=0.25,quality=100"

    data = prepare(raw, f"{crop},faces=all", "--name=all")
    found = records(data, "all")
    assert list(found) == [f"{FIRST + 1}-0", f"{FIRST + 1}-1", f"{FIRST + 2}-0"]
    image = np.asarray(Image.open(io.BytesIO(picture(1, kind="PNG"))))
    np.testing.assert_array_equal(pixels(found[f"{FIRST + 1}-0"]), image[35:65, 25:55])  # 20 and twice 5, whole pixels
    np.testing.assert_array_equal(found[f"{FIRST + 1}-0"]["bbox"], [5, 5, 25, 25])
    np.testing.assert_array_equal(found[f"{FIRST + 1}-0"]["landmarks"], faces[0][1] - [25, 35])
    beyond = pixels(found[f"{FIRST + 2}-0"])  # the box ends 6 pixels from the right, the margin is 10
    assert beyond.shape == (60, 60, 3)
    assert not beyond[:, -8:].any()
    assert beyond[:45, :45].any()

    by_size, by_score = (
        records(prepare(raw, f"{crop},faces={choice}", f"--name={choice}"), choice) for choice in ("largest", "best")
    )
    assert pixels(by_size[str(FIRST + 1)]).shape == (90, 90, 3)
    assert pixels(by_score[str(FIRST + 1)]).shape == (30, 30, 3)
    inside = records(prepare(raw, f"{crop},border=inside", "--name=inside"), "inside")
    np.testing.assert_array_equal(pixels(inside[str(FIRST + 1)]), image[5:95, 0:90])  # moved right by 5

    resized = records(prepare(raw, crop.replace("size=0", "size=64"), "--name=resized"), "resized")
    assert pixels(resized[str(FIRST + 1)]).shape == (64, 64, 3)
    expected = (np.array([10, 20, 70, 80]) - [-5, 5, -5, 5]) * 64 / 90 - 0.5  # the square begins at the edge (-5, 5)
    np.testing.assert_allclose(resized[str(FIRST + 1)]["bbox"], expected, atol=1e-4)


def test_the_variant_cropped_is_a_square_of_each_sure_and_large_face_of_the_20m_subset(tmp_path):
    """A face of 64 pixels in a square of 128, drawn on 256; another that reaches out of the image; two that are left.

    Planted and seen red: the variant's values in place of what is given.
    """
    raw = tmp_path / "raw"
    image = picture(1, kind="PNG", size=(400, 300))
    write_tar(raw / "split_00002" / "00000.tar", {"a": sample(1, image=image)})
    write_tar(raw / "split_00003" / "00000.tar", {"a": sample(2, image=image)})  # a part that the subset lacks
    for part in laion_face.SUBSETS["20M"]:
        write_tar(raw / f"split_{part:05d}" / "00001.tar", {"a": sample(100 + part)})  # no faces are known of it
    faces = [
        face((99.5, 119.5, 163.5, 183.5), 0.96),
        face((-0.5, 199.5, 63.5, 263.5), 0.99),
        face((200, 100, 264, 164), 0.94),
        face((200, 200, 263, 263), 0.99),
    ]
    write_detections(tmp_path / "d.pth", {FIRST + 1: faces, FIRST + 2: faces})
    data = prepare(raw, "variant=cropped,no_safety_list,detections=HERE/d.pth,quality=100", "--name=cropped")
    found = records(data, "cropped")
    assert list(found) == [f"{FIRST + 1}-0", f"{FIRST + 1}-1"]
    first, second = map(pixels, found.values())
    assert first.shape == second.shape == (256, 256, 3)
    square = Image.open(io.BytesIO(image)).resize((256, 256), Image.Resampling.BICUBIC, (68, 88, 196, 216))
    np.testing.assert_array_equal(first, np.asarray(square))
    np.testing.assert_allclose(found[f"{FIRST + 1}-0"]["bbox"], [63.5, 63.5, 191.5, 191.5], atol=1e-3)
    assert not second[:, :60].any()  # 32 pixels beyond the image, drawn twice as large
    assert second[:150, 70:].any()
    data = prepare(raw, "variant=cropped,parts=3,size=64,score=0,no_safety_list,detections=HERE/d.pth", "--name=other")
    assert list(records(data, "other")) == [f"{FIRST + 2}-{n}" for n in range(3)]
    assert {pixels(record).shape for record in records(data, "other").values()} == {(64, 64, 3)}


def test_aligned_faces_have_their_points_where_farls_template_has_them(tmp_path):
    """Source: FaRL's template on 512 pixels (farl.md 3.2), of which a similarity keeps a similar face exactly."""
    raw = tmp_path / "raw"
    template = np.array(
        [[195.617, 225.559], [315.383, 225.559], [255.5, 285.441], [219.57, 359.696], [291.43, 359.696]]
    )
    points = (template - 255.5) * 0.2 + [60, 50]
    box = np.array([35, 20, 85, 85], np.float32)
    write_tar(raw / "00000.tar", {"a": sample(1, image=picture(1, size=(160, 120)))})
    write_detections(tmp_path / "d.pth", {FIRST + 1: [(box, points.astype(np.float32), np.float32(1))]})
    data = prepare(raw, "no_safety_list,detections=HERE/d.pth,crop=align,size=512")
    record = records(data)[str(FIRST + 1)]
    np.testing.assert_allclose(record["landmarks"], template, atol=0.01)
    assert pixels(record).shape == (512, 512, 3)


def test_boxes_follow_an_image_that_was_made_smaller(tmp_path):
    raw = tmp_path / "raw"
    half = sample(1, image=picture(1, size=(48, 64)), original_width=96, original_height=128, width=48, height=64)
    write_tar(raw / "00000.tar", {"a": half})
    write_detections(tmp_path / "d.pth", {FIRST + 1: [face((30, 40, 70, 90))]})
    record = records(prepare(raw, "no_safety_list,detections=HERE/d.pth"))[str(FIRST + 1)]
    np.testing.assert_array_equal(record["bbox"], [15, 20, 35, 45])


def test_a_turned_image_has_no_boxes_one_can_trust(tmp_path):
    raw = tmp_path / "raw"
    exif = Image.Exif()
    exif[0x0112] = 6
    write_tar(raw / "00000.tar", {"a": sample(1, image=picture(1, exif=exif)), "b": sample(2)})
    write_detections(tmp_path / "d.pth", {FIRST + 1: [face()], FIRST + 2: [face()]})
    assert list(records(prepare(raw, "no_safety_list,detections=HERE/d.pth"))) == [str(FIRST + 2)]
    upright = records(prepare(raw, "no_safety_list", "--name=whole"), "whole")
    assert pixels(upright[str(FIRST + 1)]).shape == (96, 128, 3)


def test_captions_are_cleaned_only_when_asked(tmp_path):
    raw = tmp_path / "raw"
    write_tar(
        raw / "00000.tar",
        {"a": sample(1, caption="Caf\u00c3\u00a9  &amp;amp; <b>bar</b>\n"), "b": sample(2, caption=" ")},
    )
    first = records(prepare(raw, "no_safety_list", "--name=raw"), "raw")
    assert first[str(FIRST + 1)]["caption"] == ["Caf\u00c3\u00a9  &amp;amp; <b>bar</b>\n".encode()]
    assert first[str(FIRST + 2)]["caption"] == []
    clean = records(prepare(raw, "no_safety_list,captions=clean", "--name=clean"), "clean")
    assert clean[str(FIRST + 1)]["caption"] == ["Café & <b>bar</b>".encode()]


@pytest.mark.parametrize(("nsfw", "kept"), [("drop", {0, 1, 3}), ("strict", {0}), ("keep", {0, 1, 2, 3, 4})])
def test_what_is_marked_as_unsafe_is_left_out(tmp_path, nsfw, kept):
    raw = tmp_path / "raw"
    tags = [{}, {"NSFW": "UNSURE"}, {"NSFW": "NSFW"}, {"NSFW": None}, {"NSFW": None, "punsafe": 0.9}]
    write_tar(raw / "00000.tar", {f"{n}": sample(n, **tag) for n, tag in enumerate(tags)})
    found = records(prepare(raw, f"no_safety_list,nsfw={nsfw}"))
    assert {int(name) - FIRST for name in found} == kept


def reencoded(data: bytes, size=(72, 96)) -> bytes:
    file = io.BytesIO()
    Image.open(io.BytesIO(data)).resize(size, Image.Resampling.LANCZOS).save(file, "JPEG", quality=60)
    return file.getvalue()


def test_near_duplicates_are_left_out_across_archives(raw):
    """The first in order stays; one that is not kept for another reason takes no other with it."""
    unsafe = sample(20, NSFW="NSFW")
    copies = [picture(3), reencoded(picture(4)), picture(20), picture(21), reencoded(picture(21))]
    again = {f"{n:09d}": sample(30 + n, image=image) for n, image in enumerate(copies)}
    write_tar(raw / "split_00000" / "00001.tar", {"a": unsafe, **again})
    arguments = "no_safety_list,parts=0"
    assert len(records(prepare(raw, arguments, "--name=all"), "all")) == 13
    data = prepare(raw, f"{arguments},alike=3", "--name=once")
    assert list(records(data, "once")) == [*(str(FIRST + n) for n in range(8)), str(FIRST + 32), str(FIRST + 33)]
    told = json.loads((open_dataset("laion_face/once", data).path / "coverage.json").read_text())
    assert told["left_out"] == {"near-duplicate of another": 3, "NSFW": 1}


def test_ids_are_integers_whatever_they_come_as():
    for value in (FIRST, float(FIRST), str(FIRST), f" {FIRST}.0 ", f"{FIRST}.", np.int64(FIRST), np.float64(FIRST)):
        assert sample_ids.sample_id(value) == FIRST
    for value in (None, float("nan"), "", "nan", np.float32("nan")):
        assert sample_ids.sample_id(value) is None
    for value in ("12a", 1.5, 2.0**60, True, 2**63, "1.5", [1]):
        with pytest.raises(ValueError, match="a SAMPLE_ID is an integer of 64 bits, not"):
            sample_ids.sample_id(value)
