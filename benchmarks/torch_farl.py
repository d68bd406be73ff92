"""FaRL's training step in PyTorch, for `train_step.py` and `device.py`.

It is the same mathematics as ours, in the style of PyTorch: it has one fused projection for query, key and value, fused
attention and fused AdamW, and embeds patches once for both the clean and the masked copy. It leaves out what our step
computes for its log only, accuracies and the gradient's norm.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import safetensors.numpy
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MAX_SCALE = 100.0


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that computes in float32 and returns the type of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).to(x.dtype)


class Block(nn.Module):
    """A pre-norm transformer block with CLIP's activation."""

    def __init__(self, width: int, heads: int, causal: bool = False):
        super().__init__()
        self.attention_norm = LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp_norm = LayerNorm(width)
        self.up = nn.Linear(width, 4 * width)
        self.down = nn.Linear(4 * width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.attention_norm(x)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(attended.transpose(1, 2).reshape(b, n, d))
        y = self.up(self.mlp_norm(x))
        return x + self.down(y * torch.sigmoid(1.702 * y))


class FaRL(nn.Module):
    """Encoder, text tower and both losses, for the sizes of `farl_step.torch_sizes`.

    Parameters are in float32. `dtype` is that of matrix products and of the residual stream, as in ours; the products
    of the contrast's end and of the tokenizer are in float32.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        patch: int,
        grid: int,
        text: Mapping[str, int],
        vocabulary: int,
        context: int,
        embedding: int,
        centres: Tensor,
        cells: int,
        count: int,
        dtype: torch.dtype = torch.float32,
    ):
        super().__init__()
        self.dtype = dtype
        self.patch, self.grid, self.cells, self.count = patch, grid, cells, count
        self.embed = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_token = nn.Parameter(torch.empty(width))
        self.positions = nn.Parameter(torch.empty(1 + grid * grid, width))
        self.norm_in = LayerNorm(width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm_out = LayerNorm(width)

        self.text_embedding = nn.Embedding(vocabulary, text["width"])
        self.text_positions = nn.Parameter(torch.empty(context, text["width"]))
        self.text_blocks = nn.Sequential(*(Block(text["width"], text["heads"], True) for _ in range(text["depth"])))
        self.text_norm = LayerNorm(text["width"])

        self.image_projection = nn.Parameter(torch.empty(width, embedding))
        self.text_projection = nn.Parameter(torch.empty(text["width"], embedding))
        self.log_scale = nn.Parameter(torch.empty(()))

        self.mask_token = nn.Parameter(torch.empty(width))
        self.mask_block = Block(width, heads)
        self.mask_norm = LayerNorm(width)
        self.mask_head = nn.Linear(width, len(centres))

        self.register_buffer("centres", centres)
        self.register_buffer("mean", 255 * torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(3, 1, 1))
        self.register_buffer("std", 255 * torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(3, 1, 1))

    def forward(self, image: Tensor, text: Tensor, masked: Tensor) -> Tensor:
        """The loss of uint8 images (b, h, w, 3), token ids (b, l) and masks (b, n)."""
        with torch.autocast(image.device.type, self.dtype, enabled=self.dtype != torch.float32):
            clean, hidden = self.encode(image, masked)
            pooled, texts = self.norm_out(clean[:, 0]), self.encode_text(text)
            logits = self.logits(hidden, masked)
        return self.contrastive(pooled.float(), texts.float()) + self.masked_tokens(logits, masked, self.codes(image))

    def encode(self, image: Tensor, masked: Tensor) -> tuple[Tensor, Tensor]:
        """The last block's output for the clean and for the masked copies, which pass through as one batch."""
        pixels = (image.permute(0, 3, 1, 2).float() - self.mean) / self.std
        x = self.embed(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([x, torch.where(masked[..., None], self.mask_token.to(x.dtype), x)])
        x = torch.cat([self.class_token.to(x.dtype).expand(len(x), 1, -1), x], dim=1) + self.positions.to(x.dtype)
        return self.blocks(self.norm_in(x)).chunk(2)

    def encode_text(self, text: Tensor) -> Tensor:
        """Features of texts at their last tokens."""
        x = (self.text_embedding(text) + self.text_positions[: text.shape[1]]).to(self.dtype)
        return self.text_norm(self.text_blocks(x)[torch.arange(len(x), device=x.device), text.argmax(1)])

    def contrastive(self, pooled: Tensor, texts: Tensor) -> Tensor:
        """InfoNCE in both directions; the gradient passes straight through the clamp of the scale."""
        images = F.normalize(pooled @ self.image_projection, dim=-1)
        texts = F.normalize(texts @ self.text_projection, dim=-1)
        clamped = self.log_scale.clamp(max=float(np.log(MAX_SCALE)))
        scale = (self.log_scale + (clamped - self.log_scale).detach()).exp()
        logits = scale * images @ texts.T
        own = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2

    def where(self, masked: Tensor) -> Tensor:
        """The first `count` masked patches of each row; a row with fewer is filled with others."""
        return (~masked).to(torch.uint8).argsort(dim=1, stable=True)[:, : self.count]

    def logits(self, x: Tensor, masked: Tensor) -> Tensor:
        """Logits of the codes of masked patches."""
        x = self.mask_block(x)[:, 1:].gather(1, self.where(masked)[..., None].expand(-1, -1, x.shape[-1]))
        return self.mask_head(self.mask_norm(x))

    def masked_tokens(self, logits: Tensor, masked: Tensor, codes: Tensor) -> Tensor:
        """Cross-entropy of masked patches' codes; patches that fill up a row are ignored."""
        where = self.where(masked)
        targets = codes.gather(1, where).masked_fill(~masked.gather(1, where), -100)
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def codes(self, image: Tensor) -> Tensor:
        """The tokenizer, which gives the nearest centre of each patch; both sides include it in the step."""
        b, c, g = len(image), self.cells, self.grid
        x = image.float()
        x = x - x.mean((1, 2, 3), keepdim=True)
        x = x / (x.std((1, 2, 3), correction=0, keepdim=True) + 1e-3)
        x = x.view(b, g, c, self.patch // c, g, c, self.patch // c, 3).mean((3, 6))
        x = x.permute(0, 1, 3, 2, 4, 5).reshape(b * g * g, -1)
        distance = torch.addmm(self.centres.square().sum(-1), x, self.centres.T, alpha=-2)
        return distance.argmin(-1).view(b, g * g)


def load(model: FaRL, weights: Mapping[str, np.ndarray]) -> None:
    """Load weights of facerep_jax. Raises ValueError if an array of either side is left over."""
    left, theirs = dict(weights), dict[str, np.ndarray]()

    def norm(name: str, path: str) -> None:
        theirs[f"{name}.weight"], theirs[f"{name}.bias"] = left.pop(f"{path}/scale"), left.pop(f"{path}/bias")

    def blocks(names: list[str], path: str) -> None:
        stacked = {each: left.pop(each) for each in list(left) if each.startswith(f"{path}/")}
        for index, name in enumerate(names):
            own = {each.removeprefix(f"{path}/"): array[index] for each, array in stacked.items()}
            for part in ("attention_norm", "mlp_norm"):
                theirs[f"{name}.{part}.weight"], theirs[f"{name}.{part}.bias"] = (
                    own[f"{part}/scale"],
                    own[f"{part}/bias"],
                )
            for part in ("out", "up", "down"):
                theirs[f"{name}.{part}.weight"], theirs[f"{name}.{part}.bias"] = (
                    own[f"{part}/kernel"].T,
                    own[f"{part}/bias"],
                )
            parts = ("query", "key", "value")
            theirs[f"{name}.qkv.weight"] = np.concatenate([own[f"{part}/kernel"].T for part in parts])
            theirs[f"{name}.qkv.bias"] = np.concatenate([own[f"{part}/bias"] for part in parts])

    contrastive, masked = "objective/terms/contrastive", "objective/terms/masked_tokens"
    kernel = left.pop("encoder/embed/kernel").reshape(model.patch, model.patch, 3, -1)
    theirs["embed.weight"] = kernel.transpose(3, 2, 0, 1)
    blocks([f"blocks.{i}" for i in range(len(model.blocks))], "encoder/blocks")
    blocks([f"text_blocks.{i}" for i in range(len(model.text_blocks))], f"{contrastive}/text_encoder/blocks")
    blocks(["mask_block"], f"{masked}/blocks")
    norm("norm_in", "encoder/norm_in")
    norm("norm_out", "encoder/norm_out")
    norm("text_norm", f"{contrastive}/text_encoder/norm_out")
    norm("mask_norm", f"{masked}/norm")
    theirs["mask_head.weight"] = left.pop(f"{masked}/head/kernel").T
    theirs["mask_head.bias"] = left.pop(f"{masked}/head/bias")
    for name, path in {
        "class_token": "encoder/class_token",
        "positions": "encoder/positions",
        "text_embedding.weight": f"{contrastive}/text_encoder/token_embedding",
        "text_positions": f"{contrastive}/text_encoder/positions",
        "image_projection": f"{contrastive}/image_projection",
        "text_projection": f"{contrastive}/text_projection",
        "log_scale": f"{contrastive}/log_scale",
        "mask_token": f"{masked}/mask_token",
    }.items():
        theirs[name] = left.pop(path)
    missing, unknown = model.load_state_dict(
        {k: torch.tensor(np.ascontiguousarray(v)) for k, v in theirs.items()}, strict=False
    )
    missing = set(missing) - {name for name, _ in model.named_buffers()}
    if left or missing or unknown:
        raise ValueError(f"weights do not fit: left over {sorted(left)}, missing {sorted(missing)}, unknown {unknown}")


def model_of(path: str, **sizes: Any) -> FaRL:
    """The model of these sizes, see `FaRL`, with the weights that facerep_jax wrote to a file."""
    weights = safetensors.numpy.load_file(path)
    model = FaRL(centres=torch.tensor(weights.pop("centres")), **sizes)
    load(model, weights)
    return model


def make_step(
    model: FaRL,
    batch: Mapping[str, np.ndarray],
    *,
    compiled: bool,
    learning_rate: float,
    b2: float,
    weight_decay: float,
) -> Callable[[], Tensor]:
    """A training step on one batch, which returns the loss; as in ours, biases, norms and tokens are not decayed.

    It runs where the model is. Each batch size is compiled for itself, as jax does.
    """
    decayed = [p for name, p in model.named_parameters() if is_decayed(name)]
    others = [p for name, p in model.named_parameters() if not is_decayed(name)]
    groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(
        groups, learning_rate, betas=(0.9, b2), eps=1e-8, weight_decay=weight_decay, fused=True
    )
    inputs = [torch.tensor(batch[name], device=model.positions.device) for name in ("image", "text", "masked")]
    inputs[1] = inputs[1].long()
    loss_of = torch.compile(model, dynamic=False) if compiled else model

    def step() -> Tensor:
        loss = loss_of(*inputs)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def is_decayed(name: str) -> bool:
    """Whether weight decay applies: to kernels, projections and word embeddings, not to norms, biases and tokens."""
    return name.endswith("projection") or (name.endswith("weight") and "norm" not in name)
