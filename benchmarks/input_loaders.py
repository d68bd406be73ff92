"""One loader of `input.py`, in a process of its own: prints a line of JSON once it is ready, then answers requests.

python benchmarks/input_loaders.py LOADER FOLDER BATCH WORKERS WORK

Each line of standard input is {"seconds": S} or {"batches": N}; the answer has `images`, `seconds` and the checksum of
the last batch's shape. All loaders do the same work on the same JPEGs, in an endless and shuffled order: decode them
with simplejpeg and cut a random square of 224 pixels out of each (`cut`), or a random box of 0.9 to 1 of the area,
resized to 224 pixels by Pillow (`resized`). tf.data decodes and cuts with its own kernels, as its users do.
"""

import contextlib
import io
import itertools
import json
import multiprocessing
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from PIL import Image

SIDE, AREA = 224, (0.9, 1.0)
LOADERS = ("ours", "ours in threads", "torch", "webdataset", "tf.data", "ceiling")
RECORDS, TARS, TFRECORDS = "records", "tars", "tfrecords"  # below FOLDER, beside `images`


def cut(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random square of the image."""
    height, width = pixels.shape[:2]
    y, x = rng.integers(0, height - SIDE + 1), rng.integers(0, width - SIDE + 1)
    return np.ascontiguousarray(pixels[y : y + SIDE, x : x + SIDE])


def resized(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random square of the image, resized."""
    height, width = pixels.shape[:2]
    side = int(np.sqrt(height * width * rng.uniform(*AREA)))
    y, x = int(rng.integers(0, height - side + 1)), int(rng.integers(0, width - side + 1))
    box = (x, y, x + side, y + side)
    return np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BICUBIC, box))


WORK: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {"cut": cut, "resized": resized}


class Transform:
    """The work as a transform of ours."""

    reads = ()

    def __init__(self, work: str):
        self.work = work

    def __call__(self, example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {**example, "image": WORK[self.work](example["image"], rng)}


def ours(folder: Path, batch: int, workers: int, work: str, threads: int = 8) -> Iterator[np.ndarray]:
    """This package's stream, from the records that `facerep prepare` wrote."""
    from absl import flags

    from facerep_jax.data import pipeline
    from facerep_jax.data.library import open_dataset

    flags.FLAGS(sys.argv[:1])  # grain's
    transform: Any = Transform(work)
    if work == "resized":
        from facerep_jax.data.transforms import RandomResizedCrop

        transform = RandomResizedCrop(size=SIDE, scale=AREA, ratio=(1.0, 1.0))
    records = open_dataset("manifest/images", folder / RECORDS).source("train")
    stream = pipeline.Stream(
        [pipeline.Part(records, (transform,), "images")],
        ("image",),
        batch_size=batch,
        seed=0,
        workers=workers,
        threads=threads,
    )
    return (each["image"] for each in stream)


def ours_in_threads(folder: Path, batch: int, workers: int, work: str) -> Iterator[np.ndarray]:
    """The same without processes, in as many threads."""
    return ours(folder, batch, 0, work, threads=max(workers, 1))


def torch_loader(folder: Path, batch: int, workers: int, work: str) -> Iterator[np.ndarray]:
    """torch's DataLoader over the files."""
    import torch

    class Files(torch.utils.data.Dataset):
        def __init__(self) -> None:
            self.paths = sorted(map(str, (folder / "images").glob("*.jpg")))

        def __len__(self) -> int:
            return len(self.paths)

        def __getitem__(self, index: int) -> torch.Tensor:
            data = Path(self.paths[index]).read_bytes()
            rng = np.random.default_rng(torch.randint(1 << 62, ()).item())
            return torch.from_numpy(WORK[work](simplejpeg.decode_jpeg(data, "RGB"), rng))

    loader = torch.utils.data.DataLoader(
        Files(), batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=bool(workers)
    )
    return (each.numpy() for _ in itertools.count() for each in loader)


def webdataset_loader(folder: Path, batch: int, workers: int, work: str) -> Iterator[np.ndarray]:
    """webdataset over tar archives, batched in its workers."""
    import webdataset

    def made(sample: dict[str, Any]) -> np.ndarray:
        rng = np.random.default_rng(random.getrandbits(62))
        return WORK[work](simplejpeg.decode_jpeg(sample["jpg"], "RGB"), rng)

    urls = sorted(map(str, (folder / TARS).glob("*.tar")))
    dataset = webdataset.WebDataset(urls, shardshuffle=False, resampled=True).shuffle(1000).map(made)
    loader = webdataset.WebLoader(dataset.batched(batch, collation_fn=np.stack), batch_size=None, num_workers=workers)
    return (np.asarray(each) for each in loader)


def tf_data(folder: Path, batch: int, workers: int, work: str) -> Iterator[np.ndarray]:
    """tf.data over TFRecords, its threads as many as the others' workers."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(max(workers, 1))
    (folder / TFRECORDS).mkdir(exist_ok=True)
    path = folder / TFRECORDS / "images.tfrecord"
    if not path.exists():
        with tf.io.TFRecordWriter(str(path)) as writer:
            for image in sorted((folder / "images").glob("*.jpg")):
                writer.write(image.read_bytes())

    def made(data: Any) -> Any:
        shape = tf.io.extract_jpeg_shape(data)
        if work == "cut":
            y = tf.random.uniform((), 0, shape[0] - SIDE + 1, tf.int32)
            x = tf.random.uniform((), 0, shape[1] - SIDE + 1, tf.int32)
            return tf.io.decode_and_crop_jpeg(data, tf.stack([y, x, SIDE, SIDE]), channels=3)
        area = tf.cast(shape[0] * shape[1], tf.float32) * tf.random.uniform((), *AREA)
        side = tf.cast(tf.sqrt(area), tf.int32)
        y = tf.random.uniform((), 0, shape[0] - side + 1, tf.int32)
        x = tf.random.uniform((), 0, shape[1] - side + 1, tf.int32)
        pixels = tf.io.decode_and_crop_jpeg(data, tf.stack([y, x, side, side]), channels=3)
        small = tf.image.resize(pixels, (SIDE, SIDE), "bicubic", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(small), 0, 255), tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = max(workers, 1)
    dataset = tf.data.TFRecordDataset(str(path)).repeat().shuffle(1000).map(made, max(workers, 1))
    return dataset.batch(batch, drop_remainder=True).prefetch(2).with_options(options).as_numpy_iterator()


def _decode(folder: Path, count: Any) -> None:
    files = [path.read_bytes() for path in sorted((folder / "images").glob("*.jpg"))[:500]]
    for number, data in enumerate(itertools.cycle(files), 1):
        simplejpeg.decode_jpeg(data, "RGB")
        if number % 16 == 0:
            count.value += 16


def answers(batches: Iterator[np.ndarray], batch: int) -> None:
    """Answers requests until the input ends."""
    for _ in range(2):
        next(batches)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        request, shape = json.loads(line), ()
        for _ in range(request.get("warm", 0)):  # what was fetched ahead while others ran
            next(batches)
        begin, images = time.perf_counter(), 0
        while images < request.get("batches", 0) * batch or time.perf_counter() - begin < request.get("seconds", 0):
            each = next(batches)
            images, shape = images + len(each), (*each.shape, str(each.dtype))
        print(json.dumps({"images": images, "seconds": time.perf_counter() - begin, "shape": shape}), flush=True)


def ceiling(folder: Path, workers: int) -> None:
    """Answers requests by what simplejpeg decodes from memory and throws away, in as many processes."""
    context = multiprocessing.get_context("spawn")
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        seconds = json.loads(line)["seconds"]
        counts = [context.Value("q", lock=False) for _ in range(max(workers, 1))]
        started = [context.Process(target=_decode, args=(folder, count), daemon=True) for count in counts]
        for process in started:
            process.start()
        while not all(count.value for count in counts):
            time.sleep(0.01)
        begin, before = time.perf_counter(), sum(count.value for count in counts)
        time.sleep(seconds)
        images = sum(count.value for count in counts) - before
        print(json.dumps({"images": images, "seconds": time.perf_counter() - begin}), flush=True)
        for process in started:
            process.terminate()
            process.join()


def main() -> None:
    """Serves the loader that the command line names."""
    loader, folder, batch, workers, work = sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:5]), sys.argv[5]
    if loader == "ceiling":
        ceiling(folder, workers)
        return
    made = {
        "ours": ours,
        "ours in threads": ours_in_threads,
        "torch": torch_loader,
        "webdataset": webdataset_loader,
        "tf.data": tf_data,
    }[loader]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            batches = made(folder, batch, workers, work)
    except ImportError as error:
        print(json.dumps({"absent": str(error)}), flush=True)
        return
    answers(batches, batch)


if __name__ == "__main__":
    main()
