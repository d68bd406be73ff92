r"""FRL's five tasks of faces (2103.16554) at fractions of the labels, for any number of encoders.

facerep evaluate --config configs/evaluate/suite_five_tasks.py:dataset=manifest/faces --workdir suites/five \
    --checkpoint runs/swav --checkpoint clip=ViT-B-16.pt

Arguments:
  dataset with identities, action units, valence, arousal, landmarks and vertices, and its data_dir;
  tasks: names of those whose labels the data set has, joined by +, such as landmarks+reconstruction_3d; without it all;
  fractions of the labels, joined by +; seeds: subsets of each;
  persons: fractions of the training persons that recognition learns from, with all of their images, joined by +;
    without it, those of `fractions` from 0.1 on, since persons are fewer than images;
  protocol of all tasks but recognition: ridge, which solves for a linear head in seconds, or linear_probe;
  tokens: same, for as many tokens of an image as that encoder has that has fewest; or N, for N on a side; without it
    each encoder sees images as large as those that it was trained on;
  variant, stem and size describe the encoder of `--checkpoint random`;
  small: settings of a linear probe for tiny encoders and two cores.

Recognition is there twice, each time on pairs of test images that are drawn: `recognition_learnt` by a linear probe, an
embedding that is learnt from training persons; `recognition` by pooled features as they are, which learns nothing.

Source: the tasks of FRL, which gave out neither heads, protocols nor splits; label fractions are 1, 10 and 100 %.
Changed: heads are linear, selected on validation examples.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick, quoted
from facerep_jax.suite import suite_of

FOLDER = "configs/evaluate"
FEWEST_PERSONS = 0.1  # of the training split, that recognition learns from

EXAMPLES = (
    "protocol=linear_probe,small",
    "fractions=0.1",
    "persons=0.02+0.1+1.0",
    "tasks=landmarks+reconstruction_3d",
    "variant=Nano/8,stem=384,size=48",
)


def get_config(arg: str | None = None) -> ConfigDict:
    """The suite; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        dataset="manifest/faces",
        data_dir="data",
        tasks="",
        fractions="0.01+0.1+1.0",
        seeds=5,
        persons="",
        protocol="ridge",
        tokens="",
        variant="B/16",
        stem=0,
        size=224,
        small=False,
    )
    fractions = numbers(args.fractions)
    persons = numbers(args.persons) or tuple(each for each in fractions if each >= FEWEST_PERSONS) or fractions
    faces, small = f"dataset={quoted(args.dataset)}", ",small" if args.small else ""
    learnt = f"{faces},protocol={args.protocol}{small}"
    pick("protocol", args.protocol, dict(ridge=True, linear_probe=True))
    return suite_of(
        dict(
            action_units=dict(config=f"{FOLDER}/action_units.py:{learnt}", fractions=fractions),
            emotion=dict(config=f"{FOLDER}/emotion.py:{learnt}", fractions=fractions),
            landmarks=dict(config=f"{FOLDER}/landmarks.py:{learnt}", fractions=fractions),
            recognition=dict(config=f"{FOLDER}/recognition.py:{faces},pairs=drawn", fractions=(1.0,), learns=False),
            recognition_learnt=dict(
                config=f"{FOLDER}/recognition_learnt.py:{faces},pairs=drawn,protocol=linear_probe{small}",
                fractions=persons,
            ),
            reconstruction_3d=dict(config=f"{FOLDER}/reconstruction_3d.py:{learnt}", fractions=fractions),
        ),
        tasks=args.tasks,
        seeds=args.seeds,
        data_dir=args.data_dir,
        tokens=args.tokens,
        untrained=(f"variant={args.variant}", f"stem={args.stem}", f"size={args.size}"),
    )


def numbers(text: str) -> tuple[float, ...]:
    """The numbers that + joins."""
    return tuple(float(number) for number in text.split("+") if number)
