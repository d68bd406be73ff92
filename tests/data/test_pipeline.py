import io
import itertools
import time
from types import SimpleNamespace

import grain
import numpy as np
import pytest
from PIL import Image

from facerep_jax.config import OPEN, locate, spec
from facerep_jax.data import alignment, arrays, augmentations, pipeline, processes, transforms
from facerep_jax.data.library import Kept
from facerep_jax.data.pipeline import ATTEMPTS, Part, Stream, Subset, build_transforms, load

RECORDS, SIZE = 10, 8
KEYS = ("image", "noise")


def record(index):
    file = io.BytesIO()
    Image.fromarray(np.full((SIZE, SIZE, 3), index, np.uint8)).save(file, "PNG")
    return {
        "id": f"face-{index}".encode(),
        "image": file.getvalue(),
        "landmarks": np.array([[index, 2 * index]], np.float32),
        "bbox": np.array([0, 0, 4, 6], np.float32),
        "caption": [b"a face"] * (1 + index % 2),
    }


SOURCE = Kept(record(index) for index in range(RECORDS))


def noise(example, rng):
    return {**example, "noise": rng.random(3).astype(np.float32)}


noise.reads = None


def stream(source=SOURCE, seed=0, batch_size=4, keys=KEYS, chain=(noise,), name="", **settings):
    settings = {"threads": 2, "prefetch": 4, **settings}
    return Stream([Part(source, chain, name)], keys, batch_size=batch_size, seed=seed, **settings)


def take(count, made):
    batches = list(itertools.islice(iter(made), count))
    made.close()
    return batches


def assert_same(some, others):
    for one, other in zip(some, others, strict=True):
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])


@pytest.fixture(scope="module")
def batches():
    return take(12, stream())


def test_batches_hold_the_wanted_keys_and_positions_that_count_up(batches):
    for index, batch in enumerate(batches):
        assert set(batch) == {"id", "image", "noise", "position", "replaced"}
        assert batch["image"].shape == (4, SIZE, SIZE, 3)
        assert batch["image"].dtype == np.uint8
        assert batch["position"].dtype == np.uint32
        assert batch["position"].tolist() == list(range(4 * index, 4 * index + 4))


def test_records_come_in_the_order_of_grains_own_shuffle():
    """So that runs of before and after their numbers are shuffled in their place see the same."""
    shuffled = grain.MapDataset.source(SOURCE).seed(3).shuffle().repeat()
    found = Stream((Part(SOURCE, (), "faces"),), ("image",), batch_size=5, seed=3)
    order = [name for batch in take(7, found) for name in batch["id"].tolist()]
    assert order == [shuffled[index]["id"].decode() for index in range(35)]


def test_every_record_occurs_once_per_epoch_in_another_order(batches):
    """tried: all epochs in one order."""
    order = np.concatenate([batch["image"][:, 0, 0, 0] for batch in batches])
    epochs = order[: 4 * RECORDS].reshape(4, RECORDS)
    np.testing.assert_array_equal(np.sort(epochs, 1), np.tile(np.arange(RECORDS), (4, 1)))
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_batches_do_not_depend_on_threads_or_prefetching(batches):
    """tried: one generator shared by all examples."""
    for settings in (dict(threads=1, prefetch=1), dict(threads=8, prefetch=16), dict(threads=0)):
        assert_same(take(12, stream(**settings)), batches)


@pytest.mark.slow
def test_batches_do_not_depend_on_worker_processes(batches):
    assert_same(take(12, stream(workers=2)), batches)


def test_workers_whose_batches_do_not_fit_into_shared_memory_are_refused(monkeypatch):
    batch_bytes = 4 * (SIZE * SIZE * 3 + 3 * 4 + 6 * 4 + 4)  # image, noise, id and position
    needed = (2 * processes.HELD + 1) * batch_bytes

    def start(free, total=2**26, workers=2):
        monkeypatch.setattr(processes.shutil, "disk_usage", lambda path: SimpleNamespace(total=total, free=free))
        stream(workers=workers).close()

    start(needed)
    start(0, workers=0)
    start(0, total=0)  # of a file system without a limit
    with pytest.raises(ValueError, match=r"2 workers keep .* in /dev/shm, .* --shm-size.*operational\.workers=0"):
        start(needed - 1)


def wide(example, rng):
    return {**example, "image": np.zeros((SIZE, SIZE, 12347), np.uint8)}


wide.reads = None


@pytest.mark.slow
def test_workers_keep_as_many_batches_as_are_counted_on():
    """Of a size that nothing else in shared memory has."""
    made = stream(workers=2, keys=("image",), chain=(wide,))
    batch = next(iter(made))
    size, deadline = batch["image"].nbytes, time.monotonic() + 60

    def kept():
        return [path.stat().st_size for path in processes.SHARED.glob("psm_*")].count(size)

    while kept() < 2 * processes.HELD + 1 and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)  # for more, if there were any
    assert kept() == 2 * processes.HELD + 1
    made.close()


def test_draws_are_a_function_of_seed_and_position(batches):
    """tried: the record's index in place of the position, which repeats the draws each epoch."""
    noises = np.concatenate([batch["noise"] for batch in batches])
    assert len(np.unique(noises)) == noises.size
    for position, drawn in enumerate(noises[:20]):
        np.testing.assert_array_equal(drawn, np.random.default_rng((0, position)).random(3).astype(np.float32))
    other = take(12, stream(seed=1))
    assert not np.isin(noises, [batch["noise"] for batch in other]).any()
    assert any((a["image"] != b["image"]).any() for a, b in zip(batches, other, strict=True))


def test_examples_do_not_depend_on_the_batch_size(batches):
    small = take(24, stream(batch_size=2))
    for name in ("image", "noise", "position"):
        joined = np.concatenate([batch[name] for batch in small])
        np.testing.assert_array_equal(joined, np.concatenate([batch[name] for batch in batches]))


def test_a_state_goes_on_where_it_was_taken(batches):
    """tried: a state that is a batch ahead."""
    first = stream()
    taken = [next(iter(first)) for _ in range(5)]
    assert_same(taken, batches[:5])
    state = first.state
    first.close()
    resumed = stream()
    resumed.state = state
    assert_same(take(7, resumed), batches[5:])
    back = stream()
    [next(iter(back)) for _ in range(3)]
    back.state = state  # in the middle of an epoch, with a reader at work
    assert_same(take(7, back), batches[5:])


def test_a_stream_starts_at_nothing_and_looks_without_moving(batches):
    fresh = stream()
    peeked = fresh.peek(3)
    assert [int(example["image"][0, 0, 0]) for example in peeked] == [0, 4, 9]
    assert set(peeked[0]) == {"id", "image", "noise", "position"}
    assert_same(take(2, fresh), batches[:2])


def test_what_the_host_reads_comes_along():
    made = stream(keys=("text",), chain=(transforms.Tokenize(length=4),))
    (batch,) = take(1, made)
    assert set(batch) == {"id", "text", "truncated", "position", "replaced"}
    assert batch["truncated"].tolist() == [False] * 4


def test_a_key_that_nothing_gives_is_an_error_that_says_what_there_is():
    message = (
        "the objective needs masked, text, which data set 'set/a' with its transforms does not give; "
        "its records have: bbox, caption, id, image, landmarks"
    )
    with pytest.raises(ValueError) as error:
        stream(keys=("image", "text", "masked"), name="set/a")
    assert str(error.value) == message


def test_a_data_set_without_records_is_an_error():
    with pytest.raises(ValueError, match="data set 'set/a' has no records to train on"):
        stream(source=Kept(), name="set/a")


@pytest.mark.parametrize(
    ("batch_size", "weights", "said"),
    [
        (10, (1.0,), ""),
        (12, (1.0,), "each batch takes 12 records of set/0, which has 10: every batch repeats some"),
        (20, (1.0, 1.0), ""),
        (16, (1.0, 3.0), "each batch takes 12 records of set/1, which has 10: every batch repeats some"),
    ],
)
def test_a_batch_that_repeats_records_is_a_warning(batch_size, weights, said, caplog):
    parts = [Part(SOURCE, (noise,), f"set/{index}") for index in range(len(weights))]
    Stream(parts, KEYS, weights=((0, weights),), batch_size=batch_size, seed=0).close()
    assert [entry.getMessage() for entry in caplog.records] == [said] * bool(said)


def test_transforms_are_built_in_order():
    built = build_transforms(
        (spec(transforms.Resize, size=16), spec(transforms.BlockMask, grid=4, count=5, min_block=2))
    )
    assert [type(transform) for transform in built] == [transforms.Resize, transforms.BlockMask]
    assert built[0].size == 16


def test_a_transform_is_given_what_its_spec_leaves_open():
    specs = [spec(transforms.CropToBox, whole=OPEN), spec(transforms.Resize, size=4)]
    open_one, said = build_transforms(specs, size=8, whole=True)
    assert (open_one.size, open_one.whole, said.size) == (8, True, 4)


def test_a_transform_that_takes_meta_is_given_that_of_the_data_set():
    specs = (spec(transforms.Resize, size=4), spec(transforms.Flip, probability=1.0))
    example = transforms.decode(SOURCE[1])
    names = []
    for meta in ({"landmarks": {"flip": list(range(len(example["landmarks"])))}}, {}):
        moved = example
        for transform in build_transforms(specs, meta):
            moved = transform(moved, np.random.default_rng(0))
        names.append("landmarks" in moved)
    assert names == [True, False]


class Both:
    """What two transforms make of an example, side by side."""

    def __init__(self, *, first, rest, size, meta):
        self.first, self.rest, self.size, self.meta = first, rest, size, meta
        self.reads = (*first.reads, *(name for transform in rest for name in transform.reads))

    def __call__(self, example, rng):
        views = [transform(example, rng)["image"] for transform in (self.first, *self.rest)]
        return {**example, "views": np.stack(views)}


def test_specs_inside_a_transform_are_built_and_given_what_they_leave_open():
    """As crops of several kinds need it. Tried: the top level alone, and a value that a spec has being overridden."""
    flip, own = spec(transforms.Flip, probability=1.0), spec(transforms.Resize, size=4)
    both = spec(Both, first=spec(transforms.Resize), rest=(own, spec(transforms.Resize)))
    meta = {"landmarks": {"flip": [0]}}
    deep = spec(Both, first=flip, rest=(both,))
    built, alone = build_transforms((deep, spec(transforms.Resize)), meta, size=6, nothing=1)
    assert built.first.permutations["landmarks"].tolist() == [0]
    assert (built.size, built.meta, alone.size) == (6, meta, 6)
    (inner,) = built.rest
    assert [resize.size for resize in (inner.first, *inner.rest)] == [6, 4, 6]
    assert inner.reads == ()
    assert built.reads == ("caption",)


class Silent:
    def __call__(self, example, rng):
        return example


def test_a_transform_that_does_not_say_what_it_reads_is_an_error():
    with pytest.raises(ValueError, match="Silent is no transform: it must be callable and say what it `reads`"):
        build_transforms((spec(transforms.Resize, size=4), spec(Silent)))


def test_fewer_records_than_asked_for_are_peeked_at_once_each():
    made = stream()
    assert len(made.peek(10 * RECORDS)) == RECORDS
    made.close()


def test_a_split_is_loaded_in_order_with_ids_and_what_metrics_read():
    optional = ("bbox", "landmarks_scale", "mask")
    loaded = load(SOURCE, (transforms.Resize(size=4),), ("image", "landmarks"), optional=optional)
    assert set(loaded) == {"id", "row", "image", "landmarks", "bbox", "landmarks_scale"}
    assert loaded["id"] == [f"face-{index}" for index in range(RECORDS)]
    np.testing.assert_array_equal(loaded["image"][:, 0, 0, 0], np.arange(RECORDS))
    assert loaded["image"].shape == (RECORDS, 4, 4, 3)
    np.testing.assert_allclose(loaded["landmarks"][3, 0], [(3 + 0.5) / 2 - 0.5, (6 + 0.5) / 2 - 0.5])
    np.testing.assert_array_equal(loaded["landmarks_scale"], np.full((RECORDS, 2), 2))
    assert set(load(SOURCE, (transforms.Resize(size=4),), ("image",))) == {"id", "row", "image"}


def test_what_is_large_is_read_again_whenever_it_is_asked_for(monkeypatch):
    """Record 4 is left out, so that examples have other numbers than records."""
    source = Kept({**each, "bbox": np.full(4, np.nan, np.float32)} if i == 4 else each for i, each in enumerate(SOURCE))
    chain = (transforms.CropToBox(size=4, margin=0.5, shift=0.3), noise)
    arguments = (source, chain, ("image", "landmarks", "noise"))
    loaded = load(*arguments)
    monkeypatch.setattr(arrays, "MEMORY_BYTES", 10 * 24)  # of noise, which is drawn anew
    decoded = []
    monkeypatch.setattr(pipeline, "decode", lambda record: decoded.append(1) or transforms.decode(record))
    again = load(*arguments)
    assert {name for name, x in again.items() if isinstance(x, arrays.Lazy)} == {"image"}
    assert again["id"] == loaded["id"] == [f"face-{i}" for i in range(RECORDS) if i != 4]
    decoded.clear()
    rows = np.array([7, 3, 3])
    np.testing.assert_array_equal(again["image"][rows], loaded["image"][rows])
    assert len(decoded) == 3
    monkeypatch.setattr(arrays, "MEMORY_BYTES", 0)
    every = load(*arguments)
    decoded.clear()
    for name in ("image", "landmarks", "noise"):
        np.testing.assert_array_equal(every[name][rows], loaded[name][rows])
    assert len(decoded) == 3  # those that were read last stay, for their other arrays
    np.testing.assert_array_equal(np.asarray(every["noise"]), loaded["noise"])


def test_loading_twice_gives_the_same():
    assert_same([load(SOURCE, (noise,), KEYS)], [load(SOURCE, (noise,), KEYS)])


def test_a_task_whose_label_is_not_there_is_an_error():
    message = (
        "the task needs mask, which data set 'set/a' has not; its records have: bbox, caption, id, image, landmarks"
    )
    with pytest.raises(ValueError) as error:
        load(SOURCE, (), ("image", "mask"), name="set/a")
    assert str(error.value) == message


def test_a_subset_has_the_chosen_records():
    subset = Subset(SOURCE, [7, 2, 2])
    assert [r["id"] for r in subset] == [b"face-7", b"face-2", b"face-2"]
    assert len(subset) == 3
    order = take(3, stream(source=subset, batch_size=1))
    assert sorted(int(batch["image"][0, 0, 0, 0]) for batch in order) == [2, 2, 7]


# Records that cannot be read, and those that nobody wants


class Broken(Kept):
    """Records of which some cannot be read and some cannot be decoded."""

    def __getitem__(self, index):
        if index == 3:
            raise ValueError("corrupted file: hash mismatch")
        return super().__getitem__(index)

    def only(self, names):
        return self


def broken():
    records = Broken(SOURCE)
    records[7] = {**record(7), "image": record(7)["image"][:40]}
    return records


def test_the_next_record_takes_the_place_of_one_that_cannot_be_read(batches, caplog):
    """Tried: the draws of the next position, too; the noise then differs."""
    found = take(10, stream(broken(), name="set/a"))
    order = [int(x) for batch in batches for x in batch["image"][:, 0, 0, 0]]
    images = [int(x) for batch in found for x in batch["image"][:, 0, 0, 0]]
    replaced = [int(x) for batch in found for x in batch["replaced"]]
    for position, (image, ahead) in enumerate(zip(images, replaced, strict=True)):
        wanted = next(k for k in range(ATTEMPTS) if order[position + k] not in (3, 7))
        assert (image, ahead) == (order[position + wanted], wanted)
    for name in ("noise", "position"):
        assert_same([{name: b[name]} for b in found], [{name: b[name]} for b in batches[:10]])
    assert f"the record of position {order.index(3)} (set/a) cannot be read" in caplog.text
    assert "hash mismatch" in caplog.text


def test_unwanted_records_are_passed_over(batches):
    found = take(10, stream(skip_ids=frozenset({"face-2", "face-5"})))
    ids = {name for batch in found for name in batch["id"].tolist()}
    assert ids == {f"face-{index}" for index in range(RECORDS)} - {"face-2", "face-5"}
    untouched = [b["replaced"] == 0 for b in found]
    for one, other, same in zip(found, batches, untouched, strict=False):
        np.testing.assert_array_equal(one["image"][same], other["image"][same])


def test_records_that_all_fail_are_no_accident():
    with pytest.raises(ValueError, match=f"data set .*: {ATTEMPTS} records in a row from position 0 on cannot be read"):
        stream(Kept([{**record(0), "image": b"no image"}] * 4))


LACKS = {  # what a record holds if it has none, and the transform that reads it
    "bbox": (np.full(4, np.nan, np.float32), transforms.CropToBox(size=SIZE)),
    "caption": ([], transforms.Tokenize(length=8)),
}


def some_lack(feature, rows):
    return Kept({**record(i), **({feature: LACKS[feature][0]} if i in rows else {})} for i in range(RECORDS))


@pytest.mark.parametrize("feature", ["bbox", "caption"])
def test_records_that_lack_what_a_transform_reads_are_left_out_and_counted(feature, caplog):
    """Tried: only the first record looked at, which ends the run at one of the others; missing captions as ''."""
    part = Part(some_lack(feature, (2, 5)), (LACKS[feature][1], noise), "set/a", {feature: 2, "landmarks": 10})
    found = take(10, Stream([part], KEYS, batch_size=4, seed=0, threads=2, prefetch=2))
    ids = {name for batch in found for name in batch["id"].tolist()}
    assert ids == {f"face-{index}" for index in range(RECORDS)} - {"face-2", "face-5"}
    assert sum(batch["replaced"].sum() for batch in found) >= 8  # twice in each of four epochs
    assert f"2 of 10 records of 'set/a' have no {feature} and are left out" in caplog.text
    assert "no landmarks" not in caplog.text  # which nothing needs


def test_what_is_left_out_is_not_peeked_at_either():
    part = Part(some_lack("bbox", (2,)), (LACKS["bbox"][1], noise), "set/a", {"bbox": 1})
    made = Stream([part], KEYS, batch_size=4, seed=0, skip_ids=frozenset({"face-5"}))
    assert [example["id"] for example in made.peek(RECORDS)] == [f"face-{i}" for i in (0, 1, 3, 4, 6, 7, 8, 9)]
    made.close()


@pytest.mark.parametrize("feature", ["bbox", "caption"])
def test_a_set_most_of_whose_records_lack_something_is_refused(feature):
    part = Part(some_lack(feature, range(3, 10)), (LACKS[feature][1], noise), "set/a", {feature: 7})
    with pytest.raises(ValueError, match=f"7 of 10 records of 'set/a' have no {feature}, which the transforms of"):
        Stream([part], KEYS, batch_size=4, seed=0)


def test_an_evaluation_leaves_them_out_too(caplog):
    chain = (LACKS["bbox"][1],)
    found = load(some_lack("bbox", (0, 4)), chain, ("image",), name="set/a")
    assert found["row"].tolist() == [1, 2, 3, 5, 6, 7, 8, 9]
    assert found["id"] == [f"face-{row}" for row in found["row"]]
    assert "2 of 10 records of 'set/a' lack what the transforms need and are left out" in caplog.text
    assert "the first: record 'face-0' has no box" in caplog.text
    with pytest.raises(ValueError, match="6 of 10 records of 'set/a' lack what the transforms need; the first: record"):
        load(some_lack("bbox", range(6)), chain, ("image",), name="set/a")


def test_a_transform_that_fails_is_no_broken_record():
    def fails(example, rng):
        raise KeyError("a mistake of ours")

    fails.reads = ()
    with pytest.raises(KeyError, match="a mistake of ours"):
        stream(chain=(fails,))


def test_several_data_sets_are_mixed_and_each_is_read_in_its_own_order():
    other = Kept({**record(index), "id": f"other-{index}".encode()} for index in range(6))
    parts = [Part(SOURCE, (noise,), "a"), Part(other, (noise,), "b")]
    settings = dict(batch_size=4, seed=0, threads=2, prefetch=2)
    mixed = take(30, Stream(parts, KEYS, weights=((0, (3.0, 1.0)), (20, (1.0, 1.0))), **settings))
    alone = take(30, stream())
    ids = [name for batch in mixed for name in batch["id"].tolist()]
    first = [name for name in ids if name.startswith("face")]
    assert first == [name for batch in alone for name in batch["id"].tolist()][: len(first)]
    early, late = ids[:80], ids[80:]
    assert 10 < len([name for name in early if name.startswith("other")]) < 30
    assert 12 < len([name for name in late if name.startswith("other")]) < 28


class Noted(Kept):
    """Records that note which part of them is read."""

    parts = ()

    def only(self, names):
        self.parts = (*self.parts, frozenset(names))
        return super().only(names)


@pytest.mark.parametrize("chain", [(), (noise,)], ids=["all say", "one does not say"])
def test_records_are_read_without_what_nobody_looks_at(chain):
    made = (transforms.CropToBox(size=4), transforms.Tokenize(length=8), *chain)
    whole, keys = Noted(SOURCE), ("image", "text")
    drawn = take(3, stream(whole, keys=keys, chain=made))
    assert whole.parts == (() if chain else ({"id", "image", "text", "bbox", "caption"},))
    assert_same(drawn, take(3, stream(keys=keys, chain=made)))
    loaded = load(Subset(whole, [3, 1]), made, ["image"])
    assert loaded["id"] == ["face-3", "face-1"]
    assert_same([loaded], [load(Subset(SOURCE, [3, 1]), made, ["image"])])
    assert len(whole.parts) == (0 if chain else 2)


def test_what_a_transform_reads_is_all_that_it_looks_at():
    """Every transform of ours, on records that hold what it says and on records that hold everything."""
    own = [spec(transforms.Resize, size=4), spec(transforms.RandomResizedCrop, size=4)]
    own += [spec(transforms.CropToBox, size=4, shift=0.2), spec(transforms.Tokenize, length=8)]
    own += [spec(transforms.Flip, captions=("caption", "oracle_caption"), probability=0.9)]
    own += [spec(transforms.BlockMask, grid=4, count=6, min_block=2), spec(alignment.AlignToTemplate, size=4)]
    own += [spec(augmentations.RandomAffine, size=4, whole=whole, angle_rad=1.0) for whole in (False, True)]
    own += [spec(getattr(augmentations, name)) for name in ("BlackRectangle", "UniformNoise", "Grey", "Gamma")]
    own += [spec(augmentations.BoxBlur, most=0.9), spec(augmentations.FlipWithLabels, labels=(), probability=0.9)]
    modules = (transforms, alignment, augmentations)
    known = {x for module in modules for x in vars(module).values() if getattr(x, "__module__", "") == module.__name__}
    assert {locate(one) for one in own} == {x for x in known if "__call__" in vars(x)} - {transforms.Transform}
    points = np.random.default_rng(0).uniform(0, SIZE, (5, 2)).astype(np.float32)
    for one, transform in zip(own, build_transforms(own, {}), strict=True):
        for index, plain in enumerate(SOURCE):
            whole = transforms.decode({**plain, "landmarks": points, "oracle_caption": b"its left eye"})
            part = {name: whole[name] for name in ("id", "image", *transform.reads)}
            of_whole, of_part = (transform(dict(x), np.random.default_rng(index)) for x in (whole, part))
            # Flip leaves out landmarks, for which this set has no permutation.
            assert set(of_part) <= set(of_whole), one
            np.testing.assert_equal(of_part, {name: of_whole[name] for name in of_part}, str(one))
