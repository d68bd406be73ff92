"""How to read a section of a report, in sentences that depend on what is in it.

What explains a metric or a protocol comes with the results. Here stands what explains the page itself.
"""

from collections.abc import Sequence

from facerep_jax.reporting.lines import Line
from facerep_jax.reporting.wording import plural_noun

SELECTIONS = {
    "validation": "Where a protocol has a choice, as of steps and learning rates, that counts which was best on "
    "labelled validation examples; the test set chose nothing.",
    "last": "The last step counts; where there is another choice, as of learning rates, validation examples made it.",
    "test_best": "What is best on the test set itself was selected, so the numbers are optimistic.",
}
SPREAD = (
    "± is the standard deviation over label subsets: each subset draws other labelled examples and another start of "
    "the head. It says nothing about what another pre-training would give."
)
INTERVAL = (
    "Improvement: the difference of the first metric in points, above 0 if the first of the two is better. Its 95% "
    "interval is about other test examples and other label subsets (other test examples alone if there is one "
    "subset); it takes into account how few subsets there are. An interval that holds 0 decides nothing; a filled dot "
    "stands for one that does not."
)
UNITS = (
    "Test {rows} of one {unit} are not independent: the interval draws {units} again, with all of their {rows}, and "
    "not single {rows}."
)
TOKENS = (
    "Left, a test face; right, its patches, coloured by the first three principal components of the encoder's patch "
    "tokens over the faces shown (red, green, blue). Patches of one colour look alike to the encoder.",
    "Colours that follow the parts of each face speak of content; colours that stay in their place whatever the face "
    "speak of position; neither alone says how good an encoder is.",
    "Components are in the order of their variance, and each is turned so that it grows towards the middle, the top or "
    "the left, whichever it follows most. So sheets can be compared by their shapes, but a colour has no name.",
    "The encoder is shown as it was before any head learnt on it.",
)
PRETRAINING = (
    "Losses are in the unit of their objective, lower is better, and those of different ones cannot be compared.",
    "A dashed line beside a loss is chance: the loss of a guess that knows how often each answer occurs, but not the "
    "image. The distance below it is what was learnt from the image.",
    "Scores of the encoder while it is trained come from probes in closed form on a few labelled images. They show "
    "whether training helps, and when; encoders are compared by evaluations. A dashed line is the encoder before its "
    "first step.",
    "Input wait is the share of the time in which the device had to wait for data; near 0 is good. The first logged "
    "step holds the time of compilation.",
)
PUBLISHED = (
    "These are numbers of others. They are listed so that a reader knows what the field reports on these tasks.",
    "“Best epoch on the test set”: the published number was chosen by looking at the test set; “last epoch” was not. "
    "The gap between the two is the size of that advantage.",
)


def of_lines(lines: Sequence[Line], *, compared: bool) -> tuple[str, ...]:
    """Explanations for a section of results: metrics, notes, protocols, selection, and signs that occur in it.

    Args:
        lines: all lines of the section; explanations of the metrics are those that the first one brought.
        compared: whether lines are compared with each other.
    """
    first = lines[0].results
    learnt = [(line.results.words.protocols, line.scores.protocol) for line in lines]
    protocols = dict.fromkeys(sentences[name] for sentences, name in learnt if name in sentences)
    brought = [line.results.words.baselines.get(line.source) for line in lines]
    baselines = dict.fromkeys(sentence for sentence in brought if sentence)
    selections = [SELECTIONS[first.selection]] if first.selection in SELECTIONS else []
    several = any(len(line.results.seeds) > 1 for line in lines)
    words = first.words
    nouns = dict(unit=words.belongs_to, units=plural_noun(words.belongs_to), rows=plural_noun(words.unit))
    units = [UNITS.format(**nouns)] if first.in_units else []
    signs = [*([SPREAD] if several else []), *([INTERVAL, *units] if compared else [])]
    notes = dict.fromkeys(f"Note: {note}." for line in lines for note in line.results.notes)
    return (*first.words.metrics, *notes, *protocols, *baselines, *selections, *signs)
