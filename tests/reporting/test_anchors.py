"""Published numbers keep their conditions."""

from dataclasses import replace

import pytest

from facerep_jax.reporting import anchors, workdirs
from facerep_jax.reporting.anchors import ANCHORS


def find(**keys):
    return [a for a in ANCHORS if all(getattr(a, key) == value for key, value in keys.items())]


def test_each_has_all_that_it_needs_and_stands_once():
    assert len(set(ANCHORS)) == len(ANCHORS) == 45
    known = (anchors.VERIFIED, anchors.SECOND_HAND, anchors.ABSTRACT, anchors.MIRRORED, anchors.AGGREGATED)
    assert all(a.provenance in known for a in ANCHORS)
    assert all((a.selection in ("test_best", "last") and a.epoch) or a.provenance != anchors.VERIFIED for a in ANCHORS)
    assert all(a.labels and a.protocol and 0 < a.value < 100 for a in ANCHORS)


# The headline of FaRL's README: paper and 64 epochs, best epoch on the test set.
@pytest.mark.parametrize(
    ("dataset", "paper", "longer"),
    [
        ("CelebAMask-HQ", 89.56, 89.57),
        ("LaPa", 93.88, 94.04),
        ("AFLW-19 full", 0.943, 0.938),
        ("300W full", 2.93, 2.88),
        ("WFLW full", 3.96, 3.88),
    ],
)
def test_the_headline_is_that_of_the_readme(dataset, paper, longer):
    digits = 2 if paper > 10 or dataset != "AFLW-19 full" else 3
    for encoder, want in ((anchors.PAPER, paper), (anchors.LONGER, longer)):
        (best,) = find(dataset=dataset, encoder=encoder, selection="test_best", protocol=anchors.FINE_TUNED)
        (last,) = find(dataset=dataset, encoder=encoder, selection="last", protocol=anchors.FINE_TUNED)
        assert round(best.value, digits) == want
        assert (last.value < best.value) == (best.task == "parsing")  # the best on the test set is never the worse


@pytest.mark.parametrize(
    ("encoder", "dataset", "value", "provenance"),
    [
        ("MCF B/16", "LaPa", 93.96, anchors.ABSTRACT),
        ("MCF B/16", "AFLW-19 full", 0.932, anchors.ABSTRACT),
        ("PaCo-FR", "WFLW full", 3.99, anchors.AGGREGATED),
        ("PaCo-FR", "AFLW-19 frontal", 0.82, anchors.AGGREGATED),
        ("FRL, VGG-F", "COFW", 3.32, anchors.MIRRORED),
        ("FMAE-IAT", "BP4D", 67.1, anchors.ABSTRACT),
        ("FMAE-IAT", "DISFA", 70.1, anchors.ABSTRACT),
    ],
)
def test_later_systems_say_where_their_numbers_come_from(encoder, dataset, value, provenance):
    (found,) = find(encoder=encoder, dataset=dataset)
    assert (found.value, found.provenance, found.selection, found.epoch) == (value, provenance, "", None)


def test_a_subset_of_a_test_set_is_other_data():
    (frontal,) = find(dataset="AFLW-19 frontal")
    assert not anchors.same_data(frontal, "aflw19/default")
    assert anchors.same_data(find(dataset="AFLW-19 full")[0], "aflw19/default")


def test_a_data_set_is_known_by_its_name():
    lapa, w300 = find(dataset="LaPa")[0], find(dataset="300W full")[0]
    for name in ("lapa", "lapa/default", "manifest/lapa", "lapa:size=48"):
        assert anchors.same_data(lapa, name)
    for name in ("ibug300w/full", "300w", "manifest/ibug-300w"):
        assert anchors.same_data(w300, name)
    for name in ("generated_faces/demo", "manifest/civil_us", "lapa2", "300w_lp"):
        assert not anchors.same_data(lapa, name)
        assert not anchors.same_data(w300, name)


def test_differences_are_put_into_words(tmp_path, written):
    written.evaluation(tmp_path / "a", 0.8, checkpoint="random", task="parsing", dataset="lapa/default")
    results = workdirs.read_evaluation(tmp_path / "a").results
    best, last = find(dataset="LaPa", encoder=anchors.PAPER, protocol=anchors.FINE_TUNED)
    other = ["other protocol (fine-tuned, UPerHead, 448 px)", "other selection"]
    assert anchors.differences(best, results) == other
    assert anchors.differences(last, replace(results, selection="last")) == other[:1]
    found = anchors.differences(best, replace(results, dataset="manifest/mine", headline="miou"))
    assert found == ["other data set (LaPa)", "other metric", *other]
    frozen = find(dataset="LaPa", protocol=anchors.FROZEN)[0]
    assert anchors.differences(frozen, results)[-1] == "selection not known"
