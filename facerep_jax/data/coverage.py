"""What became of each link and each image of a large set: counts by reason, as JSON and as a picture."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facerep_jax import files

REPORT = "coverage"  # name of the files
LINK, SAMPLE, RECORDS = "link: ", "sample: ", "records"  # how keys of the counts begin
KEPT = "kept"
REASONS = 40  # that are told apart; others are counted together
BARS = 20  # of the picture
OTHER = "other reasons"


def shortened(reason: str) -> str:
    """A reason without what differs from image to image: long numbers, addresses, and what is behind 100 letters."""
    words = " ".join(reason.split())
    return re.sub(r"0x[0-9a-f]+|\d{4,}", "#", re.sub(r"https?://\S+", "URL", words))[:100]


def report(counts: Counter[str], folder: Path) -> tuple[str, ...]:
    """Writes coverage.json and coverage.png; returns what the user should hear.

    Args:
        counts: `link: ` and `sample: `, each followed by `kept` or a reason, and `records`.
    """
    links, samples = (_by_reason(counts, prefix) for prefix in (LINK, SAMPLE))
    told: dict[str, Any] = {
        "links": sum(links.values()),  # 0 if nobody knows
        "downloaded": links.get(KEPT, 0),
        "not_downloaded": _reasons(links),
        "images": sum(samples.values()),
        "kept": samples.get(KEPT, 0),
        "left_out": _reasons(samples),
        "records": counts[RECORDS],
    }
    files.write(folder / f"{REPORT}.json", json.dumps(told, indent=1))
    files.write(folder / f"{REPORT}.png", lambda path: _draw(links, samples, path))
    lines = []
    if told["links"]:
        lines.append(f"{_share(told['downloaded'], told['links'])} links gave an image{_why(links)}")
    lines.append(f"{_share(told['kept'], told['images'])} images are kept{_why(samples)}")
    return (*lines, f"all reasons are in {REPORT}.json and {REPORT}.png beside the records")


def _by_reason(counts: Counter[str], prefix: str) -> Counter[str]:
    """The counts of one kind, the rarest reasons together."""
    found = Counter({key.removeprefix(prefix): n for key, n in counts.items() if key.startswith(prefix) and n})
    common = Counter(dict(found.most_common(REASONS)))
    common[KEPT] = found[KEPT]
    if rest := found.total() - common.total():
        common[OTHER] += rest
    return Counter({reason: n for reason, n in common.items() if n})


def _reasons(counts: Mapping[str, int]) -> dict[str, int]:
    return {reason: n for reason, n in sorted(counts.items(), key=lambda item: -item[1]) if reason != KEPT}


def _share(part: int, whole: int) -> str:
    return f"{part} of {whole} ({part / max(whole, 1):.1%})"


def _why(counts: Mapping[str, int], most: int = 3) -> str:
    reasons = list(_reasons(counts).items())
    told = ", ".join(f"{n} {reason}" for reason, n in reasons[:most])
    return f"; the others: {told}{', ...' if len(reasons) > most else ''}" if told else ""


def _draw(links: Mapping[str, int], samples: Mapping[str, int], path: Path) -> None:
    """Bars by reason, those of links above those of images."""
    from matplotlib.figure import Figure  # half a second

    panels = [
        (title, kept, counts)
        for title, kept, counts in (("links", "gave an image", links), ("images", KEPT, samples))
        if counts
    ]
    bars = [[(kept, counts.get(KEPT, 0)), *_reasons(counts).items()][:BARS] for _, kept, counts in panels]
    heights = [len(rows) + 2 for rows in bars] or [2]
    figure = Figure(figsize=(9, 0.28 * sum(heights) + 0.3), layout="constrained")
    axes = figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, (title, _, counts), rows in zip(axes, panels, bars, strict=False):
        total = sum(counts.values())
        colours = ["tab:green", *["tab:red"] * (len(rows) - 1)]
        drawn = axis.barh([name for name, _ in rows], [100 * n / total for _, n in rows], color=colours)
        axis.bar_label(drawn, [f"{n:,} ({n / total:.1%})" for _, n in rows], padding=3)
        axis.invert_yaxis()
        axis.set_xlim(0, 125)
        axis.set_xlabel(f"% of {total:,} {title}")
    figure.savefig(path, format="png", dpi=100)
