"""FaRL's training step at a few sizes, for the benchmarks that compare it: models, optimizer and a fixed batch."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx

from facerep_jax import schedules
from facerep_jax.config import spec
from facerep_jax.data.transforms import BlockMask
from facerep_jax.models import text, tokenizer, vit
from facerep_jax.objectives import combined, contrastive, masked_tokens
from facerep_jax.train import optim
from facerep_jax.train.state import Model, TrainState, abstract, flat, initial
from facerep_jax.train.step import Step, make_step
from facerep_jax.typing import Tree

STEPS_OF_RUN = 1_000_000  # so many that schedules stand still
OPTIMIZER = dict(learning_rate=1e-4, b2=0.98, weight_decay=0.05)
CODES, CELLS, EMBEDDING = 8192, 4, 512


class Case(NamedTuple):
    """A size of model and batch to compare."""

    variant: str
    image_size: int
    batch: int
    text: Mapping[str, int]
    vocabulary: int = 49_408
    context: int = 77


CASES = {
    "Nano": Case("Nano/8", 32, 4, dict(width=32, depth=1, heads=2), 512, 16),  # to try out the benchmark itself
    "Ti": Case("Ti/16", 112, 64, dict(width=256, depth=6, heads=4)),
    "B": Case("B/16", 224, 8, dict(width=512, depth=12, heads=8)),
}


def batch_of(case: Case) -> dict[str, np.ndarray]:
    """A batch of noise images, random texts of several lengths and block-wise masks."""
    rng = np.random.default_rng(0)
    grid, count, least = grid_of(case)
    text = rng.integers(1, case.vocabulary - 1, (case.batch, case.context), np.int32)
    for row, length in zip(text, rng.integers(case.context // 4, case.context, case.batch), strict=True):
        row[length], row[length + 1 :] = case.vocabulary - 1, 0
    mask = BlockMask(grid=grid, count=count, min_block=least)
    return {
        "image": rng.integers(0, 256, (case.batch, case.image_size, case.image_size, 3), np.uint8),
        "text": text,
        "masked": np.stack([mask.draw(rng).reshape(-1) for _ in range(case.batch)]),
        "position": np.arange(case.batch, dtype=np.uint32),
    }


def grid_of(case: Case) -> tuple[int, int, int]:
    """Patches per side, the most that are masked, and the smallest block of masked ones, in FaRL's proportions."""
    grid = case.image_size // int(case.variant.partition("/")[2])
    return grid, round(75 / 196 * grid**2), max(1, round(16 / 196 * grid**2))


class Ours(NamedTuple):
    """Our training step, before it is compiled."""

    graph: Any
    first_state: Callable[[], TrainState]
    frozen: Tree
    step: Step

    def write_weights(self, state: TrainState, path: str) -> None:
        """Write the weights of a state, and the tokenizer's centres, for another side to begin with."""
        arrays = {name: np.asarray(x) for name, x in flat(state.params).items()}
        safetensors.numpy.save_file(arrays | {"centres": centres()}, path)


def ours(
    case: Case,
    *,
    remat: str,
    unroll: int = 1,
    dtype: str = "float32",
    attention: str | None = None,
    micro_batches: int = 1,
) -> Ours:
    """Our training step of a case, with its model, its optimizer and k-means codes of random centres."""
    sizes = vit.sizes_of(case.variant)
    tower = spec(text.TextTransformer, vocabulary=case.vocabulary, context=case.context, unroll=unroll, **case.text)
    codes = spec(tokenizer.KMeansTokenizer, patch=sizes.patch, codes=CODES, cells=CELLS)
    terms = dict(
        contrastive=spec(contrastive.Contrastive, text_encoder=tower, embedding=EMBEDDING),
        masked_tokens=spec(masked_tokens.MaskedTokens, tokenizer=codes, count=grid_of(case)[1], heads=sizes.heads),
    )

    def make() -> Model:
        rngs = nnx.Rngs(params=0)
        of_case = dict(variant=case.variant, image_size=case.image_size)
        encoder = vit.ViT(**of_case, attention=attention, unroll=unroll, dtype=dtype, remat=remat, rngs=rngs)
        return Model(encoder, combined.Combined(encoder, terms=terms, steps=STEPS_OF_RUN, rngs=rngs))

    rate = OPTIMIZER["learning_rate"]
    flat_rate = spec(schedules.warmup_cosine, first=rate, last=rate, warmup_steps=1)
    optimizer = optim.adamw(**OPTIMIZER, schedule=flat_rate, steps=STEPS_OF_RUN).transform
    graph, _, _, frozen = abstract(make)
    values = [centres() if path.endswith("centres") else np.full(CODES, 1 / CODES, np.float32) for path in flat(frozen)]
    return Ours(
        graph=graph,
        first_state=jax.jit(lambda: initial(make, optimizer.init, ema=False)),
        frozen=jax.tree.unflatten(jax.tree.structure(frozen), list(map(jnp.asarray, values))),
        step=make_step(graph, optimizer, seed=0, micro_batches=micro_batches),
    )


def centres() -> np.ndarray:
    """The centres of the k-means tokenizer of all sides."""
    return np.random.default_rng(1).normal(0, 0.1, (CODES, 3 * CELLS**2)).astype(np.float32)


def torch_sizes(case: Case) -> dict[str, Any]:
    """What `torch_farl.FaRL` is to be made with for a case."""
    grid, count, _ = grid_of(case)
    return dict(
        **vit.sizes_of(case.variant)._asdict(),
        grid=grid,
        text=case.text,
        vocabulary=case.vocabulary,
        context=case.context,
        embedding=EMBEDDING,
        cells=CELLS,
        count=count,
    )
