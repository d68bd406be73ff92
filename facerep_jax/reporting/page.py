"""A report as plain data, and its two forms: HTML that loads nothing, and Markdown.

The data holds finished strings, so that both forms show the same numbers.
"""

import re
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import jinja2

from facerep_jax.reporting.charts import Picture, bar, whisker


class Row(NamedTuple):
    """The cells of one row of a table, the first its name."""

    cells: tuple[str, ...]
    conditions: str = ""  # what the numbers hold for, so that the row can be read alone
    best: bool = False
    interval: tuple[float, float, float] | None = None  # value, low, high: drawn at the end of the row
    share: float | None = None  # from 0 to 1: drawn there as a bar, in tables without intervals


class Table(NamedTuple):
    """A table with what is needed to understand it alone."""

    title: str
    caption: str
    header: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()
    folded: bool = False  # secondary: closed until asked for
    scale: tuple[str, str] = ("", "")  # what lies left and right of 0, if rows have intervals
    foreign: bool = False  # published by others: set apart
    kind: str = "table"


class Gallery(NamedTuple):
    """Charts side by side, or sheets of images below each other, or side by side if they are small."""

    title: str
    caption: str
    pictures: tuple[Picture, ...]
    folded: bool = False
    small: bool = False
    key: tuple[tuple[str, str], ...] = ()  # (colour as CSS has it, what has it)
    kind: str = "gallery"


class Listing(NamedTuple):
    """Sentences below each other."""

    title: str
    lines: tuple[str, ...]
    folded: bool = False
    kind: str = "listing"


class Card(NamedTuple):
    """All that a reader needs to repeat a run."""

    title: str
    facts: tuple[tuple[str, str], ...]  # (what, value)
    config: str = ""  # as JSON


class Cards(NamedTuple):
    """Cards of several runs, closed until asked for."""

    title: str
    cards: tuple[Card, ...]
    folded: bool = True
    kind: str = "cards"


Block = Table | Gallery | Listing | Cards


class Section(NamedTuple):
    """One task, data set, protocol and selection, or one pre-training run."""

    title: str
    facts: str
    blocks: tuple[Block, ...]
    explanations: tuple[str, ...] = ()  # how to read it


class Page(NamedTuple):
    """The whole report: chapters of sections."""

    summary: str
    chapters: tuple[tuple[str, tuple[Section, ...]], ...]
    title: str = "Face representations"
    made_by: str = "facerep report"
    beside: str = "The same words and tables, without charts and images: report.md."  # what lies beside the page
    refresh: float = 0.0  # seconds after which it is read again from where it came; 0 for never

    def sections(self, chapter: str) -> tuple[Section, ...]:
        """The sections of a chapter; none if there is no such chapter."""
        return dict(self.chapters).get(chapter, ())


def html(page: Page) -> str:
    """The page as one HTML file that loads nothing."""
    text = (resources.files(__package__) / "page.jinja").read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"aligned_cells": aligned_cells, "whiskers": whiskers}
    return environment.from_string(text).render(page=page)


class Cell(NamedTuple):
    """A cell, and how far from the right edge it must end for the decimal points of its column to be in line."""

    text: str
    pad: str  # in widths of a digit; empty for none


# Of signs, in digits; all digits are equally wide.
WIDTHS = {**dict.fromkeys(".,[] :", 0.5), **dict.fromkeys("%", 1.6), **dict.fromkeys("+\N{MINUS SIGN}±", 1.0)}


def aligned_cells(rows: Sequence[Row]) -> list[list[Cell]]:
    """The cells of each row but the first, padded so that the decimal points of a flush-right column are in line."""
    texts = [row.cells[1:] for row in rows]
    behind = [[_behind_the_point(cell) for cell in row] for row in texts]
    widest = [max(column) for column in zip(*behind, strict=True)]
    return [
        [
            Cell(text, f"{most - width:.2f}" if most > width else "")
            for text, width, most in zip(row, widths, widest, strict=True)
        ]
        for row, widths in zip(texts, behind, strict=True)
    ]


def _behind_the_point(cell: str) -> float:
    """The width of all that follows the digits before the decimal point; 0 if a cell is not a number."""
    found = re.match(r"[+\N{MINUS SIGN}]?[\d,]+(([.%e ].*)?)$", cell)
    return float(sum(WIDTHS.get(sign, 1.0) for sign in found[1])) if found else 0.0


def whiskers(rows: Sequence[Row]) -> list[str]:
    """The intervals or shares of a table's rows as drawings on one scale; nothing if there are none."""
    shares = [row.share for row in rows if row.share is not None]
    if shares:
        return [bar(row.share, max(shares)) if row.share is not None else "" for row in rows]
    known = [row.interval for row in rows if row.interval is not None]
    if not known:
        return []
    ends = min(0.0, *(low for _, low, _ in known)), max(0.0, *(high for _, _, high in known))
    return [whisker(row.interval, ends) if row.interval is not None else "" for row in rows]


def markdown(page: Page) -> str:
    """The page's words and tables as Markdown; charts and images are in the HTML alone."""
    parts = [f"# {page.title}: report", f"{page.summary}. Charts and images: report.html."]
    for heading, sections in page.chapters:
        parts.append(f"## {heading}")
        for section in sections:
            parts += [f"### {markdown_text(section.title)}", markdown_text(section.facts)]
            parts += ["\n".join(f"- {markdown_text(line)}" for line in section.explanations)]
            parts += [markdown_block(block) for block in section.blocks]
    return "\n\n".join(filter(None, parts)) + "\n"


def markdown_block(block: Block) -> str:
    """A table, sentences or cards as Markdown; empty for a gallery."""
    parts = [f"#### {markdown_text(block.title)}"]
    if isinstance(block, Table):
        parts += [markdown_text(block.caption), _markdown_rows(block)]
        parts += ["\n".join(f"- {markdown_text(note)}" for note in block.notes)]
    elif isinstance(block, Cards):
        for card in block.cards:
            parts += [f"**{markdown_text(card.title)}**"]
            parts += ["\n".join(f"- {markdown_text(what)}: {markdown_text(value)}" for what, value in card.facts)]
    elif isinstance(block, Listing):
        parts += ["\n".join(f"- {markdown_text(line)}" for line in block.lines)]
    else:
        return ""
    return "\n\n".join(filter(None, parts))


def _markdown_rows(table: Table) -> str:
    conditions = any(row.conditions for row in table.rows)
    header = [*map(markdown_text, table.header), *(["Conditions"] if conditions else [])]
    lines = [header, ["---", *["---:"] * (len(table.header) - 1), *(["---"] if conditions else [])]]
    for row in table.rows:
        cells = [f"**{cell}**" if row.best and cell else cell for cell in map(markdown_text, row.cells)]
        lines.append([*cells, *([markdown_text(row.conditions)] if conditions else [])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


ENTITIES = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\n"): " "}
# Signs that Markdown takes for markup. An underscore within a word is none, nor is a bracket that no target follows.
MARKUP = re.compile(r"[\\|*`]|(?<![^\W_])_|_(?![^\W_])|\](?=[(\[:])")


def markdown_text(text: str) -> str:
    """Text that Markdown prints as it is."""
    return MARKUP.sub(r"\\\g<0>", text).translate(ENTITIES)
