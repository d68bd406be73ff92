"""Metrics of embeddings of persons: verification on pairs, and retrieval among images; on the host in float64.

Two images are as similar as the cosine of their embeddings. A value that is not defined is NaN.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Array, Bool, Float, Int

from facerep_jax.evaluation.label_metrics import listed, steps
from facerep_jax.evaluation.metrics import Deferred, ratio, units_of
from facerep_jax.evaluation.problem import PERSON
from facerep_jax.typing import Rows

FARS = tuple(range(1, 7))  # a false accept rate is 10 to the minus one of these
FOLDS = 10  # at most, of pairs that are drawn
IMAGES = 1000  # of a fold that pairs are drawn from, at most
PART = 1024  # queries at a time


class Verification:
    """One person or two: ten-fold accuracy, equal error rate, and TAR at FAR, of pairs of images.

    A pair is accepted if it is at least as similar as a threshold. `accuracy_ten_fold` is the share of right answers in
    a fold, by the threshold that is best on all other folds, mean over the folds, of which there are ten as a rule.
    `tar_at_far_1e-k` is the largest share of the pairs of one person that are accepted by a threshold which at most
    10^-k of the pairs of two persons pass; NaN where there are fewer than 10^k of those. `eer` is where the rate of
    false accepts and that of false rejects are equal, on straight lines between thresholds.

    Pairs come from a table of the data set, with columns `first`, `second` (ids), `same` and, if it has folds, `fold`:
    if not, pair i is of fold i mod 10. Without a table they are drawn, see `drawn_pairs`.

    Source: LFW's view 2 (Huang et al. 2007), for folds and accuracy.
    Changed: TAR at FAR is read at the point of the curve that keeps the rate, where insightface reads the nearest.

    Args:
        table: name of the data set's table; empty for pairs that are drawn.
    """

    headline, lower_is_better = "accuracy_ten_fold", False
    columns = ("accuracy_ten_fold", "eer", "tar_at_far_1e-2", "tar_at_far_1e-3", "tar_at_far_1e-4")
    optional = (PERSON, "session")
    unit, belongs_to, per_row, error_limit = "pair", "fold", False, None
    names: Mapping[str, str] = {
        "accuracy_ten_fold": "Ten-fold accuracy",
        "eer": "EER",
        **{f"tar_at_far_1e-{k}": f"TAR at FAR 1e-{k}" for k in FARS},
        "pairs_same": "Pairs of one person",
        "pairs_different": "Pairs of two persons",
    }
    counts = ("pairs_same", "pairs_different")
    explains = (
        "Ten-fold accuracy: the share of right answers in a fold, by the threshold that is best on the other folds; "
        "mean over folds. 50% by chance where there are as many pairs of one person as of two.",
        "EER, equal error rate: the share of wrong answers at the threshold where as large a share of the pairs of two "
        "persons is accepted as of the pairs of one person is rejected.",
        "TAR at FAR 1e-3: the share of the pairs of one person that are accepted by a threshold which at most 0.1% of "
        "the pairs of two persons pass.",
    )

    def __init__(self, table: str = ""):
        self.table = table

    def rows(self, prediction: Float[np.ndarray | Array, "n d"], split: Mapping[str, Any]) -> Rows:
        """Per pair of which both images are there: similarity, whether it is of one person, fold."""
        place = {name: row for row, name in enumerate(split["id"])}
        if self.table:
            first, second, same, fold = pairs_in(split["tables"][self.table], place, self.table)
        else:
            first, second, same, fold = drawn_pairs(split)
        x = normalised(prediction)
        alike = np.einsum("nd,nd->n", x[first], x[second])
        ids = [f"{split['id'][a]} {split['id'][b]}" for a, b in zip(first.tolist(), second.tolist(), strict=True)]
        statistics = np.column_stack([alike, same, fold]).astype(np.float64)
        return Rows(ids, [f"fold {each}" for each in fold.tolist()], statistics)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> Mapping[str, Float[np.ndarray, "r"]]:
        alike, same, fold = statistics[:, 0], statistics[:, 1] > 0, statistics[:, 2]
        values: dict[str, Callable[[], Any]] = {
            "accuracy_ten_fold": partial(accuracy_by_fold, alike, same, fold, weights),
            "eer": partial(equal_error_rate, alike, same, weights),
            **{f"tar_at_far_1e-{k}": partial(accept_rate, alike, same, weights, k) for k in FARS},
            "pairs_same": lambda: weights @ same.astype(np.float64),
            "pairs_different": lambda: weights @ (~same).astype(np.float64),
        }
        return Deferred(values)

    def similarities(
        self, statistics: Float[np.ndarray, "n s"]
    ) -> tuple[Float[np.ndarray, "n"], Bool[np.ndarray, "n"]]:
        return statistics[:, 0], statistics[:, 1] > 0

    def notes(self, rows: Rows) -> tuple[str, ...]:
        """Which folds lack pairs of one person or of two, whose accuracy says less than that of the others."""
        _, same, fold = rows.statistics.T
        found = [
            f"fold {each:g} has no pair of {what}"
            for each in np.unique(fold)
            for kind, what in ((1, "one person"), (0, "two persons"))
            if not (same[fold == each] == kind).any()
        ]
        return (f"{listed(found)}: ten-fold accuracy counts such a fold as any other",) if found else ()


Pairs = tuple[Int[np.ndarray, "p"], Int[np.ndarray, "p"], np.ndarray, Int[np.ndarray, "p"]]  # first, second, same, fold


def pairs_in(table: Mapping[str, Any], place: Mapping[str, int], name: str) -> Pairs:
    """The pairs of a table whose images are there, by their rows; of a pair that is there again, the first.

    Raises:
        ValueError: the table has not the columns of pairs, or none of its pairs is there.
    """
    if missing := [column for column in ("first", "second", "same") if column not in table]:
        raise ValueError(f"table {name!r} of pairs has no column {missing[0]!r}; it has: {', '.join(table)}")
    both = zip(map(str, table["first"]), map(str, table["second"]), strict=True)
    once = {two: i for i, two in reversed([*enumerate(both)])}
    there = sorted((i, place[a], place[b]) for (a, b), i in once.items() if a in place and b in place)
    if not there:
        raise ValueError(f"of none of the {len(table['first'])} pairs of table {name!r} both images are test examples")
    index, first, second = np.array(there, int).T
    folds = np.asarray(table["fold"]) if "fold" in table else np.arange(len(table["first"])) % FOLDS
    return first, second, np.asarray(table["same"], bool)[index], folds[index].astype(int)


def drawn_pairs(split: Mapping[str, Any]) -> Pairs:
    """Pairs of a split whose persons are known: all of one person, and as many of two of the same fold.

    Persons are put into folds, at most ten of at least two persons each, so that no person is in two folds, as in LFW.
    Pairs of one person are of different sessions where sessions are known. The draw depends on the ids alone.

    Raises:
        ValueError: no person has two images to compare, or there are fewer than four persons.
    """
    person, session = persons_of(split)
    of: dict[int, list[int]] = {}
    for row in sorted(range(len(person)), key=split["id"].__getitem__):
        of.setdefault(int(person[row]), []).append(row)
    of.pop(-1, None)
    rng = np.random.default_rng(0)
    people = rng.permutation(list(of)).tolist()
    count = min(FOLDS, len(people) // 2)
    found: list[tuple[int, int, bool, int]] = []
    for fold in range(count):
        rows = np.array([row for each in people[fold::count] for row in of[each]][:IMAGES])
        a, b = (rows[side] for side in np.triu_indices(len(rows), 1))
        same = person[a] == person[b]
        apart = (session[a] != session[b]) | (session[a] < 0)
        (one,), (two,) = np.nonzero(same & apart), np.nonzero(~same)
        two = rng.permutation(two)[: len(one)]
        found += [(a[i], b[i], bool(same[i]), fold) for i in np.concatenate([one[: len(two)], two]).tolist()]
    if count < 2 or not found:
        raise ValueError(
            f"no pairs can be drawn from {len(person)} images of {len(of)} known persons: at least four persons, "
            "and two images of one person, of different sessions where these are known, are needed"
        )
    first, second, alike, folds = zip(*found, strict=True)
    return np.array(first), np.array(second), np.array(alike), np.array(folds)


def persons_of(split: Mapping[str, Any]) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """The person and the session of each image, -1 where it is not known. Raises ValueError if no person is known."""
    if PERSON not in split:
        raise ValueError(f"who is who has to be known: the test examples have no {PERSON!r}")
    person = np.asarray(split[PERSON], int)
    return person, np.asarray(split.get("session", np.full(len(person), -1)), int)


def normalised(x: Float[np.ndarray | Array, "n d"]) -> Float[np.ndarray, "n d"]:
    """Rows of length one; rows of 0 stay so."""
    x = np.asarray(x, np.float64)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)


def rates(
    alike: Float[np.ndarray, "n"], same: np.ndarray, weights: Float[np.ndarray, "r n"]
) -> tuple[Float[np.ndarray, "r m"], Float[np.ndarray, "r m"], Float[np.ndarray, "r"]]:
    """Rates of false and of true accepts as the threshold falls, from none to all; and the number of false pairs."""
    false, true = steps(alike, (~same, same), weights)
    return ratio(false, false[:, -1:]), ratio(true, true[:, -1:]), false[:, -1]


def accept_rate(
    alike: Float[np.ndarray, "n"], same: np.ndarray, weights: Float[np.ndarray, "r n"], k: int
) -> Float[np.ndarray, "r"]:
    """The largest rate of true accepts where that of false ones is at most 10^-k; NaN without 10^k false pairs."""
    far, tar, count = rates(alike, same, weights)
    with np.errstate(invalid="ignore"):
        allowed = np.where(far <= 10.0**-k, tar, 0).max(1)
    return np.where((count >= 10**k) & np.isfinite(tar[:, -1]), allowed, np.nan)


def equal_error_rate(
    alike: Float[np.ndarray, "n"], same: np.ndarray, weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r"]:
    """The rate of false accepts where it equals that of false rejects; NaN without pairs of both kinds."""
    far, tar, _ = rates(alike, same, weights)
    above = far + tar - 1  # rises from -1 to 1
    with np.errstate(invalid="ignore"):
        end = np.maximum((above >= 0).argmax(1), 1)[:, None]
    (f0, f1), (a0, a1) = ([np.take_along_axis(x, end + d, 1)[:, 0] for d in (-1, 0)] for x in (far, above))
    return f0 + (f1 - f0) * ratio(-a0, a1 - a0)


def accuracy_by_fold(
    alike: Float[np.ndarray, "n"], same: np.ndarray, fold: Float[np.ndarray, "n"], weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r"]:
    """The mean over folds of the accuracy in a fold, by the threshold that is best on the others.

    Of several best thresholds the strictest counts, as in insightface's evaluation. A fold that is drawn twice counts
    twice: its share of the mean is the mean weight of its pairs. NaN with less than two folds.
    """
    different = np.unique(fold)
    hits = np.stack([right(alike, same, weights * (fold == each)[None]) for each in different])  # fold, r, threshold
    total = np.stack([(weights * (fold == each)[None]).sum(1) for each in different])
    best = (hits.sum(0)[None] - hits).argmax(2)
    shares = ratio(np.take_along_axis(hits, best[..., None], 2)[..., 0], total)
    there = total > 0
    times = total / np.array([(fold == each).sum() for each in different])[:, None]
    accuracy = ratio((np.where(there, shares, 0) * times).sum(0), times.sum(0))
    return np.where(there.sum(0) > 1, accuracy, np.nan)


def right(
    alike: Float[np.ndarray, "n"], same: np.ndarray, weights: Float[np.ndarray, "r n"]
) -> Float[np.ndarray, "r m"]:
    """The weight of the pairs that are answered right by each threshold, from one that accepts none to the lowest."""
    false, true = steps(alike, (~same, same), weights)
    return true + false[:, -1:] - false


class Retrieval:
    """Who is it? Each image is a query among all others, which are ranked by similarity: rank-k, and mAP.

    `rank_k` is the share of queries with an image of the same person among the k most similar, `map` the mean of their
    average precision. Images of the query's person of the same session are not searched where sessions are known:
    pictures of one occasion are alike. A query without another image of its person does not count, but is found by
    others; `queries` is the number of those that do. What is searched stays the same when queries are drawn again.

    Source: leave-one-out retrieval, as Re-ID benchmarks have it (Market-1501), where sessions are cameras.
    """

    headline, lower_is_better = "rank_1", False
    columns = ("rank_1", "rank_5", "rank_10", "map")
    optional = (PERSON, "session")
    unit, belongs_to, per_row, error_limit = "image", "person", True, None
    names: Mapping[str, str] = {"map": "mAP", **{f"rank_{k}": f"Rank-{k}" for k in (1, 5, 10)}}
    counts = ("queries",)
    explains = (
        "Rank-k: the share of test images with another image of the same person among the k most similar ones.",
        "mAP: average precision of each test image's ranking of all others, mean.",
    )
    RANKS = (1, 5, 10)

    def rows(self, prediction: Float[np.ndarray | Array, "n d"], split: Mapping[str, Any]) -> Rows:
        """Per image: whether it counts as a query, whether its person is among the first k, its average precision.

        Raises:
            ValueError: no image has another one of its person.
        """
        x, (person, session) = normalised(prediction), persons_of(split)
        statistics = np.zeros((len(x), 2 + len(self.RANKS)))
        for start in range(0, len(x), PART):
            rows = np.arange(start, min(start + PART, len(x)))
            same = (person[rows, None] == person[None]) & (person[rows, None] >= 0)
            aside = (session[rows, None] == session[None]) & (session[rows, None] >= 0) & same
            aside |= rows[:, None] == np.arange(len(x))[None]
            order = np.argsort(np.where(aside, np.inf, -(x[rows] @ x.T)), axis=1, kind="stable")
            found = np.take_along_axis(same & ~aside, order, 1)
            counted = found.any(1)
            precision = np.cumsum(found, axis=1) / np.arange(1, len(x) + 1)[None]
            ap = ratio((precision * found).sum(1), found.sum(1))
            first = [found[:, :k].any(1) for k in self.RANKS]
            statistics[rows] = np.column_stack([counted, *first, np.where(counted, ap, 0)])
        if not statistics[:, 0].any():
            raise ValueError(
                f"none of {len(x)} test images has another one of the same person, of another session where sessions "
                "are known: there is nothing to find"
            )
        return Rows(list(split["id"]), units_of(split), statistics)

    def compute(
        self, statistics: Float[np.ndarray, "n s"], weights: Float[np.ndarray, "r n"]
    ) -> dict[str, Float[np.ndarray, "r"]]:
        queries, *sums = (weights @ statistics).T
        return dict(zip(self.columns, (ratio(x, queries) for x in sums), strict=True)) | {"queries": queries}
