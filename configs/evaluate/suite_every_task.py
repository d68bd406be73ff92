r"""All tasks that drawn faces have labels of, for any number of encoders: a first look at what an encoder knows.

facerep evaluate --config configs/evaluate/suite_every_task.py:dataset=generated_faces/demo --workdir suites/every \
    --checkpoint runs/swav --checkpoint clip=ViT-B-16.pt

Arguments:
  dataset with masks, landmarks, attributes, action units, valence, arousal, expressions, cameras, vertices and
    identities, and its data_dir;
  tasks: names of those whose labels the data set has, joined by +; without it all;
  fractions of the labels, joined by +; seeds: subsets of each;
  tokens: same, for as many tokens of an image as that encoder has that has fewest; or N, for N on a side; without it
    each encoder sees images as large as those that it was trained on;
  variant, stem and size describe the encoder of `--checkpoint random`;
  small: settings of parsing's linear probe for tiny encoders and two cores.

Tasks that learn do so by ridge regression on frozen features, parsing by a linear probe. Age is not among them, which
no drawn face has, nor are prompts, which need a text tower: configs/evaluate/age.py and zero_shot.py.
"""

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, quoted
from facerep_jax.suite import suite_of

FOLDER = "configs/evaluate"
LEARN = dict(
    landmarks="landmarks.py",
    attributes="attributes.py",
    action_units="action_units.py",
    action_units_detection="action_units.py:target=detection",
    emotion="emotion.py",
    expression="emotion.py:target=expression",
    head_pose="head_pose.py",
    reconstruction_3d="reconstruction_3d.py",
)
COMPARE = dict(
    recognition="recognition.py:pairs=drawn",
    templates="recognition.py:pairs=drawn_templates",
    search="recognition.py:pairs=drawn_search",
    knn="knn.py",
)

EXAMPLES = ("small", "fractions=0.1", "tasks=attributes+knn", "variant=Nano/8,stem=384,size=48")


def get_config(arg: str | None = None) -> ConfigDict:
    """The suite; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        dataset="generated_faces/demo",
        data_dir="data",
        tasks="",
        fractions="1.0",
        seeds=3,
        tokens="",
        variant="B/16",
        stem=0,
        size=224,
        small=False,
    )
    fractions = tuple(float(fraction) for fraction in args.fractions.split("+"))
    faces = f"dataset={quoted(args.dataset)}"

    def of(config: str, *words: str) -> str:
        name, _, given = config.partition(":")
        return f"{FOLDER}/{name}:{','.join(filter(None, (given, faces, *words)))}"

    probe = ("small",) if args.small else ()
    tasks = {name: dict(config=of(config, "protocol=ridge"), fractions=fractions) for name, config in LEARN.items()}
    tasks["parsing"] = dict(config=of("parsing.py", *probe), fractions=fractions)
    compared = {name: dict(config=of(config), fractions=(1.0,), learns=False) for name, config in COMPARE.items()}
    return suite_of(
        tasks | compared,
        tasks=args.tasks,
        seeds=args.seeds,
        data_dir=args.data_dir,
        tokens=args.tokens,
        untrained=(f"variant={args.variant}", f"stem={args.stem}", f"size={args.size}"),
    )
