"""Writes the files of this folder; run once, by PyTorch 2.13: python tests/torch_files/write.py"""

import argparse
import pathlib

import numpy as np
import torch

HERE = pathlib.Path(__file__).parent
COUNT = torch.arange(24, dtype=torch.float32)


class Product(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(COUNT[:6].reshape(2, 3))
        self.sizes = [1, 2]

    def forward(self, x):
        return x @ self.weight


def tree():
    device = torch.device("cpu")
    return {
        "model": torch.nn.BatchNorm1d(3).state_dict(),
        "tied": COUNT,
        "transposed": COUNT.reshape(4, 6).T,
        "slice": COUNT[3:9:2],
        "expanded": COUNT[2:3].expand(4, 1),
        "half": COUNT[:4].half(),
        "bf16": COUNT[:4].bfloat16(),
        "long": torch.tensor(7),
        "bool": torch.tensor([True, False]),
        "complex": torch.tensor([1 + 2j]),
        "empty": torch.zeros(0, 3),
        "parameter": torch.nn.Parameter(COUNT[:2].clone()),
        "uint8": torch.arange(3, dtype=torch.uint8),
        "args": argparse.Namespace(lr=0.1, arch="ViT", device=device, path=pathlib.PurePosixPath("/a")),
        "array": np.array([[0, 2], [3, 5]], np.float32),
        "scalar": np.float32(0.5),
        "dtype": torch.float32,
        "size": torch.Size([1, 2]),
        "set": {1, 2},
        17: [(np.array([1, 2, 3, 4], np.float32), np.zeros((5, 2), np.float32), np.float32(0.99))],
        "words": ["é", None, True, 1.5, b"\xff\x00"],
    }


if __name__ == "__main__":
    torch.save(tree(), HERE / "zip.pt")
    torch.save(tree(), HERE / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save({"f8": COUNT[:4].to(torch.float8_e4m3fn), "u16": torch.arange(3).to(torch.uint16)}, HERE / "newer.pt")
    torch.jit.save(torch.jit.script(Product()), str(HERE / "script.pt"))
