import io
import json
import re
from pathlib import Path

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from facerep_jax.data import samples
from facerep_jax.data.datasets import manifest
from facerep_jax.data.samples import Sample

GREY = Image.effect_noise((12, 10), 60)
RGB = Image.merge("RGB", [GREY, GREY.rotate(90), GREY.rotate(180)])


def encoded(image=RGB, kind="JPEG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def mask(ids, mode="L"):
    return encoded(Image.fromarray(np.asarray(ids, np.uint8)).convert(mode), "PNG")


def write(folder: Path, lines, meta=None, **files):
    """A manifest; `lines` are objects or text."""
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").write_bytes(encoded())
    (folder / "b.jpg").write_bytes(encoded(RGB.rotate(180)))
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    text = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
    (folder / "faces.jsonl").write_text(text)
    if meta is not None:
        (folder / "faces.meta.json").write_text(meta if isinstance(meta, str) else json.dumps(meta))
    return folder


def read(folder):
    return manifest.read(None, folder)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def test_every_key_is_read(tmp_path):
    line = {
        "id": "first",
        "image": "a.jpg",
        "caption": ["one", "two"],
        "bbox": [0, 1, 5.5, 6],
        "landmarks": [[1, 2], None, [3.5, 4]],
        "visible": [True, False, None],
        "landmarks_3d": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
        "mask": "m.png",
        "identity": "ann",
        "attributes": {"smiling": True, "age": 30, "hat": None},
        "action_units": {"AU1": 5},
        "expression": "happy",
        "valence": -1,
        "arousal": None,
        "vertices": "v.npy",
        "camera": np.eye(3, 4).tolist(),
        "split": "test",
    }
    folder = write(
        tmp_path,
        [line, {"image": "b.jpg"}],
        {"classes": ["a", "b"]},
        m__png=mask(np.ones((10, 12))),
        v__npy=npy(np.arange(21, dtype=np.float32).reshape(7, 3) / 2),
    )
    found = read(folder)
    first, second = found.samples
    assert (first.id, first.split, first.line) == ("first", "test", 1)
    assert (second.id, second.split, second.values) == ("b.jpg", "train", {"image": "b.jpg"})
    assert first.values["caption"] == ("one", "two")
    assert "arousal" not in first.values
    assert first.values["attributes"] == {"smiling": 1.0, "age": 30.0}
    np.testing.assert_array_equal(first.values["landmarks"], np.float32([[1, 2], [np.nan, np.nan], [3.5, 4]]))
    np.testing.assert_array_equal(first.values["visible"], [1, 0, -1])
    assert found.sizes == {"landmarks": 3, "attributes": 2, "action_units": 1}
    assert found.meta == {
        "classes": ["a", "b"],
        "attributes": ["age", "smiling"],
        "action_units": ["AU1"],
        "identities": ["ann"],
        "expressions": ["happy"],
    }
    checked = samples.check(found)
    assert (len(checked.samples), checked.rejected, checked.vertices, checked.notes) == (2, (), 7, ())


def test_68_landmarks_without_meta_are_ibugs(tmp_path):
    points = [[i, i] for i in range(68)]
    meta = read(write(tmp_path, [{"image": "a.jpg", "landmarks": points}])).meta
    assert meta["landmarks"]["normaliser"] == {"kind": "inter_ocular", "left": 36, "right": 45}
    assert len(meta["landmarks"]["flip"]) == 68


def test_meta_of_landmarks_takes_precedence(tmp_path):
    given = {"landmarks": {"normaliser": {"kind": "box"}}}
    points = [[i, i] for i in range(68)]
    assert read(write(tmp_path, [{"image": "a.jpg", "landmarks": points}], given)).meta == given


@pytest.mark.parametrize(
    ("count", "landmarks", "told"),
    [
        *((98, None, True), (98, {"flip": [*range(97, -1, -1)]}, True), (68, None, False)),
        *((68, {"threshold": 0.1}, True), (98, {"normaliser": {"kind": "box"}}, False)),
    ],
)
def test_landmarks_without_a_normaliser_are_told_of(tmp_path, count, landmarks, told):
    line = {"image": "a.jpg", "landmarks": [[1 + i % 9, 1 + i % 7] for i in range(count)]}
    folder = write(tmp_path, [line], None if landmarks is None else {"landmarks": landmarks})
    note = f"{count} landmarks without landmarks.normaliser in faces.meta.json: errors are divided by the box"
    assert samples.plan(read(folder)).notes == ((note,) if told else ())


def test_landmarks_in_space_alone_need_no_normaliser(tmp_path):
    folder = write(tmp_path, [{"image": "a.jpg", "landmarks_3d": [[1, 1, 1], [2, 3, 4]]}])
    assert samples.plan(read(folder)).notes == ()


POINTS = [[1, 1], [2, 2], [3, 3]]
LINES = {
    "unknown key": ({"image": "a.jpg", "landmark": POINTS}, r"key 'landmark' is not known; did you mean 'landmarks'\?"),
    "no image": ({"id": "x"}, "key 'image' is missing"),
    "not json": ('{"image": "a.jpg",}', "invalid JSON at column 19"),
    "nan": ('{"image": "a.jpg", "valence": NaN}', "NaN is not JSON; leave the key out or write null"),
    "key twice": ('{"image": "a.jpg", "image": "b.jpg"}', "key 'image' stands twice"),
    "not an object": ("[1]", r"a JSON object is expected, not \[1\]"),
    "nested": ("[" * 100_000, "invalid JSON: nested too deeply"),
    "image is a number": ({"image": 3}, "image: must be a string that is not empty, not 3"),
    "empty caption": ({"image": "a.jpg", "caption": ["x", ""]}, "caption: must be a string that is not empty"),
    "surrogate": (r'{"image": "a.jpg", "caption": "\ud800"}', "caption: holds half of a surrogate pair"),
    "null byte": ({"image": "a\0.jpg"}, "image: holds a NUL byte"),
    "caption with a null byte": ({"image": "a.jpg", "caption": ["x", "a\0b"]}, "caption: holds a NUL byte"),
    "id with a null byte": ({"image": "a.jpg", "id": "\0"}, "id: holds a NUL byte"),
    "long name": ({"image": "a" * 5000}, "image: no file 'aaa"),
    "missing file": ({"image": "c.jpg"}, "image: no file 'c.jpg' in"),
    "a folder": ({"image": "sub"}, "image: no file 'sub' in"),
    "absolute": ({"image": "/etc/hostname"}, "image: '/etc/hostname' must be relative to faces.jsonl and inside"),
    "parent": ({"image": "sub/../../x.jpg"}, "image: .* must be relative to faces.jsonl and inside"),
    "identity": ({"image": "a.jpg", "identity": 17}, "identity: must be a string that is not empty, not 17"),
    "split": ({"image": "a.jpg", "split": "val"}, 'split: must be train, validation or test, not "val"'),
    "valence": ({"image": "a.jpg", "valence": 1.5}, "valence: must be between -1 and 1, not 1.5"),
    "arousal": ({"image": "a.jpg", "arousal": "low"}, 'arousal: must be a number, not "low"'),
    "infinite": ('{"image": "a.jpg", "bbox": [0, 0, 1, 1e999]}', "bbox: must be finite in float32, not inf"),
    "huge": ('{"image": "a.jpg", "bbox": [1' + "0" * 400 + ", 0.5, 1, 1]}", r"bbox: must be 4 numbers, not \[1000"),
    "too large": ({"image": "a.jpg", "attributes": {"age": 1e39}}, "attributes: 'age' must be finite in float32"),
    "action unit": ({"image": "a.jpg", "action_units": {"AU1": 6}}, "action_units: 'AU1' must be between 0 and 5"),
    "no object": ({"image": "a.jpg", "attributes": ["hat"]}, "attributes: must be an object name -> number, not"),
    "not a number": ({"image": "a.jpg", "attributes": {"hat": "no"}}, "attributes: 'hat' must be a number, not \"no\""),
    "box of three": ({"image": "a.jpg", "bbox": [1, 2, 3]}, r"bbox: must be 4 numbers, not \[1, 2, 3\]"),
    "few landmarks": ({"image": "a.jpg", "landmarks": POINTS[:2]}, "landmarks: 2 points, but line 1 has 3"),
    "few visible": ({"image": "a.jpg", "visible": [True]}, "visible: 1 points, but line 1 has 3"),
    "landmarks in 3d": ({"image": "a.jpg", "landmarks": [[1, 2, 3]]}, "landmarks: must be K x 2 numbers, not"),
    "ragged": ({"image": "a.jpg", "landmarks": [[1, 2], [3]]}, "landmarks: must be K x 2 numbers, but its rows differ"),
    "no landmarks": ({"image": "a.jpg", "landmarks": []}, r"landmarks: must be K x 2 numbers, not \[\]"),
    "visible": ({"image": "a.jpg", "visible": [2, 0, 1]}, "visible: must be a list of true, false or null"),
    "camera": ({"image": "a.jpg", "camera": [[1, 2, 3, 4]]}, "camera: must be 3 x 4 numbers, not"),
    "duplicate": ({"image": "b.jpg", "id": "first"}, "id: 'first' is that of line 1 too; ids must be unique"),
    "mask without classes": ({"image": "b.jpg", "mask": "a.jpg"}, "mask: faces.meta.json must name .* `classes`"),
}  # fmt: skip


@pytest.mark.parametrize(("line", "message"), LINES.values(), ids=LINES)
def test_a_bad_line_is_named(tmp_path, line, message):
    folder = tmp_path / "raw"
    (folder / "sub").mkdir(parents=True)
    good = {"id": "first", "image": "a.jpg", "landmarks": POINTS}
    kind = FileNotFoundError if "no file" in message else ValueError
    with pytest.raises(kind, match=r"raw/faces\.jsonl line 3, " + message) as error:
        read(write(folder, [good, "", line]))
    assert "\n" not in str(error.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@hypothesis.given(key=st.sampled_from([*manifest.KEYS]), value=JSON)
@hypothesis.settings(max_examples=300, deadline=None, database=None)
def test_no_value_whatever_is_a_traceback(tmp_path_factory, key, value):
    folder = tmp_path_factory.getbasetemp() / "any"
    try:
        read(write(folder, [{"image": "a.jpg", key: value}], {"classes": ["a"]}))
    except (ValueError, FileNotFoundError) as error:
        assert "faces.jsonl line 1, " in str(error) and "\n" not in str(error)  # noqa: PT017, PT018


def test_text_that_is_not_utf8_is_named(tmp_path):
    write(tmp_path, [])
    (tmp_path / "faces.jsonl").write_bytes(b'{"image": "\xff.jpg"}\n')
    with pytest.raises(ValueError, match="line 1, byte 12 is not UTF-8; save the file as UTF-8"):
        read(tmp_path)


def test_a_link_inside_the_folder_is_fine(tmp_path):
    write(tmp_path, [{"image": "link.jpg"}])
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    assert len(read(tmp_path).samples) == 1
    assert read(tmp_path).link == ""


def test_a_link_out_of_the_folder_is_told(tmp_path):
    folder = write(tmp_path / "raw", [{"image": "a.jpg"}, {"image": "link.jpg"}])
    (tmp_path / "outside.jpg").write_bytes(encoded())
    (folder / "link.jpg").symlink_to("../outside.jpg")
    assert read(folder).link == (
        f"{folder}/faces.jsonl line 2, image: 'link.jpg' is a link to {tmp_path}/outside.jpg, outside of the folder"
    )


def test_an_empty_or_absent_manifest_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no faces.jsonl in {tmp_path}"):
        read(tmp_path)
    with pytest.raises(ValueError, match=r"faces\.jsonl is empty"):
        read(write(tmp_path, ["", " "]))


METAS = {
    "greys without classes": ({"mask_values": [0, 255]}, "mask_values: must be .*, one for each of the 0 classes, not"),
    "greys": (
        {"classes": ["a", "b"], "mask_values": [0, 70_000]},
        r"mask_values: must be different integers from 0 to 65535, one for each of the 2 classes, not \[0, 70000\]",
    ),
    "a grey twice": ({"classes": ["a", "b"], "mask_values": [1, 1]}, "mask_values: must be different integers"),
    "any": ({"class": ["a"]}, r"key 'class' is not known; did you mean 'classes'\?"),
    "attribute_flip": ({"attribute_flip": [1, 0]}, "attribute_flip: has 2 indices for 1 names"),
    "normaliser": (
        {"landmarks": {"normaliser": {"kind": "inter_ocular", "left": 0, "right": 3}}},
        "landmarks: normaliser: 'right' must be between 0 and 2, not 3",
    ),
}


@pytest.mark.parametrize(("meta", "message"), METAS.values(), ids=METAS)
def test_a_bad_meta_is_named(tmp_path, meta, message):
    folder = write(tmp_path, [{"image": "a.jpg", "landmarks": POINTS, "attributes": {"hat": 1}}], meta)
    with pytest.raises(ValueError, match=r"faces\.meta\.json, " + message) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_lines_are_held_against_the_meta(tmp_path):
    meta = {"landmarks": {"flip": [1, 0]}, "attributes": ["hat"], "expressions": ["happy", "sad"]}
    for line, message in (
        ({"landmarks": POINTS}, "line 1, landmarks: 3 points, but landmarks.flip of faces.meta.json has 2"),
        ({"attributes": {"hut": 1}}, "line 1, attributes: 'hut' is not among the attributes .* did you mean 'hat'"),
        ({"expression": "bored"}, "line 1, expression: 'bored' is not among the expressions .* known: happy, sad"),
    ):
        with pytest.raises(ValueError, match=message):
            read(write(tmp_path, [{"image": "a.jpg", **line}], meta))


def test_names_in_order_come_from_the_meta(tmp_path):
    meta = {"attributes": ["hat", "beard"], "attribute_flip": [0, 1]}
    found = read(write(tmp_path, [{"image": "a.jpg", "attributes": {"beard": 1}}], meta))
    assert found.meta["attributes"] == ["hat", "beard"]
    assert found.sizes["attributes"] == 2


BROKEN = {
    "truncated": (encoded()[:-30], "Premature end of JPEG"),
    "truncated png": (encoded(kind="PNG")[:-40], "truncated|Truncated|broken PNG"),
    "text": (b"this is no image", "not an image"),
}


@pytest.mark.parametrize(("data", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_broken_image_is_rejected_not_an_error(tmp_path, data, reason):
    folder = write(tmp_path, [{"image": "a.jpg"}, "", {"image": "bad.jpg", "id": "two"}], bad__jpg=data)
    checked = samples.check(read(folder))
    assert [record.id for record in checked.samples] == ["a.jpg"]
    (rejection,) = checked.rejected
    assert (rejection.line, rejection.id, rejection.image) == (3, "two", "bad.jpg")
    assert re.search(reason, rejection.reason), rejection.reason
    assert "\n" not in rejection.reason


def test_images_that_will_be_converted_are_counted(tmp_path):
    data = encoded(kind="WEBP")
    checked = samples.check(read(write(tmp_path, [{"image": "a.jpg"}, {"image": "c.webp"}], c__webp=data)))
    assert [sample.direct for sample in checked.samples] == [True, False]
    assert checked.notes == ("1 images stored as PNG: not an upright 8-bit RGB or grey JPEG or PNG",)
    assert checked.rejected == ()


MASKS = {
    "size": (mask(np.zeros((8, 12))), "is 12 x 8 pixels, but the image 12 x 10"),
    "truncated": (mask(np.eye(10, 12))[:-30], "cannot be decoded"),
}


@pytest.mark.parametrize(("data", "message"), MASKS.values(), ids=MASKS)
def test_a_bad_mask_is_an_error(tmp_path, data, message):
    lines = [{"image": "a.jpg"}, {"image": "b.jpg", "mask": "m.png"}]
    folder = write(tmp_path, lines, {"classes": ["background", "skin"]}, m__png=data)
    with pytest.raises(ValueError, match=f"faces.jsonl line 2, mask: m.png {message}"):
        samples.check(read(folder))


VERTICES = {
    "dtype": (npy(np.zeros((4, 3))), r"must be float32 of shape \(V, 3\), not float64 of shape \(4, 3\)"),
    "shape": (npy(np.zeros((4, 2), np.float32)), r"must be float32 of shape \(V, 3\), not float32 of shape \(4, 2\)"),
    "nan": (npy(np.full((4, 3), np.nan, np.float32)), "holds a number that is not finite"),
    "text": (b"0 0 0", "is not a readable .npy file"),
    "truncated": (npy(np.zeros((4, 3), np.float32))[:-8], "is not a readable .npy file"),
    "pickle": (npy(np.array([{}])), "is not a readable .npy file"),
}


@pytest.mark.parametrize(("data", "message"), VERTICES.values(), ids=VERTICES)
def test_a_bad_mesh_is_an_error(tmp_path, data, message):
    folder = write(tmp_path, [{"image": "a.jpg", "vertices": "v.npy"}], v__npy=data)
    with pytest.raises(ValueError, match=f"faces.jsonl line 1, vertices: v.npy {message}"):
        samples.check(read(folder))


def test_meshes_have_one_count(tmp_path):
    lines = [{"image": "a.jpg", "vertices": "v.npy"}, {"image": "b.jpg", "vertices": "w.npy"}]
    four, five = (npy(np.zeros((n, 3), np.float32)) for n in (4, 5))
    with pytest.raises(ValueError, match="line 2, vertices: 5 points, but line 1 has 4"):
        samples.check(read(write(tmp_path, lines, v__npy=four, w__npy=five)))
    with pytest.raises(ValueError, match=r"faces.meta.json, vertex_flip: has 2 indices for 4 vertices"):
        samples.check(read(write(tmp_path, lines[:1], {"vertex_flip": [1, 0]}, v__npy=four)))


def test_the_digest_depends_on_every_byte(tmp_path):
    lines = [{"image": "a.jpg", "vertices": "v.npy"}]
    mesh = npy(np.zeros((4, 3), np.float32))

    def digest(lines=lines, meta=None, **files):
        return read(write(tmp_path, lines, meta, v__npy=mesh, **files)).digest

    plain = digest()
    assert digest() == plain
    assert digest(lines=[{"image": "b.jpg", "vertices": "v.npy"}]) != plain
    mesh = npy(np.ones((4, 3), np.float32))
    assert digest() != plain
    mesh = npy(np.zeros((4, 3), np.float32))
    (tmp_path / "extra.txt").write_text("not named by the manifest")
    assert digest() == plain
    assert digest(meta={"classes": ["a"]}) != plain


# Samples of a set without a listing, as a data set's module gives them


def raw(folder, given, meta=None, **described):
    write(folder, [])
    return samples.gather(folder, given, meta or {}, **described)


def test_a_set_without_a_listing_names_its_samples(tmp_path):
    more = {"template": (np.int32, ())}
    given = [
        Sample({"image": "a.jpg", "template": 3, "identity": "zoe", "attributes": {"hat": 1}}),
        Sample({"image": "b.jpg", "landmarks": np.eye(2) + 2, "expression": None}, id="second", split="test"),
    ]
    meta = {"attributes": ("hat", "beard"), "attribute_flip": (0, 1)}
    tables = {"pairs": {"a": ["a.jpg"], "b": ["second"]}}
    found = raw(tmp_path, iter(given), meta, more=more, tables=tables)
    assert [(sample.id, sample.split) for sample in found.samples] == [("a.jpg", "train"), ("second", "test")]
    assert found.meta == {"attributes": ["hat", "beard"], "attribute_flip": [0, 1], "identities": ["zoe"]}
    assert found.sizes == {"landmarks": 2, "attributes": 2}
    plan = samples.plan(found)
    assert plan.names == ("id", "image", "landmarks", "identity", "attributes", "template")
    assert plan.tables == tables
    (key, example), (_, other) = (plan.example(plan.records[split][0]) for split in ("train", "test"))
    assert (key, example["identity"], example["template"], other["template"]) == ("a.jpg", 0, 3, -1)
    np.testing.assert_array_equal(example["attributes"], [1, np.nan])


GIVEN = {
    "unknown": ([Sample({"image": "a.jpg", "pose": 1})], "a.jpg: key 'pose' is not known"),
    "no image": ([Sample({}, id="x")], "x: key 'image' is missing: the image's path, relative to "),
    "no file": ([Sample({"image": "c.jpg"})], "c.jpg: image: no file 'c.jpg' in "),
    "split": ([Sample({"image": "a.jpg"}, split="val")], "a.jpg: must be train, validation or test, not \"val\""),
    "twice": ([Sample({"image": "a.jpg"})] * 2, "a.jpg: id: 'a.jpg' is that of another sample; ids must be unique"),
    "nothing": ([], "is empty; at least one sample is expected"),
    "points": (
        [Sample({"image": f"{x}.jpg", "landmarks": np.zeros((n, 2))}) for x, n in (("a", 2), ("b", 3))],
        "b.jpg: landmarks: 3 points, but a.jpg has 2",
    ),
    "mask": ([Sample({"image": "a.jpg", "mask": "b.jpg"})], "a.jpg: mask: meta must name the mask's `classes`"),
}  # fmt: skip


@pytest.mark.parametrize(("given", "message"), GIVEN.values(), ids=GIVEN)
def test_a_bad_sample_is_named(tmp_path, given, message):
    with pytest.raises((ValueError, FileNotFoundError), match=re.escape(message)) as error:
        raw(tmp_path, given)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_bad_meta_of_a_module_is_named(tmp_path):
    given = [Sample({"image": "a.jpg", "landmarks": np.zeros((2, 2))})]
    for meta, message in (
        ({"clases": ("a",)}, "meta: key 'clases' is not known"),
        ({"landmarks": {"five_points": ((0,), (1,), (2,), (0,), (1,))}}, "landmarks: five_points: an index must be"),
        ({"landmarks": {"flip": (0,)}}, "a.jpg: landmarks: 2 points, but landmarks.flip of meta has 1"),
    ):
        with pytest.raises(ValueError, match=message):
            raw(tmp_path, given, meta)


def test_the_digest_of_a_set_without_a_listing_depends_on_every_value(tmp_path):
    """Tried: files alone, with which other annotations of the same images go unnoticed."""
    points = np.zeros((2, 2))
    plain = dict(values={"image": "a.jpg", "landmarks": points}, id="x", split="train")

    def digest(meta=None, described=None, **changed):
        return raw(tmp_path, [Sample(**{**plain, **changed})], meta, **(described or {})).digest

    digests = [
        digest(),
        digest(id="y"),
        digest(split="test"),
        digest(values={"image": "b.jpg", "landmarks": points}),
        digest(values={"image": "a.jpg", "landmarks": points + 1}),
        digest(meta={"licence": "mine"}),
        digest(described={"more": {"template": (np.int32, ())}}),
        digest(described={"tables": {"pairs": {"a": np.arange(3)}}}),
    ]
    assert len(set(digests)) == len(digests)
    assert digest() == digests[0]
    fresh = encoded(RGB.rotate(180))
    write(tmp_path, [])
    found = samples.gather(tmp_path, [Sample(**plain)], {})
    (tmp_path / "a.jpg").write_bytes(fresh)
    assert found.digest not in digests
