r"""Parsing: a class for each pixel of a face, at a fraction of the labels.

facerep evaluate --config configs/evaluate/parsing.py:dataset=manifest/faces,fraction=0.1 \
    --checkpoint runs/farl --workdir results/parsing

Arguments: see configs/evaluate/landmarks.py; the data set has masks. One more argument, `cells`: a linear head
gives each patch cells x cells logits; 4 unless given, 8 with `small`. By protocol=ridge a linear head hardly ever
predicts classes of few pixels, such as lips: it is of use for quick looks alone. With `small` a linear probe has one
learning rate and 500 steps, of which an untrained encoder would often take more.

`crop=farl` is FaRL's protocol for LaPa: faces are aligned by five of their landmarks, in training and test alike, and
warped, `warp=0.8` unless given, so that all around them is in sight; predictions are warped back and scored on the
original images, against masks as they are stored. Margins do not apply. A data set whose meta has `crop: whole`, such
as CelebAMask-HQ, is shown whole and without a warp, as FaRL does. For FaRL's numbers add `head=farl,protocol=finetune`.

FaRL's head comes with FaRL's augmentations for parsing (2112.03109), which protocols that see images use; frozen and
finetune have FaRL's settings then and its number of steps on LaPa. Without an accelerator take fewer than its 768
channels, --config.task.head.channels=64, and of its steps, --config.protocol.steps=1000 --config.protocol.ema=0.99.
"""

from functools import partial
from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import OPEN, pick, spec
from facerep_jax.data import augmentations, tanh_warp
from facerep_jax.evaluation import protocols
from facerep_jax.evaluation.tasks import parsing
from facerep_jax.evaluation.trial import learnt, learnt_args
from facerep_jax.models import heads, taps, uper

EXAMPLES = (
    "head=farl",
    "head=farl,small",
    "protocol=finetune,layer_decay=0.75",
    "protocol=ridge",
    "selection=last",
    "crop=whole",
    "crop=farl",
    "crop=farl,head=farl,protocol=finetune,small",
    "crop=farl,warp=0.5",
    "variant=S/16",
    "variant=Nano/8,stem=384",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The evaluation; `arg` is what follows the colon."""
    args = learnt_args(arg, cells=0, warp=0.8)
    cells = args.cells or (8 if args.small else 4)
    choices = dict(
        linear=dict(taps=taps.QUARTERS, head=spec(heads.PerToken, cells=cells)),
        farl=dict(taps=taps.FARL, head=spec(uper.UPerHead, channels=64 if args.small else 768)),
    )
    turned = dict(shift=0.01, angle_rad=0.314, zoom=0.1, normal=True)
    colours = (spec(augmentations.Grey), spec(augmentations.Gamma), spec(augmentations.BoxBlur))
    moved = spec(augmentations.RandomAffine, margin=args.margin, whole=OPEN, **turned)
    task, shown = parsing.Parsing, None
    if args.crop == "farl":
        task, args.crop = parsing.OriginalParsing, ""
        warped = partial(spec, tanh_warp.AlignAndWarp, warp=args.warp)
        shown, moved = (warped(keep_mask=True), warped(shift=0.05, zoom=0.1)), warped(**turned)
    settings: dict[str, Any] = {}
    if args.head == "farl" and not args.small:
        settings = protocols.as_farl(args.protocol, steps=136_500, learning_rate=1e-3, milestones=(2 / 3,))
    if (args.protocol, args.head) == ("linear_probe", "linear"):  # a linear head alone bears such rates
        settings["learning_rates"] = (0.2,) if args.small else (0.05, 0.2)
    return learnt(
        args,
        task=spec(task, **pick("head", args.head, choices)),
        baselines=("most_frequent_class",),
        shown=shown,
        augmentations=(moved, *colours) if args.head == "farl" else None,
        settings=settings,
        steps=500,
    )
