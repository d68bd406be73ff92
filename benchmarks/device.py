"""Measure in one command what facerep_jax does on one GPU: are its numbers right, how fast is it, and does it learn?

python -m benchmarks.device --out DIR [--minutes 9] [--parts numbers,step,stream,faces] [--tiny]

    numbers   losses and gradients against the CPU, attention and codes against float64, a resume bit for bit
    step      FaRL-B/16's training step at rising batch sizes until memory ends, in turns with the same in PyTorch; then
              other rematerialisation, attention and flags of XLA
    stream    images a second of the input alone, on the CPU
    faces     pre-training of a ViT-S/16 on drawn faces, and a probe of its landmarks

Run it in the repository's root, on a machine with nothing else to do; it needs no network. DIR gets device.json, with
all that was found, device.md, the same as tables, and device.log, what the commands printed. All three are written
anew whenever something is found. Each part has a share of the minutes, and what it leaves goes to those behind it. A
part that fails or runs out of time or memory is noted in one line, and the next one begins. Without an accelerator, or
with --tiny, everything is small: that is no measurement, it shows that all parts run.

PyTorch comes with `pip install .[parity]`; without it only our side is measured. Compiled programs are kept in
.cache/device, so that a second call starts sooner.
"""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
SHARES = {"numbers": 0.19, "step": 0.45, "stream": 0.05, "faces": 0.31}  # of the time
GRACE = 20  # seconds that a command has to save, once its time is over
BATCHES, SMALLER = (256, 512, 1024, 2048, 4096), (128, 64, 32)
BATCH = 512  # of the pre-training
PRETRAINING = 0.6  # of the time after the faces are drawn; the probe has the rest
PACE = (3, 1.0)  # rows of steps, seconds of each
# The compiler's options that are tried on the default step.
FLAGS = {
    "no products by Triton": "--xla_gpu_enable_triton_gemm=false",
    "no CUDA graphs": "--xla_gpu_enable_command_buffer=",
    "latency-hiding scheduler": "--xla_gpu_enable_latency_hiding_scheduler=true",
}
VARIANTS = {
    "cuDNN attention, no remat": dict(attention="cudnn", remat="none"),
    "cuDNN attention": dict(attention="cudnn"),
    "no remat": dict(remat="none"),
    "remat of all": dict(remat="nothing_saveable"),
}
Line = dict[str, Any]


class Job(NamedTuple):
    """What runs in a process of its own."""

    function: str  # MODULE:FUNCTION, see `device_parts.part`
    settings: Mapping[str, Any]  # its arguments
    env: Mapping[str, str]  # variables that it has besides
    seconds: float  # that it may take
    lines: Path  # file of the lines that it says
    log: Path  # file of all that it prints


Start = Callable[[Job, Callable[[], None]], str]  # runs a job, calls the function now and then, returns the problem


def main(words: Sequence[str] | None = None, start: Start | None = None) -> int:
    """Run the parts; status 1 if a check of numbers failed. `start` runs a job, by default in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of what is found")
    parser.add_argument("--minutes", type=float, default=9.0, help="that all of it takes at most")
    parser.add_argument("--parts", default=",".join(SHARES), help="some of them, in any order")
    parser.add_argument("--tiny", action="store_true", help="everything small, to try it out")
    arguments = parser.parse_args(words)
    parts = [part for part in SHARES if part in arguments.parts.split(",")]
    if unknown := set(arguments.parts.split(",")) - set(SHARES):
        parser.error(f"--parts has {', '.join(sorted(unknown))}; there are {', '.join(SHARES)}")
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        bundle = Bundle(arguments.out, Path(work), 60 * arguments.minutes, start or in_process)
        bundle.do("card", "card", "device_parts:card", 60)
        bundle.tiny = arguments.tiny or bundle.card.get("platform", "cpu") == "cpu"
        for part in parts:
            with bundle.within(part, sum(SHARES[each] for each in parts[parts.index(part) :])):
                PARTS[part](bundle)
    print(bundle.table())
    return int(any(line.get("ok") is False for line in bundle.lines()))


class Bundle:
    """What was found so far, and the time that is left.

    Args:
        out: folder of the results.
        work: folder of what nobody needs later.
        seconds: that all of it may take.
        start: starts a job and waits for it.
    """

    def __init__(self, out: Path, work: Path, seconds: float, start: Start):
        self.out, self.work, self._start = out, work, start
        self.began = time.monotonic()
        self.end = self._part_end = self.began + seconds
        self.tiny = False
        self.found: dict[str, Any] = {
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "command": shlex.join(sys.orig_argv),
            "jobs": [],
        }

    @property
    def card(self) -> Line:
        """What is known of the device."""
        return next((line for line in self.lines("card") if "kind" in line), {})

    @property
    def left(self) -> float:
        """Seconds that the part has left."""
        return self._part_end - time.monotonic()

    @contextlib.contextmanager
    def within(self, part: str, share_left: float) -> Iterator[None]:
        """Give a part its share of the time that is left; whatever it raises is noted."""
        now = time.monotonic()
        self._part_end = now + (self.end - now) * SHARES[part] / share_left
        try:
            yield
        except Exception as error:
            self.note(part, part, f"{type(error).__name__}: {error}")

    def do(
        self,
        part: str,
        name: str,
        function: str,
        seconds: float = 0.0,
        /,
        *,
        least: float = 0.0,
        env: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> list[Line]:
        """Run a job and return the lines that it said.

        Args:
            function: MODULE:FUNCTION, see `device_parts.part`.
            seconds: that it may take, at most what the part has left; by default all of that.
            least: seconds without which it is not begun.
            env: variables of its environment.
            settings: arguments of the function.
        """
        seconds = min(seconds or self.left, self.left)
        job: dict[str, Any] = {"part": part, "name": name, "settings": settings, "problem": "", "lines": []}
        self.found["jobs"].append(job)
        if seconds < max(least, 1.0):
            job["problem"] = "no time was left for it"
        else:
            print(f"{time.monotonic() - self.began:5.0f} s  {part}: {name}", file=sys.stderr, flush=True)
            path, began = self.work / f"{len(self.found['jobs'])}.jsonl", time.monotonic()

            def heard() -> None:
                lines = json_lines(path)
                if lines != job["lines"]:
                    job["lines"] = lines
                    self.write()

            log = self.out / "device.log"
            with log.open("a") as file:
                file.write(f"\n# {part}: {name}\n")
            job["problem"] = self._start(Job(function, settings, env or {}, seconds, path, log), heard)
            heard()
            job["seconds"] = round(time.monotonic() - began, 1)
        self.write()
        return job["lines"]

    def note(self, part: str, name: str, problem: str = "", **values: Any) -> None:
        """Note values or a problem that are of no single job."""
        self.found["jobs"].append({"part": part, "name": name, "problem": problem, "lines": [], "values": values})
        self.write()

    def lines(self, part: str = "") -> list[Line]:
        """All lines of a part, or of all parts."""
        return [line for job in self.found["jobs"] if part in ("", job["part"]) for line in job["lines"]]

    def write(self) -> None:
        """Write what was found; a file is whole at any time."""
        for name, text in (("device.json", json.dumps(self.found, indent=1)), ("device.md", self.table())):
            path = self.out / f".{name}"
            path.write_text(text + "\n")
            path.replace(self.out / name)

    def table(self) -> str:
        """What was found, as tables in Markdown."""
        versions = ", ".join(f"{name} {version}" for name, version in self.card.get("versions", {}).items())
        device = self.card.get("nvidia_smi") or self.card.get("kind", "unknown device")
        text = [
            f"{device}; {self.card.get('compiler', '')}; {self.card.get('cores', '?')} cores; {versions}; "
            f"{self.found['date']}",
            *(["", "Tiny: everything small, no measurement."] if self.tiny else []),
        ]
        for title, rows in (
            (("check", "value", "limit", ""), check_rows),
            (("step", "batch", "images/s", "(least, most)", "MFU", "GiB", "to compile", "first loss"), step_rows),
            (("input", "threads", "workers", "images/s"), stream_rows),
            (("found", "value"), value_rows),
        ):
            if cells := rows(self.found["jobs"]):
                text += ["", *markdown(title, cells)]
        if problems := [job for job in self.found["jobs"] if job["problem"]]:
            text += ["", *markdown(("job", "problem"), [(f"{j['part']}: {j['name']}", j["problem"]) for j in problems])]
        return "\n".join(text)


def markdown(title: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table."""
    cells = [title, ["---"] * len(title), *rows]
    return ["| " + " | ".join(str(cell).replace("|", "/") for cell in row) + " |" for row in cells]


def check_rows(jobs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row for each check of numbers."""
    rows = []
    for line in (line for job in jobs for line in job["lines"] if "check" in line):
        name = line["check"] + (f" ({line['array']})" if "array" in line else "")
        verdict = {True: "within", False: "**beyond**", None: ""}[line.get("ok")]
        limit = "" if line.get("limit") is None else f"{line['limit']:.0e}"
        rows.append((name, line.get("problem") or f"{line['value']:.2e}", limit, verdict))
    return rows


def step_rows(jobs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row for each batch size of each variant of the step."""
    rows = []
    for job, line in ((each, line) for each in jobs if each["part"] == "step" for line in each["lines"]):
        if "images_per_second" not in line:
            rows.append((job["name"], str(line.get("batch", "")), line.get("problem", ""), *[""] * 5))
            continue
        gigabytes = line["peak_gigabytes"] or line.get("planned_gigabytes")
        cells = (
            f"{line['images_per_second']:.0f}",
            f"({line['least']:.0f}, {line['most']:.0f})",
            f"{line['mfu']:.1%}" if line["mfu"] else "",
            f"{gigabytes:.1f}" if gigabytes else "",
            f"{line['compile_seconds']:.0f} s",
            f"{line['losses'][0]:.4f}",
        )
        rows.append((job["name"], str(line["batch"]), *cells))
    return rows


def stream_rows(jobs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """One row for each number of readers."""
    return [
        (
            f"{line['size']} px of JPEG files of {line['drawn']} px",
            str(line["threads"]),
            str(line["workers"]),
            f"{line['images_per_second']:.0f}",
        )
        for job in jobs
        if job["part"] == "stream"
        for line in job["lines"]
        if "images_per_second" in line
    ]


def value_rows(jobs: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """How long each command took, and what came of it."""
    rows = []
    for job in jobs:
        rows += [(f"{job['name']}, seconds", f"{line['seconds']:.0f}") for line in job["lines"] if "status" in line]
        for name, value in job.get("values", {}).items():
            values = value if isinstance(value, list) else [value]
            rows.append((f"{job['name']}: {name}", ", ".join(f"{each:.4g}" for each in values if each is not None)))
    return rows


def in_process(job: Job, heard: Callable[[], None]) -> str:
    """Run a job in a process of its own and return its problem in words, "" for none.

    Each has the whole device: what it reserved is free again when it has ended, even if it was killed, and a program
    whose memory ran out leaves nothing behind. So jax and PyTorch take turns as processes and never share the device.
    """
    given = {name: value for name, value in os.environ.items() if name != "XLA_PYTHON_CLIENT_MEM_FRACTION"}
    if given.get("JAX_PLATFORMS") not in (None, "cpu"):
        del given["JAX_PLATFORMS"]  # the device is compared with the CPU, so that both are needed
    given |= {
        "XLA_CLIENT_MEM_FRACTION": "0.92",  # the rest is for what libraries take besides, such as cuBLAS and cuDNN
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache" / "device"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.5",
        "TORCHINDUCTOR_CACHE_DIR": str(ROOT / ".cache" / "device_torch"),
        "TQDM_DISABLE": "1",
        "PYTHONUNBUFFERED": "1",
        **job.env,
    }
    command = [sys.executable, "-m", "benchmarks.device_parts", job.function, json.dumps(job.settings), str(job.lines)]
    with open(job.log, "ab") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=log, stderr=log, process_group=0)
    problem, deadline = "", time.monotonic() + job.seconds
    try:
        while process.poll() is None:
            if time.monotonic() > deadline:
                if not problem:
                    problem, deadline = f"its time was over after {job.seconds:.0f} s", deadline + GRACE
                    process.terminate()  # a pre-training saves
                else:
                    break
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1)
            heard()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and what it started
        process.wait()
    return problem or (f"ended with status {process.returncode}; see device.log" if process.returncode else "")


def numbers(bundle: Bundle) -> None:
    """Are the numbers right?"""
    settings = dict(case="Nano", batch=4, dtypes=["float32"]) if bundle.tiny else dict(case="Ti", batch=16)
    bundle.do("numbers", "against the CPU", "device_numbers:numbers", 0.65 * bundle.left, **settings)
    ways = {"as it is": "", "deterministic": "--xla_gpu_deterministic_ops=true"}
    for name, flag in dict(list(ways.items())[: 1 if bundle.tiny else None]).items():
        bundle.do(
            *("numbers", f"resume, {name}", "device_numbers:resume"),
            least=0 if bundle.tiny else 25,
            env=with_flag(flag),
            folder=str(bundle.work / f"resume{'_deterministic' if flag else ''}"),
            name=name,
        )


def with_flag(flag: str) -> dict[str, str]:
    """The environment with one more flag of XLA."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()} if flag else {}


def step(bundle: Bundle) -> None:
    """How fast is the training step?"""
    weights = str(bundle.work / "weights.safetensors")
    settings: dict[str, Any] = dict(case="B", pace=PACE)
    rising, smaller = BATCHES, SMALLER
    if bundle.tiny:
        settings, rising, smaller = dict(case="Nano", pace=(1, 0.0), dtype="float32"), (4,), ()

    def measure(name: str, function: str, share: float, batches: Sequence[int], **more: Any) -> dict[int, Line]:
        """By batch size, what a side found in its share of the time that the part has left."""
        seconds = share * bundle.left
        lines = bundle.do(
            *("step", name, f"device_parts:{function}", seconds),
            least=0 if bundle.tiny else 20,
            batches=list(batches),
            seconds=seconds - 10,  # so that it ends by itself, with its start
            **settings,
            **more,
        )
        return {line["batch"]: line for line in lines if "images_per_second" in line}

    first = measure("ours", "ours", 0.38, rising, weights=weights)
    if not first and smaller:
        first = measure("ours, smaller", "ours", 0.38, smaller, weights=weights)
    if not first:
        return
    one = first[min(first)]
    rival: dict[str, Any] = dict(weights=weights, flops=one["flops_per_image"], peak=one["peak_flops"])
    rival["env"] = {"JAX_PLATFORMS": "cpu"}  # what it takes of ours needs no device
    name = "torch.compile"
    second = measure(name, "theirs", 0.42, [*first], **rival)
    if not second and "PyTorch is not installed" not in [line.get("problem") for line in bundle.lines("step")]:
        name, rival["compiled"] = "torch eager", False
        second = measure(name, "theirs", 0.4, [*first], **rival)
    if common := max(set(first) & set(second), default=0):
        again = measure("ours, again", "ours", 0.35, [common])
        once_more = measure(f"{name}, again", "theirs", 0.5, [common], **rival)
        pairs = [
            (a[common], b[common]) for a, b in ((first, second), (again, once_more)) if common in a and common in b
        ]
        ratios = [a["images_per_second"] / b["images_per_second"] for a, b in pairs]
        losses = zip(first[common]["losses"], second[common]["losses"], strict=True)
        apart = [abs(ours / theirs - 1) for ours, theirs in losses]
        values = {"batch": common, "in each turn": ratios, "first losses apart": apart}
        bundle.note("step", f"images/s of ours over {name}", **values)
    if not bundle.tiny:
        flops = one["flops_per_image"]
        for name, variant in VARIANTS.items():
            measure(name, "ours", 1.0, [min(first)], flops=flops, **variant)
        for name, flag in FLAGS.items():
            measure(name, "ours", 1.0, [min(first)], flops=flops, env=with_flag(flag))


def stream(bundle: Bundle) -> None:
    """How fast is the input?"""
    cores = bundle.card.get("cores", 2)
    readers = [(2 * cores, 0), (cores, 0), (4, cores // 2)]
    settings = dict(patch=16, batch=256, seconds=3.0)
    cases = [dict(drawn=128, size=112, readers=readers[:1]), dict(drawn=256, size=224, readers=readers)]
    if bundle.tiny:
        settings, cases = dict(patch=8, batch=4, seconds=0.1), [dict(drawn=48, size=48, readers=[(2, 0)])]
    for case in cases:
        bundle.do(
            *("stream", f"{case['size']} px", "device_parts:stream"), env={"JAX_PLATFORMS": "cpu"}, **settings, **case
        )


def faces(bundle: Bundle) -> None:
    """Does it learn, by the commands that users type?"""
    data, run, result = (str(bundle.work / name) for name in ("data", "run", "result"))

    def facerep(*words: str, share: float = 1.0, env: Mapping[str, str] | None = None) -> None:
        bundle.do("faces", f"facerep {words[0]}", "device_parts:facerep", share * bundle.left, env=env, words=words)

    sizes = "size=48,train=40,validation=12,test=16" if bundle.tiny else "size=128,train=12000,validation=500,test=1000"
    where = f"dataset=generated_faces/device,data_dir={data}"
    on_cpu = {"JAX_PLATFORMS": "cpu"}  # the workers that draw must not reserve the device
    facerep("prepare", f"generated_faces:{sizes}", "--name=device", f"--data_dir={data}", share=0.4, env=on_cpu)
    if bundle.tiny:
        recipe = ("--config=configs/pretrain/farl.py:smoke", "--config.steps=2")
        probe: tuple[str, ...] = ("--config.protocol.steps=12", "--config.seeds=(0,)")
    else:
        rates = [line["images_per_second"] for line in bundle.lines("stream") if line.get("size") == 112]
        seconds = PRETRAINING * bundle.left - 45  # to start, to fit the tokenizer and to compile
        steps = max(50, round(0.8 * seconds * min([*rates, 8_000.0]) / BATCH))
        recipe = (
            f"--config=configs/pretrain/farl.py:variant=S/16,size=112,{where}",
            *(f"--config.steps={steps}", f"--config.data.batch_size={BATCH}", "--config.log_every=10"),
            *("--config.optimizer.learning_rate=5e-4", f"--config.operational.threads={2 * bundle.card['cores']}"),
            "--config.objective.terms.masked_tokens.tokenizer.codes=1024",  # 8192 are fitted too slowly
        )
        probe = ("--config.seeds=(0,1,2)",)
    facerep("pretrain", *recipe, f"--workdir={run}", share=PRETRAINING)
    if metrics := json_lines(Path(run) / "metrics.jsonl"):
        names = ("step", "loss", "images_per_second", "input_wait", "mfu", "contrastive/accuracy")
        bundle.note("faces", "pre-training, last line", **{name: metrics[-1].get(name) for name in names})
    config = f"--config=configs/evaluate/landmarks.py:{where},fraction=0.1,random,small"
    facerep("evaluate", config, *probe, f"--checkpoint={run}", f"--workdir={result}")
    if (path := Path(result) / "results.json").exists():
        found = json.loads(path.read_text())
        name = found["headline"]
        of = {"pre-trained": found["metrics"]} | {who: each["metrics"] for who, each in found["baselines"].items()}
        bundle.note("faces", f"landmarks, {name}", **{who: metrics[name]["mean"] for who, metrics in of.items()})


def json_lines(path: Path) -> list[Line]:
    """The whole lines of a file; none if it is not there."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


PARTS = {"numbers": numbers, "step": step, "stream": stream, "faces": faces}


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the job that runs ends too
    sys.exit(main())
