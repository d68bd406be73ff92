"""List the data sets that can be prepared: tasks, sizes, terms, where to get them, and the command.

    facerep datasets
    facerep datasets lapa wflw

The first prints a table of all, the second all that is known of some: their files, and what may be done with them.
--markdown prints the sections of docs/data.md.
"""

from absl import flags

from facerep_jax.data import datasets
from facerep_jax.data.benchmark import Benchmark


def define_flags(flag_values: flags.FlagValues, argv: list[str]) -> None:
    """Defines this command's flags."""
    flags.DEFINE_bool("markdown", False, "print sections of docs/data.md", flag_values=flag_values)


def run(flag_values: flags.FlagValues, words: list[str]) -> None:
    """Prints the table, or the sections of the sets that the words name."""
    modules = {name: datasets.load(name) for name in words or datasets.names()}
    if not words and not flag_values.markdown:
        rows = [("data set", "tasks", "images", "terms", "title"), *map(_row, modules, modules.values())]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        print("\nfacerep datasets NAME tells where to get a set, what its folder holds and what it may be used for.")
        return
    known = {name: benchmark_of(module) for name, module in modules.items()}
    if plain := [name for name in words if not known[name]]:
        raise ValueError(f"{plain[0]!r} is no published set; {(modules[plain[0]].__doc__ or '').splitlines()[0]}")
    texts = {name: module.__doc__ or "" for name, module in modules.items()}
    print("\n\n".join(section(benchmark, texts[name]) for name, benchmark in known.items() if benchmark))


def benchmark_of(module: datasets.DataSet) -> Benchmark | None:
    """What the module of a data set says of it, if it is of a published one."""
    return getattr(module, "BENCHMARK", None)


def _row(name: str, module: datasets.DataSet) -> tuple[str, ...]:
    benchmark = benchmark_of(module)
    if benchmark is None:
        return name, "", "", "", (module.__doc__ or "").splitlines()[0].rstrip(".")
    images = f"{sum(benchmark.counts.values()):,}" if benchmark.counts else "any"
    terms = "research only" if benchmark.research_only else "see licence"
    return name, ", ".join(benchmark.tasks), images, terms, benchmark.title


def section(benchmark: Benchmark, text: str) -> str:
    """The section of docs/data.md about a published set, in Markdown, whose layout is the text of its module."""
    title, _, layout = text.strip().partition("\n\n")
    splits = ", ".join(f"{split} {count:,}" for split, count in benchmark.counts.items())
    command = f"facerep prepare {benchmark.name} --manual_dir RAW --data_dir data"
    lines = [
        f"### {title.rstrip('.')}",
        "",
        f"    {command}",
        "",
        f"- Get it: {benchmark.source}",
        f"- RAW: {benchmark.raw}",
        *([f"- Arguments of `{benchmark.name}:`: {benchmark.arguments}"] if benchmark.arguments else []),
        *([f"- Images: {splits}"] if splits else []),
        f"- Licence: {benchmark.licence}",
        *([f"- Agreement: {benchmark.agreement}"] if benchmark.agreement else []),
        f"- Use: {_use(benchmark)}",
        f"- Cite: {benchmark.citation}",
        "",
        layout.strip(),
    ]
    return "\n".join(lines)


def _use(benchmark: Benchmark) -> str:
    use = "research only" if benchmark.research_only else "as the licence says, not for research alone"
    shown = "may be shown" if benchmark.may_show_images else "are not shown in reports, pages and notebooks"
    return f"{use}; its images {shown}"
