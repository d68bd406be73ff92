"""Measure how fast batches reach training: from prepared records to uint8 batches of random crops of 224 pixels.

python benchmarks/input.py [--peers PYTHON] [--sizes 256 512] [--work cut resized] [--workers 2] [--rounds 5] [--json F]

Ours, in worker processes and in threads alone as runs have it by default, is measured beside torch's DataLoader,
webdataset and tf.data, each with as many workers on the same JPEGs, in turns within one run, and beside what simplejpeg
alone decodes, the ceiling. The peers run with the interpreter `--peers`, whose environment has torch, webdataset,
tensorflow-cpu, simplejpeg and Pillow; what it lacks is named.

    python -m venv peers && peers/bin/pip install torch webdataset tensorflow-cpu simplejpeg pillow

Memory is the proportional share of a loader's processes; `--batches N` also tells whether that of ours grows over N
batches. Images are portraits from FACEREP_FACES, resized, or else drawn ones.
"""

import argparse
import contextlib
import io
import json
import os
import random
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import psutil
from input_loaders import LOADERS, RECORDS, SIDE, TARS, WORK
from PIL import Image

from facerep_jax import cli
from facerep_jax.data.library import open_dataset
from facerep_jax.data.transforms import decode_image

HERE, DRAWN, SHARD = Path(__file__).parent, 64, 500
WARM = 4  # batches of each worker that are passed over before time is taken


class Loader:
    """A loader in a process of its own."""

    def __init__(self, name: str, python: str, folder: Path, batch: int, workers: int, work: str):
        self.name, self.absent = name, ""
        words = [python, HERE / "input_loaders.py", name, folder, batch, workers, work]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            list(map(str, words)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.absent = self._read().get("absent", "")
        if self.absent:
            self.close()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{self.name} has ended with status {self._process.wait()}")

    def ask(self, **request: Any) -> dict[str, Any]:
        """What it answers: images, seconds and, of loaders, the shape of a batch."""
        assert self._process.stdin
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return self._read()

    @property
    def mebibytes(self) -> float:
        """Proportional memory of its processes."""
        parent, total = psutil.Process(self._process.pid), 0
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                total += process.memory_full_info().pss
        return total / 2**20

    def close(self) -> None:
        """Ends its processes."""
        for child in psutil.Process(self._process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        self._process.kill()
        self._process.communicate()


def pictures() -> list[Image.Image]:
    """Portraits, or drawn faces."""
    if (faces := os.environ.get("FACEREP_FACES")) and (paths := sorted(Path(faces).rglob("*.jpg"))):
        return [Image.open(path).convert("RGB") for path in paths[:500]]
    drawn = open_dataset(f"generated_faces:size=256,train={DRAWN},validation=0,test=0", "unused").source("train")
    return [Image.fromarray(decode_image(drawn[index]["image"])) for index in range(DRAWN)]


def write(folder: Path, size: int, images: int) -> float:
    """Writes the same JPEGs as files, as archives and as records; returns their mean number of bytes."""
    encoded = []
    for picture in pictures():
        file = io.BytesIO()
        picture.resize((size, size), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
        encoded.append(file.getvalue())
    chosen = random.Random(0).choices(encoded, k=images)
    (folder / "images").mkdir()
    (folder / TARS).mkdir()
    lines = []
    for start in range(0, images, SHARD):
        with tarfile.open(folder / TARS / f"{start // SHARD:05d}.tar", "w") as archive:
            for number, data in enumerate(chosen[start : start + SHARD], start):
                name = f"{number:06d}.jpg"
                (folder / "images" / name).write_bytes(data)
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
                lines.append(json.dumps({"image": name}) + "\n")
    (folder / "images" / "faces.jsonl").write_text("".join(lines))
    words = ["facerep", "prepare", "manifest", f"--manual_dir={folder / 'images'}", f"--data_dir={folder / RECORDS}"]
    if cli.main([*words, "--name=images"]):
        raise SystemExit("the images could not be prepared")
    return statistics.mean(map(len, chosen))


def measured(args: argparse.Namespace, folder: Path, work: str) -> dict[str, Any]:
    """Rates of all loaders in images a second, round by round, and their memory in MiB."""
    pythons = dict.fromkeys(("ours", "ours in threads", "ceiling"), sys.executable)
    loaders: list[Loader] = []
    found: dict[str, dict[str, Any]] = {}
    for name in LOADERS:
        loader = Loader(name, pythons.get(name, args.peers), folder, args.batch, args.workers, work)
        if loader.absent:
            print(f"{name} is absent: {loader.absent}", flush=True)
            continue
        loaders.append(loader)
        found[name] = {"rates": [], "mebibytes": 0.0}
    try:
        for number in range(args.rounds):
            for loader in loaders[number % len(loaders) :] + loaders[: number % len(loaders)]:
                warm = 0 if loader.name == "ceiling" else WARM * max(args.workers, 1)
                answer = loader.ask(seconds=args.seconds, warm=warm)
                if loader.name != "ceiling" and answer["shape"] != [args.batch, SIDE, SIDE, 3, "uint8"]:
                    raise SystemExit(f"{loader.name} gave a batch of {answer['shape']}")
                found[loader.name]["rates"].append(answer["images"] / answer["seconds"])
                found[loader.name]["mebibytes"] = loader.mebibytes
        if args.batches:
            (mine,) = [loader for loader in loaders if loader.name == "ours"]
            found["ours"]["growth"] = [(mine.ask(batches=args.batches // 10), mine.mebibytes)[1] for _ in range(10)]
    finally:
        for loader in loaders:
            loader.close()
    return found


def main() -> None:
    """Prints a table for each size and work."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", default=sys.executable, help="interpreter that the peers run with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="pixels of a side of the images")
    parser.add_argument("--work", nargs="+", default=["cut"], choices=[*WORK])
    parser.add_argument("--images", type=int, default=4_000)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each loader in each round")
    parser.add_argument("--batches", type=int, default=0, help="over which the memory of ours is watched")
    parser.add_argument("--json", type=Path, help="file for all rates")
    args = parser.parse_args()
    told = {}
    for size in args.sizes:
        with tempfile.TemporaryDirectory() as folder:
            length = write(Path(folder), size, args.images)
            for work in args.work:
                found = told[f"{size} {work}"] = measured(args, Path(folder), work)
                print(f"\n{size} x {size} pixels ({length / 1000:.0f} kB), {work}, {args.workers} workers\n")
                print("| loader | images/s (least to greatest) | of the ceiling | ours is | MiB | MiB a worker |")
                print("|---|---|---|---|---|---|")
                medians = {name: statistics.median(each["rates"]) for name, each in found.items()}
                for name, each in found.items():
                    spread = f"{medians[name]:,.0f} ({min(each['rates']):,.0f} to {max(each['rates']):,.0f})"
                    ratios = f"{medians[name] / medians['ceiling']:.0%} | {medians['ours'] / medians[name]:.2f} x"
                    memory = f"{each['mebibytes']:,.0f} | {each['mebibytes'] / max(args.workers, 1):,.0f}"
                    print(f"| {name} | {spread} | {ratios} | {memory} |", flush=True)
                if growth := found["ours"].get("growth"):
                    print(f"\nours over {args.batches} batches, MiB: {', '.join(f'{each:,.0f}' for each in growth)}")
    if args.json:
        args.json.write_text(json.dumps(told, indent=1))


if __name__ == "__main__":
    main()
