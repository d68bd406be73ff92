r"""How much do encoders gain from more images, without labels and with them?

facerep study data_size --config configs/study/data_size.py

Encoders of one size see equally many images in equally many steps, from three seeds each, of nested sets of `sizes`
images: the smaller ones are the beginning of the larger ones, so that an image of a small set is seen more often. Each
set teaches without labels (swav) and with them (attributes, which all of its images tell). Scores against images get a
power law with its interval (`curves`, see `facerep study`).
They are judged on landmarks and attributes of another generator's faces by ridge regression at 10 % of the labels,
three subsets each, beside encoders that were never trained (random).
Controls. Negative: `permuted`, landmarks whose training labels are those of other faces, where nobody can win; and
labels_at_random, pre-trained on identities that are drawn at random. Positive: `full`, attributes with all labels,
where the encoders that learnt attributes must win.
Each kind has its learning rate chosen among `study.RATES` at each size, from one seed, by validation faces.

Arguments: sizes of the sets, joined by +; steps of each pre-training; seeds of each encoder and of random; one_rate for
that of the recipe alone; smoke: two sets of few images, two steps, one seed, to try the way out.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg
from facerep_jax.study import kind_of

NANO = "configs/pretrain/frl_nano.py"
PROBE = "variant=Nano/8,stem=384,size=48"  # of random encoders too
PERSON = 8  # images of each
KINDS = ("swav", "attributes")

EXAMPLES = ("sizes=500+2000", "one_rate", "smoke")


def get_config(arg: str | None = None) -> ConfigDict:
    """The study; `arg` is what follows the colon."""
    args = parse_arg(arg, sizes="1000+4000+16000", steps=500, seeds=3, one_rate=False, smoke=False)
    world = "generated_faces:world=evaluate,size=80,train=2000,validation=500,test=1000,seed=1"
    kinds: tuple[str, ...] = KINDS
    more: tuple[str, ...] = ()
    if args.smoke:
        args.sizes, args.steps, args.seeds, args.one_rate = "64+128", 2, 1, True
        world = "generated_faces:world=evaluate,size=48,train=100,validation=16,test=16,seed=1"
        kinds, more = ("attributes",), ("--config.encoder.depth=1", "--config.encoder.unroll=1")
    sizes = [int(size) for size in args.sizes.split("+")]

    def nano(objective: str, size: int, *own: str) -> dict[str, Any]:
        given = (f"dataset=generated_faces/web_{size}", f"steps={args.steps}", f"objective={objective}", *own)
        return kind_of(NANO, *given, seeds=args.seeds, one_rate=args.one_rate) | dict(flags=more)

    pretrain = {f"{kind}_{size}": nano(kind, size) for kind in kinds for size in sizes}
    at_random = (f"classes={max(2, sizes[-1] // PERSON)}", "control=random")
    pretrain["labels_at_random"] = nano("identity", sizes[-1], *at_random)
    drawn = f"dataset=generated_faces/labelled,{PROBE},small,protocol=ridge"
    lines = {
        task: {kind: tuple((size, task, f"{kind}_{size}") for size in sizes) for kind in kinds}
        for task in ("landmarks", "attributes", "permuted")
    }
    permuted = drawn.replace("labelled", "permuted")
    return ConfigDict(
        dict(
            prepare={f"web_{size}": f"generated_faces:size=80,validation=0,test=0,train={size}" for size in sizes}
            | dict(labelled=world, permuted=f"{world},permuted=1.0"),
            manual_dirs={},
            pretrain=pretrain,
            search=dict(evaluation="landmarks", fraction=0.1),
            random=args.seeds,
            untrained=dict(flags=more),
            scratch=(),
            rivals=(),
            subsets=("--config.seeds=(0,1,2)",),
            whole=("--config.seeds=(0,)",),
            against=("random",),
            evaluate=dict(
                landmarks=dict(config=f"configs/evaluate/landmarks.py:{drawn}", fractions=(0.1,)),
                attributes=dict(config=f"configs/evaluate/attributes.py:{drawn}", fractions=(0.1,)),
                full=dict(config=f"configs/evaluate/attributes.py:{drawn}", fractions=(1.0,)),
                permuted=dict(config=f"configs/evaluate/landmarks.py:{permuted}", fractions=(0.1,)),
            ),
            curves={
                task: dict(x="images of pre-training", lines=of, levels=("random", "labels_at_random"))
                for task, of in lines.items()
            },
        )
    )
