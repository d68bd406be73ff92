"""How to read a section of a report, in a few sentences that depend on what is in it."""

from collections.abc import Mapping
from typing import Any

METRICS = {
    "nme": "NME, normalised mean error: the mean distance between predicted and true landmarks of a face, as a share "
    "of a length of that face; mean over test faces.",
    "nme_inter_ocular": "Inter-ocular: that length is the distance between the outer corners of the eyes.",
    "nme_box": "Box: that length is √(width · height) of the face's box.",
    "nme_diagonal": "Diagonal: that length is the diagonal of the face's box.",
    "f1_mean_foreground": "F1 of a class: 2 · right pixels / (predicted + true pixels), over all test images together; "
    "the mean is over all classes but the background.",
    "miou": "mIoU: right pixels / pixels predicted or true, mean over all classes.",
    "accuracy": "Accuracy: the share of pixels with the right class, most of which are background and skin.",
}
PROTOCOLS = {
    "linear_probe": "Linear probe: the encoder stays as it is and sees each image once; only the head learns from the "
    "labels. Regression and PerToken are linear heads.",
    "frozen": "Frozen: the encoder stays as it is; the head learns from its features of augmented images.",
    "finetune": "Fine-tuning: encoder and head learn together from the labels; the random encoder is then one that "
    "was trained from scratch.",
}
SELECTIONS = {
    "validation": "Step and learning rate are those that were best on labelled validation faces; the test faces chose "
    "nothing.",
    "last": "The last step counts; where several learning rates were tried, validation faces chose among them.",
    "test_best": "The step that is best on the test faces themselves was selected, so that the numbers are optimistic.",
}
SPREAD = (
    "± is the standard deviation over label subsets: each subset draws other labelled faces and another start of the "
    "head. It says nothing about pre-training once more."
)
INTERVAL = (
    "Improvement: the difference of the first metric in points, above 0 where the first of the two is better. Its 95% "
    "interval is about other test images and other label subsets (other test images alone where there is one subset); "
    "it takes into account how few subsets there are. An interval that holds 0 decides nothing; a filled dot stands "
    "for one that does not."
)
TOKENS = (
    "Left, a test face; right, its patches, coloured by the first three principal components of the encoder's patch "
    "tokens over the faces shown (red, green, blue). Patches of one colour look alike to the encoder.",
    "Colours that follow the parts of each face speak of content; colours that stay in their place whatever the face "
    "speak of position; neither alone says how good an encoder is.",
    "Components are in the order of their variance, and each is turned so that it grows towards the middle, the top or "
    "the left, whichever it follows most. So sheets can be compared by their shapes, but a colour has no name.",
    "The encoder is as it was given, before any head learnt on it.",
)
PRETRAINING = (
    "Losses are in nats, lower is better, and those of different objectives cannot be compared.",
    "Where a dashed line stands beside a loss of masked tokens, it is the loss of a guess that knows only how often "
    "each code occurs: the distance below it is what was learnt from the image.",
    "Input wait is the share of the time in which the device had to wait for data; near 0 is good. The first logged "
    "step holds the time of compilation.",
)
PUBLISHED = (
    "These are numbers of others. They are listed so that a reader knows what the field reports on these tasks.",
    "“Best epoch on the test set”: the published number was chosen by looking at the test set; “last epoch” was not. "
    "The gap between the two is the size of that advantage.",
)


def of_evaluation(results: Mapping[str, Any], columns: list[str], *, several: bool, compared: bool) -> tuple[str, ...]:
    """For a section of results: what the metrics are, how it was learnt, what was selected, what the signs mean."""
    found = [METRICS["nme"]] if any(name.startswith("nme") for name in columns) else []
    found += [METRICS[name] for name in columns if name in METRICS]
    found += [table[key] for table, key in ((PROTOCOLS, results["protocol"]), (SELECTIONS, results["selection"]))
              if key in table]  # fmt: skip
    return (*found, *([SPREAD] if several else []), *([INTERVAL] if compared else []))
