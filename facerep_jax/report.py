"""Make one page of tables, curves and pictures from evaluations and pre-training runs.

    facerep report runs/farl evaluations --out report

Each DIR is a workdir of `facerep evaluate` (results.json) or `facerep pretrain` (metrics.jsonl), or a folder with such
workdirs anywhere below it. The page is written as report.html, which loads nothing from elsewhere, and as report.md.
"""

from collections.abc import Sequence

from absl import flags

from facerep_jax.files import local_path, write
from facerep_jax.reporting import layout, page, workdirs


def define_flags(flag_values: flags.FlagValues, argv: Sequence[str]) -> None:
    """Declare the flags of a report."""
    flags.DEFINE_string("out", None, "Folder for report.html and report.md.", flag_values=flag_values)
    flags.mark_flags_as_required(["out"], flag_values)


def run(flag_values: flags.FlagValues, words: Sequence[str]) -> int:
    """Read all workdirs, then write both files, so that bad input leaves nothing behind."""
    if not words:
        raise ValueError("which workdirs? facerep report DIR... --out DIR")
    made = layout.page(*workdirs.read([local_path("DIR", word) for word in words]))
    out = local_path("--out", flag_values.out)
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file; it must be a folder")
    texts = {"report.html": page.html(made), "report.md": page.markdown(made)}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write(out / name, text)
    print(f"{out / 'report.html'} and report.md: {made.summary}")
    return 0
