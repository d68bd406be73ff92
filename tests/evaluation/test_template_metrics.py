"""Reference: loops over images, media and probes as the protocol tells it, and scikit-learn's ROC curve.

Planted and seen red: frames that count by their number, a tie that counts for the person.
"""

import numpy as np
import pytest
from sklearn.metrics import roc_curve

from facerep_jax.evaluation import statistics
from facerep_jax.evaluation.metrics import score
from facerep_jax.evaluation.statistics import drawn_by, resampled
from facerep_jax.evaluation.template_metrics import (
    GRID,
    Identification,
    TemplateVerification,
    drawn_templates,
    template_features,
)
from facerep_jax.typing import BOTH, Coarse, Metric


def images(seed=0, people=24, each=6, width=8, noise=2.5):
    """Features of images of people, two templates each, of two media of which one has several frames."""
    rng = np.random.default_rng(seed)
    person = np.repeat(np.arange(people), each)
    template = 10 * person + np.tile([0, 0, 0, 5, 5, 5], people)
    media = 100 * template + np.tile([0, 0, 1, 0, 1, 1], people)
    x = rng.normal(size=(people, width))[person] + noise * rng.normal(size=(len(person), width))
    return x, person, template, media, rng.random(len(person))


def split_of(person, template, media, weight, tables):
    ids = [f"{i:03d}" for i in range(len(person))]
    return {"id": ids, "template": template, "media": media, "face_score": weight, "tables": tables}


def feature(x, template, media, weight, name):
    """A template's feature, one medium after the other."""
    total = np.zeros(x.shape[1])
    for medium in dict.fromkeys(media[template == name].tolist()):
        frames = [x[i] * weight[i] for i in range(len(x)) if template[i] == name and media[i] == medium]
        total += sum(frames) / len(frames)
    return total / np.sqrt((total**2).sum())


def test_media_are_averaged_and_summed_to_templates():
    x, _, template, media, weight = images()
    names, found = template_features(x, template, media, weight)
    expected = [feature(x, template, media, weight, name) for name in sorted({*template.tolist()})]
    assert names.tolist() == sorted({*template.tolist()})
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    two = np.array([[1.0, 0], [1, 0], [0, 1]])  # two frames of a video weigh as much as one picture
    _, ((a, b),) = template_features(two, np.zeros(3, int), np.array([7, 7, 8]))
    assert a == pytest.approx(b)


def pairs_table():
    names = [10 * p + side for p in range(24) for side in (0, 5)] + [999]  # the last has no image
    first, second = (np.array(side) for side in zip(*[(a, b) for a in names for b in names if a < b], strict=True))
    return {"first": first, "second": second, "same": first // 10 == second // 10}


def test_pairs_of_templates_are_scored_as_the_roc_curve_has_it():
    x, person, template, media, weight = images()
    metric, table = TemplateVerification(), pairs_table()
    assert isinstance(metric, Metric)
    rows = metric.rows(x, split_of(person, template, media, weight, {"template_pairs": table}))
    assert len(rows.ids) == 48 * 47 // 2 == len({*rows.ids})
    of = {name: feature(x, template, media, weight, name) for name in {*template.tolist()}}
    alike = [of[int(a)] @ of[int(b)] for a, b in (each.split() for each in rows.ids)]
    np.testing.assert_allclose(rows.statistics[:, 0], alike, rtol=1e-9)
    found = score(metric, rows.statistics)
    far, tar, _ = roc_curve(rows.statistics[:, 1], alike, drop_intermediate=False)
    for k in (1, 2, 3):
        assert found[f"tar_at_far_1e-{k}"] == pytest.approx(tar[far <= 10.0**-k].max())
    assert np.isnan(found["tar_at_far_1e-4"])
    assert (found["pairs_same"], found["pairs_different"]) == (24, 48 * 47 // 2 - 24)


def test_pairs_belong_to_the_persons_that_identities_and_pairs_of_one_person_tell():
    x, person, template, media, weight = images(people=6)
    metric, table = TemplateVerification(), pairs_table()
    split = split_of(person, template, media, weight, {"template_pairs": table})
    for known in ({}, {"identity": np.where(person < 3, person, -1)}):
        rows = metric.rows(x, split | known)
        for name, unit in zip(rows.ids, rows.units, strict=True):
            a, b = (int(each) // 10 for each in name.split())
            assert unit == BOTH.join(f"person {10 * who}" for who in dict.fromkeys((a, b)))
    few = {name: column[~table["same"]] for name, column in table.items()}  # identities alone join templates
    split["tables"] = {"template_pairs": few}
    assert drawn_by(metric.rows(x, split).units).units == 12
    assert drawn_by(metric.rows(x, split | {"identity": np.where(person < 3, person, -1)}).units).units == 9
    drawn = TemplateVerification(drawn=True).rows(x, split | {"identity": person})
    assert drawn_by(drawn.units).units == 6


def test_draws_from_cells_are_those_of_single_pairs(monkeypatch):
    x, person, template, media, weight = images()
    metric = TemplateVerification()
    assert isinstance(metric, Coarse)
    rows = metric.rows(x, split_of(person, template, media, weight, {"template_pairs": pairs_table()}))
    cell, few = metric.cells(rows.statistics)
    np.testing.assert_allclose(few[cell, 0], rows.statistics[:, 0], atol=1 / GRID)
    np.testing.assert_array_equal(few[cell, 1], rows.statistics[:, 1])
    for name in ("tar_at_far_1e-1", "eer"):
        draws = {}
        for many in (10**9, 0):
            monkeypatch.setattr(statistics, "MANY", many)
            draws[many] = resampled(
                rows.statistics[None, None],
                lambda s, w, name=name: metric.compute(s, w)[name],
                units=rows.units,
                resamples=200,
                cells=metric.cells,
            ).draws
        assert draws[0].std() > 0.01
        np.testing.assert_allclose(draws[0], draws[10**9], atol=1e-3)


def galleries():
    """Two galleries of different persons, one person in one by two templates; a third of the probes is in neither."""
    gallery = [(10 * p, p, p % 2 + 1) for p in range(16)] + [(25, 2, 1)]
    template, person, which = (np.array(column) for column in zip(*gallery, strict=True))
    probes = np.array([10 * p + 5 for p in range(24)])
    return {"template": template, "person": person, "gallery": which}, {"template": probes, "person": probes // 10}


def searched(x, template, media, weight, gallery, probes, draws):
    """Rank-1, rank-5, rank-10, and TPIR at FPIR 0.1 of one gallery after the other, mean."""
    of, values = {name: feature(x, template, media, weight, name) for name in {*template.tolist()}}, []
    for which in sorted({*gallery["gallery"].tolist()}):
        mated, unmated = [], []
        for probe, who, draw in zip(probes["template"], probes["person"], draws[which], strict=True):
            best = {}
            for name, person, place in zip(*gallery.values(), strict=True):
                if place == which:
                    best[person] = max(best.get(person, -2), of[name] @ of[probe])
            ranked = sorted(best, key=best.get, reverse=True)
            entry = (ranked.index(who), best[ranked[0]]) if who in best else (None, best[ranked[0]])
            (mated if who in best else unmated).extend([entry] * draw)
        thresholds = [np.inf, *sorted({s for _, s in mated + unmated}, reverse=True)]
        allowed = [t for t in thresholds if sum(s >= t for _, s in unmated) <= 0.1 * len(unmated)]
        passed = [sum(r == 0 and s >= t for r, s in mated) for t in allowed]
        ranks = [sum(r < k for r, _ in mated) / len(mated) for k in (1, 5, 10)]
        values.append([*ranks, max(passed) / len(mated)])
    return np.mean(values, axis=0)


def test_probes_are_searched_in_each_gallery():
    x, person, template, media, weight = images(noise=1.5)
    gallery, probes = galleries()
    metric = Identification()
    assert isinstance(metric, Metric)
    split = split_of(person, template, media, weight, {"gallery": gallery, "probes": probes})
    rows = metric.rows(x, split)
    assert len({*rows.ids}) == 48
    assert drawn_by(rows.units).units == 24  # persons, each searched for in two galleries
    rng = np.random.default_rng(1)
    drawn = [np.ones(48, int), rng.integers(0, 3, 48)]
    found = metric.compute(rows.statistics, np.stack(drawn).astype(np.float64))
    for place, draw in enumerate(drawn):
        counts = {1: draw[:24], 2: draw[24:]}
        expected = searched(x, template, media, weight, gallery, probes, counts)
        got = [found[name][place] for name in ("rank_1", "rank_5", "rank_10", "tpir_at_fpir_1e-1")]
        np.testing.assert_allclose(got, expected, rtol=1e-12)
    assert 0.1 < found["tpir_at_fpir_1e-1"][0] < found["rank_1"][0] < found["rank_5"][0] < 1
    assert np.isnan(found["tpir_at_fpir_1e-2"]).all()  # too few probes without a mate
    assert (found["mated"][0], found["unmated"][0]) == (16, 32)


def test_search_by_hand():
    """Persons 0 and 1 in the gallery; probes of 0 found, of 1 mistaken, and eleven of strangers."""
    x = np.array([[1, 0], [0, 1], [1, 0.1], [1, 0.2], *[[-1, 0.5]] * 11], float)
    template = np.arange(15)
    gallery = {"template": np.array([0, 1]), "person": np.array([0, 1])}
    probes = {"template": template[2:], "person": np.array([0, 1, *range(2, 13)])}
    split = {"id": list(map(str, template)), "template": template, "media": template}
    split["tables"] = {"gallery": gallery, "probes": probes}
    found = score(Identification(), Identification().rows(x, split).statistics)
    assert (found["rank_1"], found["rank_5"], found["tpir_at_fpir_1e-1"]) == (0.5, 1, 0.5)
    constant = score(Identification(), Identification().rows(np.ones_like(x), split).statistics)
    assert (constant["rank_1"], constant["rank_5"], constant["tpir_at_fpir_1e-1"]) == (0, 1, 0)
    probes["person"] = np.arange(100, 113)
    with pytest.raises(ValueError, match="none of 13 probes shows a person of the gallery"):
        Identification().rows(x, split)


def test_open_set_rates_are_those_of_sorted_scores():
    """Half of 100 mated probes look like their person; 200 others have scores of which two may pass at FPIR 1e-2."""
    rng = np.random.default_rng(3)
    people, strangers = np.eye(100), rng.normal(size=(200, 100)) / 10
    like = np.where(np.arange(100)[:, None] % 2, people, rng.normal(size=(100, 100)))
    probes = like + 0.3 * rng.normal(size=(100, 100))
    x = np.concatenate([people, probes, strangers])
    gallery = {"template": np.arange(100), "person": np.arange(100)}
    searched_for = {"template": np.arange(100, 400), "person": np.arange(300)}
    split = {"id": list(map(str, range(400))), "template": np.arange(400), "media": np.arange(400)}
    split["tables"] = {"gallery": gallery, "probes": searched_for}
    found = score(Identification(), Identification().rows(x, split).statistics)

    cosine = np.concatenate([probes, strangers]) / np.linalg.norm(np.concatenate([probes, strangers]), axis=1)[:, None]
    own, best = np.diag(cosine[:100]), cosine.max(1)
    first = own == best[:100]
    for k, passed in ((1, 20), (2, 2)):
        threshold = np.sort(best[100:])[::-1][passed]  # above it are as many as may pass
        expected = (first & (own > threshold)).mean()
        assert found[f"tpir_at_fpir_1e-{k}"] == pytest.approx(expected)
    ranks = (cosine[:100] > own[:, None]).sum(1)
    for k in (1, 5, 10):
        assert found[f"rank_{k}"] == pytest.approx((ranks < k).mean())
    values = [found[name] for name in ("tpir_at_fpir_1e-2", "tpir_at_fpir_1e-1", "rank_1", "rank_5", "rank_10")]
    assert 0 < values[0] < values[1] < values[2] < values[3] < values[4] < 1


def test_templates_are_drawn_of_different_sessions():
    person = np.array([3, 3, 3, 3, 5, 5, 5, 7, -1, 9, 9])
    session = np.array([0, 0, 1, 1, 2, 2, 3, 4, 5, 6, 6])
    ids = [f"{i:02d}" for i in range(11)]
    _, template, media = drawn_templates({"id": ids, "identity": person, "session": session})
    assert template.tolist() == [6, 6, 7, 7, 10, 10, 11, -1, -1, -1, -1]  # person 9 has one session
    assert media[0] == media[1] != media[2]
    _, template, media = drawn_templates({"id": ids[::-1], "identity": person})
    assert template.tolist() == [7, 7, 6, 6, 11, 11, 10, -1, -1, 19, 18]
    assert len({*media.tolist()}) == 11
    for metric in (TemplateVerification(drawn=True), Identification(drawn=True)):
        rows = metric.rows(np.random.default_rng(0).normal(size=(11, 4)), {"id": ids, "identity": person})
        assert np.isfinite(score(metric, rows.statistics)["eer" if metric.headline[0] == "t" else "rank_5"])


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"identity": np.arange(6)}, "no templates can be drawn from 6 images of 6 known persons"),
        ({}, "who is who has to be known"),
    ],
)
def test_what_is_missing_is_said(split, message):
    with pytest.raises(ValueError, match=message):
        TemplateVerification(drawn=True).rows(np.ones((6, 2)), {"id": list("abcdef"), **split})
    with pytest.raises(ValueError, match="made of images with `template` and `media`, but there is no 'template'"):
        TemplateVerification().rows(np.ones((6, 2)), {"id": list("abcdef"), "tables": {}})
