"""Published results to hold ours against, each with its source and its conditions.

Values are in percent, as tables print them. None of them is comparable with a result on another data set, under another
protocol or with another way of choosing the step: `differences` puts that into words.

Source: FaRL (arXiv 2112.03109), its official repository github.com/FacePerceiver/FaRL: README and training logs; MCF
(2309.03575) and FMAE-IAT (2407.11243): abstracts; FRL (2103.16554) and PaCo-FR (2508.09691): second-hand. FRL's 3.42 on
AFLW2000-3D is not here, since its metric is not known.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from facerep_jax.evaluation.results import Results

VERIFIED = "verified: training log of the official repository"
SECOND_HAND = "recalled: quoted by a third party from Table 2 of the paper, which was not read"
ABSTRACT = "read: abstract of the paper"
MIRRORED = "second-hand: from a mirror of Papers with Code's leaderboard, the paper's table was not read"
AGGREGATED = "second-hand: from a site that collects results (wizwand), the paper was not read"


class Anchor(NamedTuple):
    """One published number."""

    task: str
    dataset: str
    metric: str  # its name in results.json
    value: float  # in percent
    encoder: str
    protocol: str  # in words
    selection: str  # `test_best`, `last`, or empty if it is not known
    epoch: int | None  # that was selected
    labels: str
    provenance: str


class _Setting(NamedTuple):
    """The conditions that the runs on one data set share."""

    task: str
    dataset: str
    metric: str
    labels: str


FINE_TUNED = "fine-tuned, UPerHead, 448 px"
FROZEN = "frozen backbone"
PAPER, AGAIN, LONGER = "FaRL B/16, 16 epochs (paper)", "FaRL B/16, 16 epochs (again)", "FaRL B/16, 64 epochs"

_SETTINGS = {
    "lapa": _Setting("parsing", "LaPa", "f1_mean_foreground", "18,176 (100%)"),
    "celebamask_hq": _Setting("parsing", "CelebAMask-HQ", "f1_mean_foreground", "24,183 (100%)"),
    "aflw19": _Setting("landmarks", "AFLW-19 full", "nme_diagonal", "20,000 (100%)"),
    "300w": _Setting("landmarks", "300W full", "nme_inter_ocular", "3,148 (100%)"),
    "wflw": _Setting("landmarks", "WFLW full", "nme_inter_ocular", "7,500 (100%)"),
}

# Encoder, then (value, epoch) of the epoch that was best on the test set, and of the last one that was logged.
_LOGS: dict[str, tuple[tuple[str, tuple[float, int], tuple[float, int]], ...]] = {
    "lapa": (
        (PAPER, (93.88, 150), (93.81, 300)),
        (AGAIN, (93.86, 125), (93.77, 300)),
        (LONGER, (94.04, 82), (93.90, 300)),
    ),
    "celebamask_hq": (
        (PAPER, (89.56, 25), (88.74, 300)),
        (AGAIN, (89.65, 25), (89.16, 92)),
        (LONGER, (89.57, 30), (88.58, 300)),
    ),
    "aflw19": (
        (PAPER, (0.943, 15), (1.000, 150)),
        (AGAIN, (0.943, 19), (0.986, 50)),
        (LONGER, (0.938, 16), (0.984, 50)),
    ),
    "300w": (
        (PAPER, (2.927, 183), (2.944, 250)),
        (AGAIN, (2.922, 194), (2.941, 250)),
        (LONGER, (2.884, 63), (2.927, 250)),
    ),
    "wflw": (
        (PAPER, (3.964, 30), (3.980, 150)),
        (AGAIN, (3.977, 22), (4.031, 224)),
        (LONGER, (3.882, 28), (4.048, 300)),
    ),
}

_CELEBA_FROZEN = (  # encoder, then at 1, 10 and 100% of the labels
    ("CLIP ViT-B/16", (89.09, 90.47, 90.86)),
    ("FaRL B/16, 16 epochs (paper)", (89.66, 90.99, 91.39)),
)
_LAPA_FROZEN = (("CLIP ViT-B/16", 92.21), ("FaRL B/16, 16 epochs (paper)", 92.32))

# MCF's evaluation and tables were never found: that it is FaRL's is inferred. Of the others, abstracts say no more.
_AS_FARL = "fine-tuned, probably as FaRL"
_PACO_FR = ("PaCo-FR", "fine-tuned", "", None)
_FRL = ("FRL, VGG-F", "protocol not read", "", None, "1,345 (100%)", MIRRORED)
_FMAE_IAT = ("FMAE-IAT", "fine-tuned", "", None, "number not stated", ABSTRACT)

ANCHORS: tuple[Anchor, ...] = (
    *(
        Anchor(*_SETTINGS[name][:3], value, encoder, FINE_TUNED, selection, epoch, _SETTINGS[name].labels, VERIFIED)
        for name, runs in _LOGS.items()
        for encoder, best, last in runs
        for selection, (value, epoch) in (("test_best", best), ("last", last))
    ),
    *(
        Anchor("parsing", "LaPa", "f1_mean_foreground", value, encoder, FROZEN, "", None, "18,176 (100%)", SECOND_HAND)
        for encoder, value in _LAPA_FROZEN
    ),
    *(
        Anchor("attributes", "CelebA", "accuracy_mean", value, encoder, FROZEN, "", None, labels, SECOND_HAND)
        for encoder, values in _CELEBA_FROZEN
        for value, labels in zip(values, ("1%", "10%", "100%"), strict=True)
    ),
    *(
        Anchor(*_SETTINGS[name][:3], value, "MCF B/16", _AS_FARL, "", None, _SETTINGS[name].labels, ABSTRACT)
        for name, value in (("lapa", 93.96), ("aflw19", 0.932))
    ),
    Anchor("landmarks", "WFLW full", "nme_inter_ocular", 3.99, *_PACO_FR, "7,500 (100%)", AGGREGATED),
    Anchor("landmarks", "AFLW-19 frontal", "nme_diagonal", 0.82, *_PACO_FR, "20,000 (100%)", AGGREGATED),
    Anchor("landmarks", "COFW", "nme_inter_ocular", 3.32, *_FRL),
    *(Anchor("action_units", name, "f1_mean", value, *_FMAE_IAT) for name, value in (("BP4D", 67.1), ("DISFA", 70.1))),
)


def of(task: str) -> tuple[Anchor, ...]:
    """The published results of a task, on any data set."""
    return tuple(anchor for anchor in ANCHORS if anchor.task == task)


def same_data(anchor: Anchor, dataset: str) -> bool:
    """Whether a data set is the anchor's, by its name: `lapa/default` and `manifest/lapa` are LaPa."""
    name = _plain(anchor.dataset.removesuffix(" full"))
    return name in {_plain(part) for part in re.split(r"[/:]", dataset)}


def differences(anchor: Anchor, results: Results) -> Sequence[str]:
    """How an anchor differs from one of our results, in words; the protocol is never quite the same."""
    found = []
    if not same_data(anchor, results.dataset):
        found.append(f"other data set ({anchor.dataset})")
    if anchor.metric != results.headline:
        found.append("other metric")
    found.append(f"other protocol ({anchor.protocol})")
    if anchor.selection != results.selection:
        found.append("other selection" if anchor.selection else "selection not known")
    return found


def _plain(name: str) -> str:
    """A name without case and signs, to be compared."""
    return re.sub(r"[^a-z0-9]", "", name.lower()).replace("ibug", "")
