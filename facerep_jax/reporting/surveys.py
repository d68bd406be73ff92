"""The page of one data set: what stands out, some of its faces, and tables of all that was counted."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from facerep_jax.data.meta import licence_of, may_show_images
from facerep_jax.data.survey import Survey
from facerep_jax.reporting import attachments
from facerep_jax.reporting.annotated import Face
from facerep_jax.reporting.charts import Picture
from facerep_jax.reporting.page import Block, Card, Cards, Gallery, Listing, Page, Row, Section, Table
from facerep_jax.reporting.wording import NOTHING, number, plural

SIZES, WORDS, PEOPLE = 8, 30, 5  # most frequent sizes of images and words of captions, and people with most images
CONTEXT = 77  # tokens that CLIP and FaRL read of a caption
SHARES = (0.05, 0.5, 0.95)
LOOKED_FOR = (
    "A warning is a doubt, not a verdict: look at the faces that it names.",
    "Looked at in each face: a box that is x, y, width, height, coordinates from 0 to 1, points outside of the image,"
    " a box that does not fit the landmarks, eyes in another order than the corners of the mouth.",
    "Looked at in all faces: left and right exchanged, a flip that does not mirror the mean face, classes that never"
    " occur or do not lie where the landmarks are, labels and captions that never change, images that stand there twice"
    " byte for byte. Less than 20 faces say nothing of all of them.",
)
DRAWN = (
    "Blue must be on the left and orange on the right of each picture: left and right are the image's, not the"
    " person's own.",
    "A picture shows the whole image, or, of a small face, its surroundings. What lies outside of the image is grey."
    " Pixels without a class are striped.",
)

Key = Sequence[tuple[str, tuple[int, int, int]]]


def page(survey: Survey, warnings: Sequence[str], shown: Sequence[Face], doubted: Sequence[Face], key: Key) -> Page:
    """The page of a survey.

    Args:
        warnings: of the survey.
        shown: some of the faces; none if they must not be shown.
        doubted: those that warnings name.
        key: what the colours in pictures mean.
    """
    dataset = survey.dataset
    splits = ", ".join(f"{split} {count:,}" for split, count in dataset.splits.items())
    summary = f"{plural(sum(dataset.splits.values()), 'record')} ({splits}); {basis(survey)}"
    chapters = (
        ("What stands out", (_standing_out(survey, warnings),)),
        ("Faces", tuple(_faces(survey, shown, doubted, key))),
        ("Records", (_section("What there is", [_records(survey), _images(survey)]),)),
        ("Labels", tuple(_labels(survey))),
        ("Terms", (_terms(survey),)),
    )
    return Page(
        summary,
        tuple((name, sections) for name, sections in chapters if sections),
        title=dataset.name,
        made_by="facerep inspect",
        beside="The faces as one picture: sheet.png." if shown else "",
    )


def basis(survey: Survey) -> str:
    """How many records were read, in words."""
    total = sum(survey.dataset.splits[split] for split in survey.read)
    part = "" if len(survey.read) == len(survey.dataset.splits) else f" of {', '.join(survey.read)}"
    if survey.count == total:
        return f"all {total:,}{part} were read" if part or total > 1 else "it was read"
    return f"{survey.count:,} of {total:,}{part} were read, drawn at random; --all reads all"


def _section(title: str, blocks: Sequence[Block | None], facts: str = "", *explained: str) -> Section:
    return Section(title, facts, tuple(block for block in blocks if block is not None), explained)


def _standing_out(survey: Survey, warnings: Sequence[str]) -> Section:
    if not warnings:
        return _section("Nothing stands out", [], f"{basis(survey)}", *LOOKED_FOR)
    return _section(plural(len(warnings), "warning"), [Listing("Warnings", tuple(warnings))], "", *LOOKED_FOR)


def _faces(survey: Survey, shown: Sequence[Face], doubted: Sequence[Face], key: Key) -> Iterator[Section]:
    meta = survey.dataset.meta
    if not may_show_images(meta):
        agreed = f" Its agreement: {meta['agreement']}." if "agreement" in meta else ""
        yield _section("No picture", [], f"The terms of this set forbid to show its images, so none is drawn.{agreed}")
        return
    colours = tuple((f"rgb{colour}", word) for word, colour in key)
    allowed = attachments.bytes_each(len(shown) + len(doubted))
    named = "Faces that warnings name"
    blocks = [
        Gallery(title, caption, tuple(_shown(face, allowed) for face in some), small=True, key=colours)
        for title, caption, some in (
            (named, "The first that each warning names.", doubted),
            ("Some faces", "Drawn at random from those that were read.", shown),
        )
        if some
    ]
    yield _section("With all that is known of them", blocks, "", *DRAWN)


def _shown(face: Face, allowed: int) -> Picture:
    alt = f"Face {face.lines[0]} with its annotations."
    wide = face.picture.width > face.picture.height
    return Picture("\n".join(face.lines), alt, uri=attachments.uri_of(face.picture, allowed), large=wide)


def _records(survey: Survey) -> Table:
    """How many records of each split have which feature."""
    splits, absent = [*survey.read], survey.dataset.meta.get("absent")
    counts = {split: survey.dataset.splits[split] for split in splits}
    rows = [Row(("records", *(f"{counts[split]:,}" for split in splits)))]
    for name, known in survey.known.items():
        cells = []
        for split in splits:
            read = survey.decoded[split] if name == "mask" else survey.read[split]
            if absent is not None:  # `prepare` has counted
                cells.append(f"{counts[split] - absent.get(split, {}).get(name, 0):,}")
            elif read == counts[split]:
                cells.append(f"{known[split]:,}")
            else:
                cells.append(f"{known[split] / max(read, 1):.1%}")
        rows.append(Row((name, *cells)))
    caption = "Records that have a feature, not its missing value"
    caption += ", as facerep prepare counted them." if absent is not None else "; shares are of those that were read."
    return Table("Splits and labels", caption, ("Feature", *splits), tuple(rows))


def _images(survey: Survey) -> Table | None:
    names = ("image width", "image height", "shorter side", "kB of the file", "face height")
    rows = [_spread_row(name, survey) for name in names if name in survey.spreads]
    if not rows:
        return None
    if (share := survey.spreads.get("face height, share of the image's")) is not None:
        cells = [f"{100 * value:.0f}%" for value in (share.least, *share.quantiles(*SHARES), share.greatest)]
        rows.append(Row(("face height, share of the image's", *cells)))
    common = ", ".join(f"{w} x {h} ({count:,})" for (w, h), count in survey.sizes.most_common(SIZES))
    more = f", and {len(survey.sizes) - SIZES:,} other sizes" if len(survey.sizes) > SIZES else ""
    formats = ", ".join(f"{name} {count:,}" for name, count in survey.formats.most_common())
    notes = (f"Sizes: {common}{more}.", f"Formats: {formats}.")
    return Table("Images and faces", "Pixels, but where another unit is given.", _quantile_header(), tuple(rows), notes)


def _quantile_header() -> tuple[str, ...]:
    return ("", "least", *(f"{100 * share:g}% are below" for share in SHARES), "greatest")


def _spread_row(name: str, survey: Survey) -> Row:
    spread = survey.spreads[name]
    return Row((name, *(number(value) for value in (spread.least, *spread.quantiles(*SHARES), spread.greatest))))


def _labels(survey: Survey) -> Iterator[Section]:
    for title, blocks in (
        ("Captions", [_caption_lengths(survey), _caption_words(survey)]),
        ("Classes of masks", [_classes(survey)]),
        ("Attributes", [_named(survey, "attributes", "Yes")]),
        ("Action units", [_named(survey, "action_units", "From 1 on")]),
        ("Expressions", [_expressions(survey)]),
        ("People", [_people(survey)]),
        ("Other numbers", [_numbers(survey)]),
    ):
        if any(blocks):
            yield _section(title, blocks)


def _caption_lengths(survey: Survey) -> Table | None:
    names = ("caption, letters", "caption, tokens of CLIP")
    if names[0] not in survey.spreads:
        return None
    rows = tuple(_spread_row(name, survey)._replace() for name in names)
    cut = survey.spreads[names[1]].share_above(CONTEXT)
    several = ", ".join(f"{count} in {n:,}" for count, n in sorted(survey.captions_of_record.items()))
    notes = (
        f"{cut:.1%} have more than {CONTEXT} tokens, start and end among them, and are cut by CLIP and FaRL.",
        f"Captions of a record: {several}.",
    )
    caption = f"Of {plural(survey.spreads[names[0]].count, 'caption')}."
    return Table("Lengths", caption, _quantile_header(), rows, notes)


def _caption_words(survey: Survey) -> Table | None:
    captions = survey.spreads["caption, letters"].count if "caption, letters" in survey.spreads else 0
    words = survey.words.most_common(WORDS)
    if not words:
        return None
    rows = tuple(Row((word, f"{count:,}", f"{count / captions:.1%}"), share=count / captions) for word, count in words)
    caption = "Captions that hold a word of three letters or more."
    return Table("Most frequent words", caption, ("Word", "Captions", "Share"), rows, folded=True)


def _classes(survey: Survey) -> Table | None:
    masks = survey.masks
    if not masks.count:
        return None
    names = {index: name for index, name in enumerate(masks.names)}
    names |= {int(index): "missing" if index == 255 else "no name" for index in np.flatnonzero(masks.images)} | names
    total = max(int(masks.pixels.sum()), 1)
    rows = tuple(
        Row(
            (f"{index} {name}", _percent(masks.pixels[index] / total), _percent(masks.images[index] / masks.count)),
            share=float(masks.pixels[index] / total),
        )
        for index, name in sorted(names.items())
    )
    header = ("Class", "Share of pixels", "Share of masks that have it")
    return Table("Balance", f"Of {plural(masks.count, 'mask')} whose pixels were counted.", header, rows)


def _percent(share: float) -> str:
    return f"{100 * share:.2f}%"


def _named(survey: Survey, feature: str, yes: str) -> Table | None:
    labels = survey.labels[feature]
    if not labels.known.any():
        return None
    rows = []
    for i, name in enumerate(labels.names):
        known = int(labels.known[i])
        share, cells = None, [NOTHING] * 4
        if known:
            share = float(labels.on[i] / known)
            cells = [f"{share:.1%}", *(number(x) for x in (labels.least[i], labels.sum[i] / known, labels.greatest[i]))]
        rows.append(Row((name, f"{known:,}", *cells), share=share))
    return Table("Balance", "", ("Name", "Known", yes, "least", "mean", "greatest"), tuple(rows))


def _expressions(survey: Survey) -> Table | None:
    if not (total := survey.expressions.total()):
        return None
    labels = {*range(len(survey.dataset.meta.get("expressions", ()))), *survey.expressions}
    rows = tuple(
        Row(
            (survey.name_of("expressions", label), f"{survey.expressions[label]:,}"),
            share=survey.expressions[label] / total,
        )
        for label in sorted(labels)
    )
    return Table("Balance", "", ("Expression", "Faces"), rows)


def _people(survey: Survey) -> Table | None:
    if not survey.people:
        return None
    images = np.array([*survey.people.values()])
    low, middle, high = np.quantile(images, SHARES).tolist()
    facts: Mapping[str, str] = {
        "People": f"{len(images):,}",
        "Images of a person: least": f"{images.min():,}",
        "5% have less than": number(low),
        "half have less than": number(middle),
        "95% have less than": number(high),
        "greatest": f"{images.max():,}",
        "People with one image": f"{int((images == 1).sum()):,}",
        "People in two splits": f"{survey.in_two_splits:,}",
    }
    most = ", ".join(
        f"{survey.name_of('identities', label)} ({count:,})" for label, count in survey.people.most_common(PEOPLE)
    )
    read = "" if survey.count == sum(survey.dataset.splits.values()) else " Of the records that were read alone."
    caption = f"People, and how many images there are of each.{read}"
    return Table("Images of each", caption, ("", ""), tuple(map(Row, facts.items())), (f"Most images: {most}.",))


def _numbers(survey: Survey) -> Table | None:
    known = {name for name in survey.spreads if name in survey.known}
    if not known:
        return None
    rows = tuple(_spread_row(name, survey) for name in survey.known if name in known)
    return Table("Numbers", "", _quantile_header(), rows)


def _terms(survey: Survey) -> Section:
    dataset = survey.dataset
    terms = licence_of(dataset.meta)
    facts = [(key.replace("_", " "), _word(value)) for key, value in terms.items()]
    facts += [("digest of the raw set", dataset.digest), ("features", ", ".join(dataset.features))]
    said = "" if terms else "The set says nothing of its licence."
    return _section("What may be done with it", [Cards("Terms", (Card(dataset.name, tuple(facts)),), False)], said)


def _word(value: object) -> str:
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)
