r"""Parsing and landmarks as FaRL judges encoders (2112.03109), for any number of them.

facerep evaluate --config configs/evaluate/suite_farl.py:parsing=manifest/lapa,landmarks=manifest/300w \
    --workdir suites/farl --checkpoint runs/farl --checkpoint clip=ViT-B-16.pt

Arguments:
  parsing and landmarks, the data sets of these tasks, and their data_dir;
  tasks: parsing or landmarks, to leave the other one out;
  fractions of the labels, joined by +; seeds: subsets of each;
  protocol: finetune or frozen, with FaRL's head and settings; steps, where not FaRL's on LaPa and 300W;
  size of the images in pixels, the same for all; or tokens: N, for N of them on a side, as 28 for 448 pixels and
    patches of 16, so that patches of other sizes are as many; same, for as many as that encoder has that has fewest;
  variant and stem describe the encoder of `--checkpoint random`;
  small: heads and settings for tiny encoders and two cores.

Changed: step and subsets are selected on validation examples, where FaRL takes the best epoch on the test set.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, quoted
from facerep_jax.suite import suite_of

FOLDER = "configs/evaluate"

EXAMPLES = ("protocol=frozen", "fractions=0.1+1.0", "tasks=parsing", "variant=Nano/8,stem=384,size=48,small,steps=6")


def get_config(arg: str | None = None) -> ConfigDict:
    """The suite; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        parsing="manifest/faces",
        landmarks="manifest/faces",
        data_dir="data",
        tasks="",
        fractions="0.01+0.1+1.0",
        seeds=3,
        protocol="finetune",
        steps=0,
        size=448,
        tokens="",
        variant="B/16",
        stem=0,
        small=False,
    )
    fractions = tuple(float(fraction) for fraction in args.fractions.split("+"))
    pick("protocol", args.protocol, dict(finetune=True, frozen=True))
    learnt = f"head=farl,protocol={args.protocol},size={args.size}"
    learnt += f",steps={args.steps}" if args.steps else ""
    learnt += ",small" if args.small else ""
    return suite_of(
        dict(
            landmarks=dict(
                config=f"{FOLDER}/landmarks.py:dataset={quoted(args.landmarks)},margin=0.125,{learnt}",
                fractions=fractions,
            ),
            parsing=dict(config=f"{FOLDER}/parsing.py:dataset={quoted(args.parsing)},{learnt}", fractions=fractions),
        ),
        tasks=args.tasks,
        seeds=args.seeds,
        data_dir=args.data_dir,
        tokens=args.tokens,
        untrained=(f"variant={args.variant}", f"stem={args.stem}"),
    )
