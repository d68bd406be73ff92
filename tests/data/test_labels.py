"""Identities and their controls. Planted and seen red: a label that is drawn anew in each epoch."""

import numpy as np
import pytest

from facerep_jax.data.labels import Identities
from facerep_jax.data.transforms import Lacking

META = {"identities": [f"person {i}" for i in range(20)]}


def label(transform, identity, name="a", seed=0):
    example = {"id": name.encode(), "identity": np.int32(identity)}
    return int(transform(example, np.random.default_rng(seed))["identity"])


def test_labels_stay_and_those_that_are_missing_leave_their_example_out():
    identities = Identities(classes=20, meta=META)
    assert [label(identities, i) for i in (0, 7, 19)] == [0, 7, 19]
    with pytest.raises(Lacking, match="record 'a' has no identity"):
        label(identities, -1)


def test_more_identities_than_classes_are_named_before_a_run():
    with pytest.raises(ValueError, match="20 identities, more than the head's 10 classes: set classes=20"):
        Identities(classes=10, meta=META)
    with pytest.raises(ValueError, match="identity 12 of 'a' is none of the head's 10"):
        label(Identities(classes=10, meta={}), 12)
    with pytest.raises(ValueError, match="Identities needs the feature 'identity'"):
        Identities(classes=20, meta=META)({"id": b"a"}, np.random.default_rng(0))


def test_identities_with_one_image_are_told_of(caplog):
    meta = META | {"identities_with_one_image": 7}
    Identities(classes=20, control="random", meta=meta)
    Identities(classes=20, meta=META)
    assert not caplog.records
    Identities(classes=20, meta=meta)
    assert "7 of 20 identities have one image for training" in caplog.text


def test_random_labels_are_of_the_record_alone():
    identities = Identities(classes=64, control="random", meta=META)
    found = [label(identities, 3, f"face {i}") for i in range(400)]
    assert found == [label(identities, 5, f"face {i}", seed=9) for i in range(400)]
    assert set(found) == set(range(20))
    assert np.bincount(found).max() < 45  # of 20 on average
    other = Identities(classes=64, control="random", seed=1, meta=META)
    assert found != [label(other, 3, f"face {i}") for i in range(400)]


def test_hardly_any_images_share_a_class_of_their_own():
    identities = Identities(classes=100_000, control="own", meta={})
    found = [int(identities({"id": f"face {i}"}, np.random.default_rng(0))["identity"]) for i in range(300)]
    assert len(set(found)) >= 298
    assert identities.reads == ()


def test_an_unknown_control_is_named():
    with pytest.raises(ValueError, match=r"the control of identities is .* or random or own, not 'permuted'"):
        Identities(classes=20, control="permuted", meta=META)
