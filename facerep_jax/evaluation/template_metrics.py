"""Metrics of templates, each of several images of one person: verification of pairs, and search in a gallery.

The feature of a template is made of those of its images, see `template_features`; two templates are as similar as their
cosine. On the host in float64. A value that is not defined is NaN.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from facerep_jax.evaluation.label_metrics import steps
from facerep_jax.evaluation.metrics import Deferred, ratio
from facerep_jax.evaluation.person_metrics import FARS, accept_rate, equal_error_rate, normalised, persons_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.typing import BOTH, Rows

TEMPLATE_PAIRS, GALLERY, PROBES = "template_pairs", "gallery", "probes"  # names of tables
RANKS = (1, 5, 10)
OUTSIDE = 3  # of drawn templates, every so many persons are searched for but not in the gallery
GRID = 2**15  # cells of a similarity from 0 to 1, for intervals of a great many pairs
PART = 1024  # probes, or pairs times 64, at a time


def template_features(
    x: Float[np.ndarray | Array, "n d"],
    template: Int[np.ndarray, "n"],
    media: Int[np.ndarray, "n"],
    weight: Float[np.ndarray, "n"] | None = None,
) -> tuple[Int[np.ndarray, "t"], Float[np.ndarray, "t d"]]:
    """The different templates in order, and their features of length one.

    Features of images, each times its weight, are averaged over the images of one medium within a template, such as the
    frames of a video; these means are summed over the media of a template.

    Source: insightface's evaluation of IJB-C (recognition/_evaluation_/ijb), where the weight is the detector's score.
    """
    x = np.asarray(x, np.float64)
    if weight is not None:
        x = x * np.where(np.isfinite(weight), weight, 1.0)[:, None]
    both, medium = np.unique(np.column_stack([template, media]), axis=0, return_inverse=True)
    medium = medium.reshape(-1)
    means = np.zeros((len(both), x.shape[1]))
    np.add.at(means, medium, x)
    means /= np.bincount(medium, minlength=len(both))[:, None]
    names, place = np.unique(both[:, 0], return_inverse=True)
    sums = np.zeros((len(names), x.shape[1]))
    np.add.at(sums, place.reshape(-1), means)
    return names, normalised(sums)


class Pooling:
    """The templates of a split, and their features.

    Images have `template` and `media`; with `drawn` these are drawn from persons and sessions, see `drawn_templates`.
    """

    optional = ("template", "media", "face_score", PERSON, "session")

    def __init__(self, drawn: bool):
        self.drawn = drawn

    def __call__(self, prediction: Any, split: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Names of templates, their features, and the person of each, None if pairs and galleries are a table's."""
        if not self.drawn:
            if missing := [name for name in ("template", "media") if name not in split]:
                raise ValueError(
                    f"templates are made of images with `template` and `media`, but there is no {missing[0]!r}"
                )
            template, media = (np.asarray(split[name], int) for name in ("template", "media"))
            weight = np.asarray(split["face_score"], np.float64) if "face_score" in split else None
            return *template_features(prediction, template, media, weight), None
        person, template, media = drawn_templates(split)
        there = template >= 0
        names, x = template_features(np.asarray(prediction)[there], template[there], media[there])
        of = dict(zip(template.tolist(), person.tolist(), strict=True))
        return names, x, np.array([of[name] for name in names.tolist()])


def drawn_templates(
    split: Mapping[str, Any],
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Person, template and medium of each image of a split whose persons are known; -1 for an image without template.

    The images of a person make two templates: half of the sessions each where sessions are known, else half of the
    images, in the order of their ids. A session is a medium; an image of no session is one by itself. Template 2 p is
    the first of person p, 2 p + 1 the second. A person with one image or session has none.

    Raises:
        ValueError: fewer than two persons have two templates.
    """
    person, session = persons_of(split)
    order = sorted(range(len(person)), key=split["id"].__getitem__)
    template, media = np.full(len(person), -1), np.arange(len(person))
    media = np.where(session >= 0, len(person) + session, media)
    of: dict[int, list[int]] = {}
    for row in order:
        of.setdefault(int(person[row]), []).append(row)
    of.pop(-1, None)
    complete = 0
    for who, rows in of.items():
        groups = list(dict.fromkeys(int(media[row]) for row in rows))
        if len(groups) > 1:
            first = {*groups[: len(groups) // 2]}
            complete += 1
            for row in rows:
                template[row] = 2 * who + (int(media[row]) not in first)
    if complete < 2:
        raise ValueError(
            f"no templates can be drawn from {len(person)} images of {len(of)} known persons: at least two persons "
            "with two images, of different sessions where these are known, are needed"
        )
    return person, template, media


class TemplateVerification:
    """One person or two: TAR at FAR and equal error rate of pairs of templates, see `person_metrics.Verification`.

    Pairs are those of the data set's table `template_pairs`, with columns `first`, `second` (templates) and `same`; or,
    with `drawn`, each first template with each second one, see `drawn_templates`. A row is a pair, which belongs to one
    person or to two: persons are those of `drawn`, else templates of the images of one identity where these are known,
    and those that pairs of one person join. A million pairs take 0.25 GB to score and 0.6 GB in a report: about 4 and
    10 GB for the 15.7 million of IJB-C, whose interval is made from cells, see `statistics.resampled`.

    Source: the 1:1 protocol of IJB-B and IJB-C (Whitelam et al. 2017, Maze et al. 2018).
    Changed: TAR at FAR is read at the point of the curve that keeps the rate, where insightface reads the nearest.
    """

    headline, lower_is_better = "tar_at_far_1e-3", False
    columns: tuple[str, ...] = ("tar_at_far_1e-3", "tar_at_far_1e-2", "tar_at_far_1e-4", "eer")
    optional = Pooling.optional
    unit, belongs_to, per_row, error_limit = "pair", "person", False, None
    names: Mapping[str, str] = {
        "eer": "EER",
        **{f"tar_at_far_1e-{k}": f"TAR at FAR 1e-{k}" for k in FARS},
        "pairs_same": "Pairs of one person",
        "pairs_different": "Pairs of two persons",
    }
    counts = ("pairs_same", "pairs_different")
    explains = (
        "TAR at FAR 1e-3: the share of the pairs of templates of one person that are accepted by a threshold which at "
        "most 0.1% of the pairs of two persons pass.",
        "EER, equal error rate: the share of wrong answers at the threshold where as large a share of the pairs of two "
        "persons is accepted as of the pairs of one person is rejected.",
    )

    def __init__(self, drawn: bool = False):
        self.pooling = Pooling(drawn)
        if drawn:  # a hundred pairs of two persons do not tell of one in a thousand
            self.headline = "tar_at_far_1e-1"
            self.columns = ("tar_at_far_1e-1", *type(self).columns)

    def rows(self, prediction: Float[np.ndarray | Array, "n d"], split: Mapping[str, Any]) -> Rows:
        """Per pair of templates that are there: similarity, whether it is of one person."""
        names, x, person = self.pooling(prediction, split)
        if person is None:
            table = split["tables"][TEMPLATE_PAIRS]
            columns = (np.asarray(table[name]).astype(int) for name in ("first", "second"))
            (first, there), (second, also) = (places(names, column) for column in columns)
            kept = there & also
            if not kept.any():
                raise ValueError(
                    f"of none of the {len(kept)} pairs of table {TEMPLATE_PAIRS!r} both templates have test examples"
                )
            first, second, same = first[kept], second[kept], np.asarray(table["same"], bool)[kept]
            person = persons_of_templates(names, first[same], second[same], split)
        else:
            first, second = (np.flatnonzero(names % 2 == side) for side in (0, 1))
            first, second = (grid.reshape(-1) for grid in np.meshgrid(first, second, indexing="ij"))
            same = person[first] == person[second]
        alike = np.empty(len(first))
        for start in range(0, len(first), 64 * PART):
            part = slice(start, start + 64 * PART)
            alike[part] = np.einsum("nd,nd->n", x[first[part]], x[second[part]])
        ids = [f"{a} {b}" for a, b in zip(names[first].tolist(), names[second].tolist(), strict=True)]
        who, one = np.unique(person, return_inverse=True)
        different, of = np.unique(one[first] * len(who) + one[second], return_inverse=True)
        two = zip(who[different // len(who)].tolist(), who[different % len(who)].tolist(), strict=True)
        named = [BOTH.join(f"person {each}" for each in dict.fromkeys(both)) for both in two]
        units = [named[each] for each in of.tolist()]  # texts that pairs share
        return Rows(ids, units, np.column_stack([alike, same]).astype(np.float64))

    def cells(self, statistics: Float[np.ndarray, "n s"]) -> tuple[Int[np.ndarray, "n"], Float[np.ndarray, "m s"]]:
        """Pairs of one kind whose similarities are alike to 1 / GRID; a cell has that of its middle."""
        steps_up = np.floor((np.clip(statistics[:, 0], -1, 1) + 1) * GRID).astype(np.int64)
        different, cell = np.unique(2 * steps_up + (statistics[:, 1] > 0), return_inverse=True)
        return cell.reshape(-1), np.column_stack([(different // 2 + 0.5) / GRID - 1, different % 2]).astype(np.float64)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> Mapping[str, Float[np.ndarray, "r"]]:
        alike, same = statistics[:, 0], statistics[:, 1] > 0
        values: dict[str, Callable[[], Any]] = {
            "eer": partial(equal_error_rate, alike, same, weights),
            **{f"tar_at_far_1e-{k}": partial(accept_rate, alike, same, weights, k) for k in FARS},
            "pairs_same": lambda: weights @ same.astype(np.float64),
            "pairs_different": lambda: weights @ (~same).astype(np.float64),
        }
        return Deferred(values)


def persons_of_templates(
    names: Int[np.ndarray, "t"], first: Int[np.ndarray, "p"], second: Int[np.ndarray, "p"], split: Mapping[str, Any]
) -> Int[np.ndarray, "t"]:
    """The person of each template, as the first of their templates, from pairs of one person and from identities.

    Args:
        names: of templates, which rise.
        first, second: places of pairs of one person.
        split: has `template`, and `identity` where it is known.
    """
    identity = np.asarray(split.get(PERSON, np.full(len(split["id"]), -1)), int)
    (place, _), known = places(names, np.asarray(split["template"], int)), identity >= 0
    _, person = np.unique(identity[known], return_inverse=True)
    count = len(names) + (person.max() + 1 if len(person) else 0)  # each identity is a node as each template is
    ends = np.append(first, place[known]), np.append(second, len(names) + person.reshape(-1))
    _, group = connected_components(coo_array((np.ones(len(ends[0])), ends), shape=(count, count)), directed=False)
    _, leader, of = np.unique(group[: len(names)], return_index=True, return_inverse=True)
    return names[leader][of.reshape(-1)]


def places(names: Int[np.ndarray, "t"], wanted: Int[np.ndarray, "p"]) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted template stands among names, which rise; and whether it is among them."""
    place = np.minimum(np.searchsorted(names, wanted), len(names) - 1)
    return place, names[place] == wanted


class Identification:
    """Who of a gallery is it, if anybody? Rank-1, 5 and 10, and TPIR at FPIR, of probe templates searched in galleries.

    A probe is mated if the gallery has its person. `rank_k` is the share of mated probes whose person is among the k
    most similar ones of the gallery, a person being as similar as the most similar template of theirs.
    `tpir_at_fpir_1e-k` is the largest share of mated probes whose person is the most similar one and passes a threshold
    that at most 10^-k of the probes without a mate pass with anybody; NaN where there are fewer than 10^k of these.
    Several galleries are searched one by one, and their values averaged.

    Galleries are the table `gallery`, with columns `template`, `person` and, if there are several, `gallery`; probes
    are the table `probes`, with `template` and `person`. With `drawn` the gallery has the first template of two in
    three persons, see `drawn_templates`, and the probes are all second templates.

    Source: the 1:N protocol of IJB-B and IJB-C (Whitelam et al. 2017, Maze et al. 2018): open-set search of all probes
    in two galleries of different persons.
    """

    headline, lower_is_better = "rank_1", False
    columns = ("rank_1", "rank_5", "rank_10", "tpir_at_fpir_1e-1", "tpir_at_fpir_1e-2")
    optional = Pooling.optional
    unit, belongs_to, per_row, error_limit = "search", "person", False, None
    names: Mapping[str, str] = {
        **{f"rank_{k}": f"Rank-{k}" for k in RANKS},
        **{f"tpir_at_fpir_1e-{k}": f"TPIR at FPIR 1e-{k}" for k in (1, 2)},
        "mated": "Searches with a mate",
        "unmated": "Searches without a mate",
    }
    counts = ("mated", "unmated")
    explains = (
        "Rank-k: the share of probes whose person is among the k most similar ones of the gallery; of those whose "
        "person is in it.",
        "TPIR at FPIR 1e-1: the share of these whose person is the most similar one and passes a threshold that at "
        "most 10% of the probes of other persons pass.",
    )

    def __init__(self, drawn: bool = False):
        self.pooling = Pooling(drawn)

    def rows(self, prediction: Float[np.ndarray | Array, "n d"], split: Mapping[str, Any]) -> Rows:
        """Per probe and gallery: gallery, whether it has a mate, whether found at each of `RANKS`, the best similarity.

        Raises:
            ValueError: no probe has a mate.
        """
        names, x, person = self.pooling(prediction, split)
        if person is None:
            gallery, probes = (split["tables"][name] for name in (GALLERY, PROBES))
            stored, where = np.asarray(gallery["template"], int), gallery.get("gallery")
            stored_person, wanted_person = (np.asarray(table["person"], int) for table in (gallery, probes))
            of = np.zeros(len(stored), int) if where is None else np.unique(where, return_inverse=True)[1].reshape(-1)
            wanted = np.asarray(probes["template"], int)
        else:
            known = np.unique(person)
            inside = np.isin(person, known[np.arange(len(known)) % OUTSIDE != OUTSIDE - 1])
            stored, wanted = names[(names % 2 == 0) & inside], names[names % 2 == 1]
            stored_person, wanted_person = stored // 2, wanted // 2
            of = np.zeros(len(stored), int)
        (place, there), (probe, here) = places(names, stored), places(names, wanted)
        ids, units, found = list[str](), list[str](), list[np.ndarray]()
        for each in np.unique(of):
            kept = there & (of == each)
            people, owner = np.unique(stored_person[kept], return_inverse=True)
            for start in range(0, len(wanted), PART):
                rows = np.arange(start, min(start + PART, len(wanted)))
                rows = rows[here[rows]]
                alike = np.full((len(people), len(rows)), -np.inf)
                np.maximum.at(alike, owner.reshape(-1), x[place[kept]] @ x[probe[rows]].T)
                mate = people[:, None] == wanted_person[rows][None]
                own, mated = np.where(mate, alike, -np.inf).max(0), mate.any(0)
                before = ((alike >= own[None]) & ~mate).sum(0)  # a tie counts against the person
                ranks = [mated & (before < k) for k in RANKS]
                found.append(np.column_stack([np.full(len(rows), each), mated, *ranks, alike.max(0)]))
                ids += [f"{name} in {each}" for name in wanted[rows].tolist()]
                units += [f"person {who}" for who in wanted_person[rows].tolist()]
        statistics = np.concatenate(found).astype(np.float64)
        if not statistics[:, 1].any():
            raise ValueError(f"none of {len(wanted)} probes shows a person of the gallery: there is nothing to find")
        return Rows(ids, units, statistics)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        gallery, mated, *ranks, best = statistics.T
        values: dict[str, list[np.ndarray]] = {name: [] for name in self.columns}
        for each in np.unique(gallery):
            w = weights * (gallery == each)[None]
            total = w @ mated
            for k, hit in zip(RANKS, ranks, strict=True):
                values[f"rank_{k}"].append(ratio(w @ hit, total))
            for k in (1, 2):
                values[f"tpir_at_fpir_1e-{k}"].append(open_set(best, mated > 0, ranks[0] > 0, w, k))
        means = {name: np.mean(of, axis=0) for name, of in values.items()}
        return means | {"mated": weights @ mated, "unmated": weights @ (1 - mated)}


def open_set(
    best: Float[np.ndarray, "n"], mated: np.ndarray, hit: np.ndarray, weights: Float[np.ndarray, "r n"], k: int
) -> Float[np.ndarray, "r"]:
    """The largest share of mated searches that are hits and pass where at most 10^-k of the others pass."""
    false, true = steps(best, (~mated, hit), weights)
    count, total = false[:, -1], weights @ mated.astype(np.float64)
    allowed = np.where(false <= 10.0**-k * count[:, None], true, 0).max(1)
    return np.where(count >= 10**k, ratio(allowed, total), np.nan)
