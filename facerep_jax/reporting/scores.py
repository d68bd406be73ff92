"""Scores of encoders on evaluations, as studies and suites write them down and print them."""

import itertools
import math
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from facerep_jax.evaluation.ranks import agreement
from facerep_jax.evaluation.results import PERCENT, Scale
from facerep_jax.reporting import wording
from facerep_jax.reporting.comparison import full_comparison
from facerep_jax.reporting.lines import Line
from facerep_jax.reporting.page import Row, Table

RANKED = 5  # of fewer encoders no order has a p below 0.05


class Score(NamedTuple):
    """The scores of one kind of encoder on one evaluation at one label fraction."""

    evaluation: str
    fraction: float
    encoder: str
    labels: int
    metric: str
    values: tuple[float, ...]  # one per seed of the pre-training: the mean over label subsets
    std_subsets: float  # over label subsets, mean over seeds
    against: Mapping[str, tuple[float, ...]]  # other kind -> gain over it, difference, low, high
    scale: Scale = PERCENT  # how values are written
    lower_is_better: bool = True


class Agreement(NamedTuple):
    """How far two evaluations rank encoders alike."""

    evaluations: tuple[str, str]
    encoders: int
    tau: float  # Kendall's, of mean scores: 1 if alike, -1 if in reverse
    p: float  # that of ranks which have nothing to do with each other


def scored(evaluation: str, fraction: float, lines: Mapping[str, Line], rivals: Sequence[str]) -> list[Score]:
    """The score of each line, and how it compares with those of the rivals that are there.

    Raises:
        ValueError: two of them cannot be compared; the message says why.
    """
    found = []
    for kind, line in lines.items():
        against = {}
        for rival in (rival for rival in rivals if rival in lines and rival != kind):
            compared = full_comparison(line, lines[rival])
            against[rival] = (compared.gain, *compared.difference)
        r = line.results
        measured = (line.means, line.spread, against, line.scale, r.lower_is_better)
        found.append(Score(evaluation, fraction, kind, r.labels, r.headline, *measured))
    return found


def tables(scores: Sequence[Score]) -> list[Table]:
    """A table for each evaluation, with a line for each kind of encoder and label fraction."""
    found = []
    for name, group in itertools.groupby(scores, lambda score: score.evaluation):
        of_one = list(group)
        rivals = sorted({rival for score in of_one for rival in score.against})
        heads = [f"Gain over {rival} [95% interval of the difference]" for rival in rivals]
        header = ("Labels", "Encoder", "Mean", "Seeds", "± subsets", *heads)
        rows = tuple(Row(score_cells(row, rivals)) for row in of_one)
        found.append(Table(f"{name}: {of_one[0].metric}{of_one[0].scale.said}", "", header, rows))
    return found


def score_cells(score: Score, rivals: Sequence[str]) -> tuple[str, ...]:
    """One line of an evaluation's table."""
    mean, spread, *each = (
        wording.written(x, score.scale) for x in (float(np.mean(score.values)), score.std_subsets, *score.values)
    )
    against = []
    for rival in rivals:
        gain, _, low, high = score.against.get(rival, (0.0,) * 4)
        against.append(wording.advantage(gain, low, high, score.scale) if rival in score.against else "")
    labels = f"{score.labels} ({score.fraction:.0%})"
    return (labels, score.encoder, mean, ", ".join(each), spread, *against)


def agreements(scores: Sequence[Score], encoders: Collection[str]) -> list[Agreement]:
    """Of each two evaluations, at the least share of the labels of each, whether they rank the encoders alike.

    Baselines are not ranked, nor is an encoder that one of the two lacks, nor are fewer encoders than `RANKED`, nor
    such that are all equal to one of the two.
    """
    least: dict[str, dict[str, Score]] = {}
    for score in sorted(scores, key=lambda score: score.fraction, reverse=True):
        if score.encoder in encoders:
            least.setdefault(score.evaluation, {})[score.encoder] = score
    found = []
    for (one, of_one), (other, of_other) in itertools.combinations(sorted(least.items()), 2):
        shared = sorted(of_one.keys() & of_other.keys())
        if len(shared) < RANKED:
            continue
        tau, p = agreement(*([_goodness(of[name]) for name in shared] for of in (of_one, of_other)))
        if not math.isnan(tau):
            found.append(Agreement((one, other), len(shared), tau, p))
    return found


def _goodness(score: Score) -> float:
    """The mean over seeds, higher if better."""
    return float(np.mean(score.values)) * (-1 if score.lower_is_better else 1)


def agreement_table(found: Sequence[Agreement]) -> Table:
    """The table of these."""
    rows = tuple(
        Row((" and ".join(each.evaluations), str(each.encoders), f"{each.tau:+.2f}", f"{each.p:.3f}")) for each in found
    )
    caption = "Mean scores at the least share of the labels; tau is 1 if both rank the encoders alike, -1 in reverse."
    return Table(
        "Do evaluations rank encoders alike?", caption, ("Evaluations", "Encoders", "Kendall's tau", "p"), rows
    )
