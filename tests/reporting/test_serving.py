"""The page of watched runs, asked for over loopback."""

import http.client
import json
import threading
import time

import pytest
from PIL import Image

from facerep_jax.reporting import serving
from facerep_jax.reporting.watched import Watched


def write(workdir, *steps, whole=100):
    workdir.mkdir(exist_ok=True)
    (workdir / "config.json").write_text(json.dumps({"steps": whole}))
    with (workdir / "metrics.jsonl").open("a") as file:
        for step in steps:
            values = {"loss": 10.0 / step, "term/loss": 5.0 / step, "input_wait": 0.1, "images_per_second": 64.0}
            times = {"time": time.time(), "steps": 10.0, "seconds/step": 4.0, "seconds/input": 1.0}
            file.write(json.dumps({"step": step, **values, **times}) + "\n")
    Image.new("RGB", (80, 20), "white").save(workdir / "masked.png")
    return workdir


@pytest.fixture
def server(tmp_path):
    """A server of a run and of one with a broken picture."""
    runs = [Watched(write(tmp_path / "run", 10, 20)), Watched(write(tmp_path / "broken", 10))]
    (tmp_path / "broken" / "masked.png").write_bytes(b"no image")
    Image.new("RGB", (80, 20)).save(tmp_path / "run" / "tokens.png")

    def looked_at():
        for run in runs:
            run.look()
        return runs

    with serving.Server(0, looked_at, every=0.2) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def get(server, path="/", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=60)
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read().decode()
    connection.close()
    return answer.status, body


def test_a_page_shows_all_runs_renews_itself_and_is_made_again_when_they_go_on(server, tmp_path):
    status, body = get(server)
    assert status == 200
    assert "step 20 of 100 (20.0%) · running" in body
    assert body.count('<svg class="chart"') > 4
    assert body.count("data:image/webp") == 2
    assert "broken/masked.png is not an image" in body
    assert "setInterval" in body
    assert "src=" not in body.replace('src="data:', "")
    write(tmp_path / "run", 30)
    deadline = time.monotonic() + 60
    while "step 30 of 100" not in get(server)[1]:
        assert time.monotonic() < deadline


def test_a_page_is_for_this_machine_alone(server):
    """No other address, no other path, and no page of another name that a browser was led to."""
    assert server.server_address[0] == "127.0.0.1"
    assert get(server, "/../etc/passwd")[0] == 404
    assert get(server, Host="evil.example:80")[0] == 403
    assert get(server, Host=f"localhost:{server.server_address[1]}")[0] == 200


def test_requests_beyond_a_few_are_turned_away_and_the_next_is_answered(server):
    taken = [server._free.acquire(blocking=False) for _ in range(serving.AT_ONCE)]
    assert all(taken)
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        get(server)
    for _ in taken:
        server._free.release()
    assert get(server)[0] == 200


def test_a_port_that_is_taken_is_said(server):
    with pytest.raises(ValueError, match=r"--serve .*in use; 0 takes any free port"):
        serving.serve(server.server_address[1], list, every=1.0)
