"""Every rule of `faces.meta.json` by itself; those that need records are in `test_manifest`."""

import contextlib
import json

import hypothesis
import pytest
from hypothesis import strategies as st

from facerep_jax.data import meta


def eyes(left, right=None):
    return {"kind": "inter_ocular", "left": left} | ({} if right is None else {"right": right})


def pupils(left, right):
    return {"kind": "inter_pupil", "left": left, "right": right}


METAS = {
    "crop": ({"crop": "face"}, 'crop: must be box, whole or aligned, not "face"'),
    "unknown key": ({"class": ["a"]}, r"key 'class' is not known; did you mean 'classes'\?"),
    "not json": ("{", "invalid JSON at column 2"),
    "not an object": ([], "a JSON object is expected"),
    "names": ({"classes": "skin"}, 'classes: must be a list of names, not "skin"'),
    "name twice": ({"classes": ["a", "a"]}, "classes: 'a' stands twice"),
    "too many": ({"classes": [f"c{i}" for i in range(256)]}, "classes: at most 255, not 256"),
    "mask_flip": ({"classes": ["a", "b"], "mask_flip": [0]}, "mask_flip: has 1 indices for 2 names"),
    "licence": ({"licence": ""}, 'licence: must be a text that is not empty, not ""'),
    "agreement": ({"agreement": 3}, "agreement: must be a text that is not empty, not 3"),
    "research_only": ({"research_only": 1}, "research_only: must be true or false, not 1"),
    "may_show_images": ({"may_show_images": "no"}, 'may_show_images: must be true or false, not "no"'),
}
OF_LANDMARKS = {
    "unknown key": ({"flips": [0]}, "key 'flips' is not known; did you mean 'flip'"),
    "not an object": ([0], r"must be an object, not \[0\]"),
    "permutation": ({"flip": [0, 0, 2]}, "flip: is not a permutation of 0 to 2"),
    "involution": ({"flip": [1, 2, 0]}, "flip: does not undo itself: 0 goes to 1, but 1 goes to 2"),
    "not indices": ({"flip": [0.0]}, r"flip: must be a list of indices, not \[0.0\]"),
    "kind": ({"normaliser": {"kind": "eyes"}}, 'normaliser: `kind` must be one of .* diagonal, not "eyes"'),
    "kind is a list": ({"normaliser": {"kind": []}}, r"normaliser: `kind` must be one of .*, not \[\]"),
    "one eye": ({"flip": [1, 0], "normaliser": eyes(1, 1)}, "normaliser: left and right must be .*, not 1 twice"),
    "no kind": ({"normaliser": "box"}, "normaliser: `kind` must be one of .*inter_pupil, box, diagonal, not null"),
    "no index": ({"normaliser": eyes(0)}, "normaliser: 'right' must be the index of a landmark, not null"),
    "index of flip": ({"flip": [0], "normaliser": eyes(0, 1)}, "normaliser: 'right' must be between 0 and 0, not 1"),
    "no list": ({"normaliser": pupils(0, 1)}, "normaliser: 'left' must be a list of indices of landmarks, not 0"),
    "empty list": ({"normaliser": pupils([0], [])}, r"normaliser: 'right' must be a list .*, not \[\]"),
    "no indices": ({"normaliser": pupils([0], [1.5])}, r"normaliser: 'right' must be a list .*, not \[1.5\]"),
    "list": ({"normaliser": eyes([0], 1)}, r"normaliser: 'left' must be the index of a landmark, not \[0\]"),
    "both eyes": (
        {"flip": [1, 0], "normaliser": pupils([0, 1], [1])},
        "normaliser: left and right must be different landmarks, not 1 twice",
    ),
    "pupil of flip": (
        {"flip": [1, 0], "normaliser": pupils([0], [2])},
        "normaliser: 'right' must be between 0 and 1, not 2",
    ),
    "four points": ({"five_points": [[0]] * 4}, "five_points: must be five lists of indices of landmarks, not"),
    "empty point": ({"five_points": [[0]] * 4 + [[]]}, "five_points: must be five lists of indices"),
    "no lists": ({"five_points": [0, 1, 2, 3, 4]}, "five_points: must be five lists of indices"),
    "point of flip": (
        {"flip": [1, 0], "five_points": [[0], [1], [0], [1], [2]]},
        "five_points: an index must be between 0 and 1, not 2",
    ),
    "threshold": ({"threshold": 0}, "threshold: must be an error, as a share of the normaliser, not 0"),
    "no threshold": ({"threshold": True}, "threshold: must be an error, .*, not true"),
    "box, one eye": (
        {"normaliser": {"kind": "box", "left": 0}},
        "normaliser: 'right' must be the index of a landmark, not",
    ),
}
METAS |= {f"landmarks: {k}": ({"landmarks": v}, f"landmarks: {m}") for k, (v, m) in OF_LANDMARKS.items()}


@pytest.mark.parametrize(("given", "message"), METAS.values(), ids=METAS)
def test_a_bad_meta_is_named(tmp_path, given, message):
    path = tmp_path / "faces.meta.json"
    path.write_text(given if isinstance(given, str) else json.dumps(given))
    with pytest.raises(ValueError, match=r"faces\.meta\.json, " + message) as error:
        meta.read_meta(path)
    assert "\n" not in str(error.value)


def test_a_good_meta_is_returned_as_it_is(tmp_path):
    path = tmp_path / "faces.meta.json"
    assert meta.read_meta(path) == {}
    given = {
        "classes": ["background", "left", "right"],
        "mask_flip": [0, 2, 1],
        "vertex_flip": [1, 0],
        "landmarks": {"flip": [1, 0, 2], "normaliser": eyes(0, 1), "five_points": [[0], [1], [2], [0], [0, 1]]},
        "licence": "CC BY 4.0",
        "agreement": "cite us",
        "research_only": False,
        "may_show_images": True,
    }
    path.write_text(json.dumps(given))
    assert meta.read_meta(path) == given
    by_pupils = {"landmarks": {"normaliser": pupils([36, 41], [42]), "threshold": 0.08}}
    assert meta.checked_meta(by_pupils) == by_pupils


def test_ibugs_flip_is_a_mirror():
    meta.checked_meta({"landmarks": meta.IBUG})  # it undoes itself
    # outer and inner eye corners, jaw ends, brow ends, nostrils, mouth corners, nose tip, chin
    assert [meta.IBUG["flip"][i] for i in (36, 39, 0, 17, 31, 48, 60, 30, 8)] == [45, 42, 16, 26, 35, 54, 64, 30, 8]


def test_ibugs_flip_is_that_of_the_real_set(real_faces):
    of_real = meta.read_meta(real_faces / "faces.meta.json")
    assert {"five_points": meta.IBUG["five_points"], **of_real["landmarks"]} == meta.IBUG
    assert meta.five_points(of_real) == tuple(map(tuple, meta.IBUG["five_points"]))


def test_five_points_are_those_of_the_meta_or_of_ibug():
    ibug = (*(tuple(range(36, 42)), tuple(range(42, 48)), (30,), (48,), (54,)),)
    own = [[0], [1], [2], [3], [4, 5]]
    assert meta.five_points({"landmarks": meta.IBUG}) == ibug
    assert meta.five_points({"landmarks": {"flip": meta.IBUG_FLIP}}) == ibug
    assert meta.five_points({"landmarks": {**meta.IBUG, "five_points": own}}) == ((0,), (1,), (2,), (3,), (4, 5))
    assert meta.five_points({"landmarks": {"flip": [*range(68)]}}) == ()
    assert meta.five_points({}) == ()


def test_images_may_be_shown_unless_the_licence_says_no():
    assert meta.may_show_images({})
    assert meta.may_show_images({"may_show_images": True})
    assert not meta.may_show_images({"may_show_images": False})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.parametrize("wrong", [[0, 1], [*range(67), 0], list(range(-1, 67)), "all", [[0]] * 68])
def test_vertices_of_landmarks_are_68_different_ones(wrong):
    assert meta.checked_meta({"vertex_landmarks": list(range(5, 73))})
    with pytest.raises(ValueError, match="vertex_landmarks: must be the indices of 68 different vertices"):
        meta.checked_meta({"vertex_landmarks": wrong})


KEYS = ("classes", "landmarks", "mask_flip", "vertex_flip", "licence", "may_show_images")


@hypothesis.given(JSON | st.dictionaries(st.sampled_from(KEYS), JSON))
@hypothesis.settings(max_examples=300, deadline=None, database=None)
def test_no_meta_whatever_is_a_traceback(given):
    with contextlib.suppress(ValueError):
        meta.checked_meta(given)
