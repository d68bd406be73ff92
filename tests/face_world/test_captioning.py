"""Captions of faces, read back by rules that are written down here once more."""

import re

import numpy as np
import pytest

from facerep_jax.data.transforms import clip_tokenizer
from facerep_jax.face_world import sampling
from facerep_jax.face_world.captioning import NAMED, NEVER, OFTEN, RARELY, WORDINGS, sample_caption
from facerep_jax.face_world.chance import Dice
from facerep_jax.face_world.sampling import Settings, sample_scene
from facerep_jax.face_world.scene import ATTRIBUTES, attributes, mirror
from facerep_jax.face_world.worlds import WORLDS

# Which words give away which attribute, written here from the words alone.
TELLING = {
    "smiling": r"smil",
    "mouth_open": r"mouth|talking",
    "eyes_closed": r"\beyes\b",
    "glasses": r"glasses|spectacles",
    "beard": r"beard",
    "moustache": r"mo?ustache",
    "hat": r"\bhat\b",
    "earrings": r"earring",
    "freckles": r"freckle",
    "bushy_brows": r"brows",
    "fringe": r"fringe|bangs",
    "long_hair": r"long hair|shoulder length",
    "curly_hair": r"\bcurl",
    "bald": r"bald|no hair",
    "black_hair": r"black hair",
    "brown_hair": r"brown hair|brunette",
    "blond_hair": r"blonde? hair",
    "grey_hair": r"gr[ae]y hair",
    "hand": r"\bhand\b",
    "facing_left": r"\bleft\b",
    "facing_right": r"\bright\b",
}
BOILERPLATE = (
    r"enlarge|not available|stock photo|IMG_|DSC|user\d|rights reserved|full size|related|untitled|gallery|share"
)


def named(caption: str) -> set[str]:
    return {name for name, words in TELLING.items() if re.search(words, caption)}


def told(count: int, seed: int = 11, **settings) -> list:
    """Return scenes of many people with their captions."""
    chosen = Settings(**settings)
    scenes = (sample_scene(seed, 8 * index, chosen) for index in range(count))
    return [(scene, scene.captions) for scene in scenes]


def within(count: int, total: int, share: float) -> bool:
    """Return whether a count lies within 4.5 standard deviations of a share."""
    return abs(count / total - share) < 4.5 * np.sqrt(share * (1 - share) / total)


def test_the_words_of_this_test_are_those_of_the_phrases():
    assert set(TELLING) == set(ATTRIBUTES) == set(WORDINGS) == set(NAMED)
    for name, phrases in WORDINGS.items():
        for phrase in phrases:
            assert named(phrase) == {name}, phrase


@pytest.mark.parametrize("world", WORLDS)
def test_the_oracle_tells_all_that_holds_and_nothing_else(world):
    settings = Settings(world=world)
    for index in range(150):
        scene = sample_scene(6, 3 * index, settings)
        assert named(scene.oracle) == {name for name, holds in attributes(scene).items() if holds}, scene.oracle


@pytest.mark.parametrize("world", WORLDS)
def test_captions_that_are_not_mismatched_tell_the_truth(world):
    for scene, captions in told(200, world=world, mismatched=0.0, informativeness=0.8):
        true = attributes(scene)
        for caption in captions:
            assert all(true[name] for name in named(caption)), caption
            assert len(named(caption)) <= 2


@pytest.mark.parametrize("world", WORLDS)
def test_shares_of_kinds_are_those_of_the_card(world):
    """Half are names or events, a third name attributes, a tenth are of another scene, and the rest is boilerplate."""
    captions = [caption for _, several in told(500, world=world, mismatched=0.0) for caption in several]
    telling = sum(bool(named(caption)) for caption in captions)
    boilerplate = sum(bool(re.search(BOILERPLATE, caption)) for caption in captions)
    matched = 1 - Settings().mismatched
    assert within(telling, len(captions), 0.37)
    assert within(boilerplate, len(captions), 0.63 * 0.118)
    shares = matched * np.array([1 - 0.37 - 0.63 * 0.118, 0.37, 0.63 * 0.118])
    np.testing.assert_allclose(shares, [0.5, 0.333, 0.067], atol=0.002)
    two = sum(len(named(caption)) == 2 for caption in captions)
    assert 0.3 < two / telling < 0.5


def test_mismatched_captions_are_those_of_another_person():
    """A tenth of the captions that name somebody name somebody else; all do if all are mismatched."""
    for settings, share in ((Settings(), 0.1), (Settings(mismatched=1.0), 1.0)):
        wrong = total = 0
        for index in range(300):
            _, name = sampling._scene_without_captions(5, 8 * index, settings)
            for caption in sample_scene(5, 8 * index, settings).captions:
                if found := re.search(r"\b([A-Z]\w+ [A-Z]\w+)\b", re.sub(r"IMG_\w+|DSC\d+|^Photo", "", caption)):
                    total += 1
                    wrong += found[1] != name
        assert total > 100
        assert within(wrong, total, min(share, 0.999))


def test_mismatched_captions_have_the_same_distribution_and_tell_nothing():
    """Attributes are named equally often, but no more often if they hold than if they do not."""
    counts = {}
    for share in (0.0, 1.0):
        pairs = told(500, mismatched=share, informativeness=1.0)
        counts[share] = (
            sum(len(captions) for _, captions in pairs),
            [sum(name in named(caption) for _, captions in pairs for caption in captions) for name in ATTRIBUTES],
        )
    (total, usual), (other_total, mismatched) = counts.values()
    for a, b in zip(usual, mismatched, strict=True):
        pooled = (a + b) / (total + other_total)
        assert (
            abs(a / total - b / other_total) < 5 * np.sqrt(pooled * (1 - pooled) * (1 / total + 1 / other_total)) + 1e-9
        )
    glasses = [(attributes(scene)["glasses"], "glasses" in named(c)) for scene, captions in pairs for c in captions]
    holds, said = np.array(glasses).T
    assert abs(said[holds].mean() - said[~holds].mean()) < 5 * np.sqrt(said.mean() / min(holds.sum(), (~holds).sum()))


def test_some_attributes_are_named_often_some_rarely_some_never():
    """Count how often each attribute is named first, among those that hold and are named equally often."""
    dice, world = Dice(0), WORLDS["pretrain"]
    everything = dict.fromkeys(ATTRIBUTES, True)
    captions = [sample_caption(dice, everything, "A B", world, 1.0)[0] for _ in range(3000)]
    share = {name: np.mean([name in named(caption) for caption in captions]) for name in ATTRIBUTES}
    often = [share[name] for name in ATTRIBUTES if NAMED[name] == OFTEN]
    rarely = [share[name] for name in ATTRIBUTES if NAMED[name] == RARELY]
    assert max(share[name] for name in ATTRIBUTES if NAMED[name] == NEVER) == 0
    assert 0 < max(rarely) < 0.4 * min(often)
    np.testing.assert_allclose(np.mean(rarely) / np.mean(often), RARELY, atol=0.04)


@pytest.mark.parametrize("informativeness", [0.0, 0.37, 1.0])
def test_informativeness_is_the_share_that_tells(informativeness):
    captions = [c for _, several in told(250, mismatched=0.0, informativeness=informativeness) for c in several]
    telling = sum(bool(named(caption)) for caption in captions)
    if informativeness in (0.0, 1.0):
        assert telling == informativeness * len(captions)
    else:
        assert within(telling, len(captions), informativeness)


def test_a_mirrored_scene_has_its_side_words_mirrored():
    sides = 0
    for index in range(200):
        scene = sample_scene(2, index, Settings(informativeness=1.0))
        mirrored = mirror(scene)
        assert mirror(mirrored).captions == scene.captions
        assert mirror(mirrored).oracle == scene.oracle
        assert named(mirrored.oracle) == {name for name, holds in attributes(mirrored).items() if holds}
        for caption, other in zip(scene.captions, mirrored.captions, strict=True):
            assert len(re.findall(r"\bleft\b", caption)) == len(re.findall(r"\bright\b", other))
            sides += caption != other
    assert sides > 3


def test_most_captions_fit_a_small_context():
    """Start and end take 2 of 32 tokens, which leaves less than 30 for the text."""
    lengths = [
        len(clip_tokenizer().encode(caption))
        for world in WORLDS
        for _, captions in told(120, world=world)
        for caption in captions
    ]
    assert np.mean(np.array(lengths) < 30) > 0.99
    assert max(len(clip_tokenizer().encode(sample_scene(0, 8 * i).oracle)) for i in range(40)) <= 75
