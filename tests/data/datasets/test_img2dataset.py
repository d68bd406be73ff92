"""What the real img2dataset writes is what `laion_face` reads: links to good and bad files of a server on loopback."""

import http.server
import io
import json
import subprocess
import threading
import venv
import zlib

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from facerep_jax import cli
from facerep_jax.data.library import open_dataset
from tests.data.laion import FIRST, face, picture, write_detections

VERSION = "1.47.0"
GOOD = 30


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 black pixels in less than a megabyte."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4) + kind + content + zlib.crc32(kind + content).to_bytes(4)

    side, packer = 30_000, zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(side // 8 + 1)) for _ in range(side)) + packer.flush()
    header = side.to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


BAD = {
    "gone.jpg": None,  # 404
    "cut.jpg": picture(100, size=(400, 400))[:-2000],
    "page.jpg": b"<html><body>not found</body></html>",
    "bomb.png": bomb(),
    "pixel.gif": picture(101, size=(1, 1), kind="PNG"),
    "empty.jpg": b"",
}
ODD = {
    "cmyk.jpg": picture(102, mode="CMYK"),
    "grey.png": picture(103, kind="PNG", mode="L"),
    "palette.png": picture(104, kind="PNG", mode="P"),
    "alpha.png": picture(105, kind="PNG", mode="RGBA"),
    "new.webp": picture(106, kind="WEBP"),
}


@pytest.fixture
def server():
    """The address of a server that lives as long as the test."""
    contents = {f"{n}.jpg": picture(n, size=(256, 256)) for n in range(GOOD)} | BAD | ODD

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content = contents.get(self.path.lstrip("/"))
            self.send_response(404 if content is None else 200)
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", list(contents)
        running.shutdown()


@pytest.fixture(scope="module")
def tool(tmp_path_factory):
    """img2dataset in a virtual environment of its own: its pins collide with ours."""
    folder = tmp_path_factory.mktemp("img2dataset")
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "pip", "install", "--quiet", f"img2dataset=={VERSION}"]
    done = subprocess.run(pip, capture_output=True, text=True, timeout=600)
    if done.returncode:
        pytest.skip(f"img2dataset cannot be installed: {done.stderr[-200:]}")
    return folder / "bin" / "img2dataset"


@pytest.mark.slow
def test_what_img2dataset_downloads_is_prepared_and_what_it_does_not_is_counted(server, tool, tmp_path):
    address, names = server
    rows = [
        {"URL": f"{address}/{name}", "TEXT": f"portrait {n}", "NSFW": "UNLIKELY", "similarity": 0.3, "LICENSE": "?"}
        | {"SAMPLE_ID": float(FIRST + n)}
        for n, name in enumerate(names)
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "links.parquet")
    columns = '["NSFW","similarity","LICENSE","SAMPLE_ID"]'
    command = [
        *(
            tool,
            f"--url_list={tmp_path}/links.parquet",
            "--input_format=parquet",
            "--url_col=URL",
            "--caption_col=TEXT",
        ),
        *("--output_format=webdataset", f"--output_folder={tmp_path}/raw/split_00000", "--processes_count=1"),
        *("--thread_count=4", "--resize_mode=no", f"--save_additional_columns={columns}", "--enable_wandb=False"),
        "--number_sample_per_shard=20",
    ]
    (tmp_path / "raw").mkdir()
    done = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-2000:]
    write_detections(tmp_path / "d.pth", {FIRST + n: [face()] for n in range(len(names))})
    words = (f"--manual_dir={tmp_path}/raw", f"--data_dir={tmp_path}/data")
    assert cli.main(["facerep", "prepare", f"laion_face:no_safety_list,detections={tmp_path}/d.pth", *words]) == 0
    dataset = open_dataset("laion_face/default", tmp_path / "data")
    told = json.loads((dataset.path / "coverage.json").read_text())
    assert told["links"] == len(names)
    assert told["downloaded"] + sum(told["not_downloaded"].values()) == told["links"]
    assert told["images"] == told["downloaded"]
    assert any("404" in reason for reason in told["not_downloaded"])
    found = {int(record["id"]) - FIRST: record for record in dataset.source("train")}
    assert set(range(GOOD)) <= set(found)
    assert not {names.index(name) for name in ("gone.jpg", "page.jpg", "bomb.png", "pixel.gif", "empty.jpg")} & set(
        found
    )
    for n, record in found.items():
        assert record["caption"] == [f"portrait {n}".encode()]
        with Image.open(io.BytesIO(record["image"])) as image:
            assert image.mode in ("RGB", "L")
            image.load()
