r"""FRL's question: does pre-training without labels beat pre-training with labels, and which of its rivals does best?

facerep study frl --config configs/study/frl.py:faces=$FACEREP_FACES

Encoders of one size see equally many images, from three seeds each. Without labels: swav, moco, simsiam, byol, dino,
masked pixels (mae), masked tokens (mim). With captions: contrast and masked tokens (farl). With labels: identity and
attributes, and as controls identity drawn at random (labels_at_random) and identity of things that are no faces
(objects). For equal computation those that cost less than half of swav have a second row, NAME_long, with as many steps
as compute as much as it.
Each kind has its learning rate chosen among `study.RATES`, from one seed, by validation faces; see `facerep study`.
They are judged by linear heads on landmarks and parsing of another generator's faces at 10 % of the labels, three
subsets each, by which of its faces are of one person (knn), where nothing is learnt, and where `faces` names the folder
of a manifest, on the landmarks of those; beside encoders that were never trained (random), k-means features of patches
(patch_kmeans) and, for landmarks and parsing, networks that learn from the same labels from nothing (scratch).
Controls. Negative: `permuted`, landmarks whose training labels are those of other faces, where nobody can win; and
labels_at_random. Positive: `full`, attributes with all labels, where the encoders that learnt attributes must win.

Arguments: faces, steps of each pre-training, images to pre-train on, seeds of each encoder and of random; encoders,
names joined by +, where not all are wanted; one_rate for that of the recipe alone; smoke: two steps on few faces, one
seed, three kinds of encoders, to try the way out.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg, pick
from facerep_jax.study import kind_of

FACES = "generated_faces:size=80,validation=0,test=0"
NANO = "configs/pretrain/frl_nano.py"
FARL = "configs/pretrain/farl_nano.py"
MCF = "configs/pretrain/mcf_nano.py"
LONG = dict(mae=5.16, mim=2.49, identity=3.01, attributes=3.04)  # times the steps of swav that compute as much
WITHOUT_LABELS = ("swav", "moco", "simsiam", "byol", "dino")

EXAMPLES = ("faces=elsewhere", "encoders=swav+identity", "one_rate", "smoke")


def get_config(arg: str | None = None) -> ConfigDict:
    """The study; `arg` is what follows the colon."""
    args = parse_arg(arg, faces="", steps=500, images=16_000, seeds=3, encoders="", one_rate=False, smoke=False)
    labelled, scratch_steps = "size=80,train=2000,validation=500,test=1000", 1000
    if args.smoke:
        args.steps, args.images, args.seeds, args.encoders = 2, 128, 1, args.encoders or "swav+mae+objects"
        labelled, scratch_steps = "size=48,train=200,validation=20,test=20", 6

    def nano(recipe: str, *more: str, dataset: str = "generated_faces/web", long: float = 1.0) -> dict[str, Any]:
        given = (f"dataset={dataset}", f"steps={round(long * args.steps)}", *more)
        return kind_of(recipe, *given, seeds=args.seeds, one_rate=args.one_rate)

    identity = f"classes={max(2, args.images // 8)}"  # eight images of a person
    cheap = dict(
        mae=(MCF, "objective=mae"),
        mim=(FARL, "objective=mim"),
        identity=(NANO, "objective=identity", identity),
        attributes=(NANO, "objective=attributes"),
    )
    pretrain = {name: nano(NANO, f"objective={name}") for name in WITHOUT_LABELS} | dict(
        farl=nano(FARL),
        **{name: nano(*recipe) for name, recipe in cheap.items()},
        **{f"{name}_long": nano(*recipe, long=LONG[name]) for name, recipe in cheap.items()},
        labels_at_random=nano(NANO, "objective=identity", identity, "control=random"),
        objects=nano(NANO, "objective=identity", identity, "crop=whole", dataset="generated_objects/objects"),
    )
    if args.encoders:
        pretrain = {name: pick("encoder", name, pretrain) for name in args.encoders.split("+")}
    drawn = "dataset=generated_faces/labelled"
    world = f"generated_faces:world=evaluate,{labelled},seed=1"
    config = ConfigDict(
        dict(
            prepare=dict(
                web=f"{FACES},train={args.images}",
                labelled=world,
                permuted=f"{world},permuted=1.0",
                **(
                    dict(objects=f"generated_objects:size=80,validation=0,test=0,train={args.images}")
                    if "objects" in pretrain
                    else {}
                ),
            ),
            manual_dirs={},
            pretrain=pretrain,
            search=dict(evaluation="landmarks", fraction=0.1),
            random=args.seeds,
            untrained=dict(arguments=("variant=Nano/8", "stem=384", "size=48")),  # checkpoints say it themselves
            scratch=(f"--config.scratch.steps={scratch_steps}",),
            rivals=("patch_kmeans",),
            subsets=("--config.seeds=(0,1,2)",),
            whole=("--config.seeds=(0,)",),  # all subsets of 100 % are the same
            against=("random", *(name for name in ("swav", "identity") if name in pretrain)),
            evaluate=dict(
                landmarks=dict(
                    config=f"configs/evaluate/landmarks.py:{drawn},small,protocol=ridge",
                    fractions=(0.1,),
                    scratch=(0.1,),
                ),
                parsing=dict(config=f"configs/evaluate/parsing.py:{drawn},small", fractions=(0.1,), scratch=(0.1,)),
                knn=dict(config=f"configs/evaluate/knn.py:{drawn}", fractions=(1.0,), rivals=(), learns=False),
                permuted=dict(
                    config="configs/evaluate/landmarks.py:dataset=generated_faces/permuted,small,protocol=ridge",
                    fractions=(0.1,),
                    rivals=(),
                ),
                full=dict(
                    config=f"configs/evaluate/attributes.py:{drawn},small,protocol=ridge", fractions=(1.0,), rivals=()
                ),
            ),
        )
    )
    if args.smoke:
        config.evaluate.parsing.config += ",steps=6"
    if args.faces:
        config.prepare.real = "manifest"
        config.manual_dirs.real = args.faces
        config.evaluate.real_landmarks = dict(
            config="configs/evaluate/landmarks.py:dataset=manifest/real,protocol=ridge", fractions=(0.1,)
        )
    return config
