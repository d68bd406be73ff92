r"""How redundant is labelled video: many subjects in few frames each, or few subjects in many?

facerep study video_redundancy --config configs/study/video_redundancy.py

FRL's second finding is that many facial video datasets are highly redundant. Here videos of `labels` labelled frames in
all show few subjects in many frames each, or many in few; frames of a video correlate over `correlation` frames, and
every frame, every fourth or every sixteenth is labelled. A video whose every n-th frame is kept has a correlation that
is shorter by n, since its paths are stationary, so that such a set is drawn with that. Names are video_SUBJECTSxFRAMES,
with every_STRIDE behind. Beside these, `fixed` sets show the same number of subjects in 1, 4, 16 or 64 frames, spread
over videos of one length: what more labels of the same video are worth.
The task is landmarks, or `task`, learnt from all labels by ridge regression and tested on frames of other subjects, the
same for all sets; task=action_units is nearer to what facial videos are labelled with, but small encoders read hardly
anything of it from a thousand labels. Encoders: swav, pre-trained on other faces without labels; attributes, with them;
random, never trained. Scores against subjects and against frames get a power law with its interval (`curves`, see
`facerep study`).
Controls. Negative: `permuted`, the set of most subjects with the labels of other frames, where nobody can win; and
labels_at_random, pre-trained on identities drawn at random. Positive: `full`, four times as many subjects of one frame.

Arguments: task, one of configs/evaluate/ that drawn faces have labels of; labels, a multiple of 64; correlation, in
frames; images to pre-train on, steps, seeds of each encoder and of random; one_rate for that of the recipe alone;
smoke: few labels, two steps, one seed, to try the way out.
"""

from typing import Any

from ml_collections import ConfigDict

from facerep_jax.config import parse_arg
from facerep_jax.study import kind_of

NANO = "configs/pretrain/frl_nano.py"
PROBE = "variant=Nano/8,stem=384,size=48"  # of random encoders too
PERSON = 8  # images of each of those to pre-train on
FRAMES, STRIDES, LENGTH = (1, 4, 16, 64), (1, 4, 16), 64

EXAMPLES = ("task=action_units", "labels=256,correlation=32.0", "one_rate", "smoke")


def get_config(arg: str | None = None) -> ConfigDict:
    """The study; `arg` is what follows the colon."""
    args = parse_arg(
        arg,
        task="landmarks",
        labels=1024,
        correlation=8.0,
        images=16_000,
        steps=500,
        seeds=3,
        one_rate=False,
        smoke=False,
    )
    frames: tuple[int, ...] = FRAMES
    strides: tuple[int, ...] = STRIDES
    kinds: tuple[str, ...] = ("swav", "attributes")
    more: tuple[str, ...] = ()
    size, held_out = 80, "validation=500,test=1000"
    if args.smoke:
        args.labels, args.images, args.steps, args.seeds, args.one_rate = 64, 64, 2, 1, True
        frames, strides, kinds, size, held_out = (1, 4), (1,), ("attributes",), 48, "validation=20,test=40"
        more = ("--config.encoder.depth=1", "--config.encoder.unroll=1")
    if args.labels % LENGTH:
        raise ValueError(f"labels is a multiple of {LENGTH}, so that all videos are whole, not {args.labels}")
    world = f"generated_faces:world=evaluate,size={size},{held_out},seed=1,sessions=1"

    def video(subjects: int, each: int, correlation: float) -> str:
        return f"{world},train={subjects * each},train_frames={each},train_correlation={correlation:g}"

    def nano(objective: str, *own: str) -> dict[str, Any]:
        given = ("dataset=generated_faces/web", f"steps={args.steps}", f"objective={objective}", *own)
        return kind_of(NANO, *given, seeds=args.seeds, one_rate=args.one_rate) | dict(flags=more)

    fewest = args.labels // max(frames)
    sets = {f"video_{args.labels}x1": video(args.labels, 1, 1.0)}
    sets |= {
        f"video_{args.labels // each}x{each}_every_{stride}": video(
            args.labels // each, each, max(args.correlation / stride, 0.1)
        )
        for each in frames[1:]
        for stride in strides
    }
    sets |= {
        f"fixed_{fewest}x{each}": video(fewest, each, max(args.correlation * each / LENGTH, 0.1)) for each in frames
    }
    sets |= dict(full=video(4 * args.labels, 1, 1.0), permuted=f"{video(args.labels, 1, 1.0)},permuted=1.0")

    pretrain = {kind: nano(kind) for kind in kinds}
    at_random = (f"classes={max(2, args.images // PERSON)}", "control=random")
    pretrain["labels_at_random"] = nano("identity", *at_random)
    probe = f"{PROBE},small,protocol=ridge"
    judged = (*kinds, "random")

    def every(stride: int, encoder: str) -> tuple[tuple[int, str, str], ...]:
        many = [(args.labels // each, f"video_{args.labels // each}x{each}_every_{stride}") for each in frames[:0:-1]]
        return tuple((count, name, encoder) for count, name in (*many, (args.labels, f"video_{args.labels}x1")))

    return ConfigDict(
        dict(
            prepare=dict(web=f"generated_faces:size=80,validation=0,test=0,train={args.images}") | sets,
            manual_dirs={},
            pretrain=pretrain,
            search=dict(evaluation="full", fraction=1.0),
            random=args.seeds,
            untrained=dict(flags=more),
            scratch=(),
            rivals=(),
            subsets=("--config.seeds=(0,)",),
            whole=("--config.seeds=(0,)",),
            against=("random",),
            evaluate={
                name: dict(
                    config=f"configs/evaluate/{args.task}.py:dataset=generated_faces/{name},{probe}", fractions=(1.0,)
                )
                for name in sets
            },
            curves={
                f"subjects_{encoder}": dict(
                    x=f"subjects, of {args.labels} labels in all",
                    lines={f"every_{stride}": every(stride, encoder) for stride in strides},
                )
                for encoder in judged
            }
            | dict(
                frames=dict(
                    x=f"labelled frames of each of {fewest} subjects",
                    lines={e: tuple((each, f"fixed_{fewest}x{each}", e) for each in frames) for e in judged},
                )
            ),
        )
    )
