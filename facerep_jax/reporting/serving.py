"""A page of runs that are watched, for the browsers of this machine."""

import html as markup
import threading
import time
from collections.abc import Callable, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from facerep_jax.reporting import attachments, page, pretraining, wording
from facerep_jax.reporting.charts import Picture
from facerep_jax.reporting.page import Gallery, Page, Section
from facerep_jax.reporting.watched import Watched

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # by which a browser may ask: another name would be a foreign page's
AT_ONCE = 8  # requests
SECONDS = 10  # for a browser to ask and to take the answer
RUNS = 12  # of a page, those that were written last
PICTURES = 3  # of a run, the newest
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"


def page_of(runs: Sequence[Watched], every: float) -> Page:
    """The page of runs, the one that was written last on top."""
    shown = runs[:RUNS]
    pictures = sum(min(len(run.pictures), PICTURES) for run in shown)
    sections = tuple(section(run, attachments.bytes_each(pictures)) for run in shown)
    left_out = f", of {len(runs)}" if len(runs) > len(shown) else ""
    summary = f"{wording.plural(len(shown), 'run')}{left_out}, as of {time.strftime('%H:%M:%S')}"
    return Page(summary, (("Runs", sections),), refresh=every)


def section(run: Watched, allowed: int) -> Section:
    """How a run is, then what a report shows of it, and its pictures.

    Args:
        allowed: bytes that each picture may have.
    """
    try:
        whole = pretraining.section(run.pretraining, allowed)
        others = [path for path in run.pictures[:PICTURES] if path.name != "masked.png"]
        pictures = tuple(
            Picture(path.name, f"{path.name} of {run.folder.name}", uri=attachments.data_uri(path, allowed))
            for path in others
        )
    except (ValueError, OSError) as error:  # said where the run would stand: others are still shown
        return Section(run.folder.name, f"{run.folder}: {error}", ())
    now = [value if what == "state" else f"{what} {value}" for what, value in run.facts()]
    blocks = whole.blocks + ((Gallery("Pictures", "", pictures),) if pictures else ())
    return Section(run.folder.name, " · ".join([*now, str(run.folder), *filter(None, [whole.facts])]), blocks)


class Server(ThreadingHTTPServer):
    """Answers with a page that is made at most once in `every` seconds, and few requests at a time."""

    daemon_threads = True

    def __init__(self, port: int, runs: Callable[[], Sequence[Watched]], every: float):
        super().__init__((HOST, port), Handler)
        self._runs, self._every = runs, every
        self._making, self._free = threading.Lock(), threading.BoundedSemaphore(AT_ONCE)
        self._made, self._body = -every, b""

    def body(self) -> bytes:
        """The page as HTML."""
        with self._making:
            if time.monotonic() - self._made >= self._every:
                try:
                    self._body = page.html(page_of(self._runs(), self._every)).encode()
                except OSError as error:  # such as a folder that was removed
                    self._body = f"<p>{markup.escape(str(error))}</p>".encode()
                self._made = time.monotonic()
            return self._body

    def process_request_thread(self, request, client_address) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()


class Handler(BaseHTTPRequestHandler):
    """Answers a request for the page, and refuses all else."""

    timeout = SECONDS
    server: Server

    def do_GET(self) -> None:
        if (self.headers.get("Host") or "").rpartition(":")[0] not in NAMES:
            self.send_error(HTTPStatus.FORBIDDEN)
        elif self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
        else:
            body = self.server.body()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Security-Policy", POLICY)
            self.send_header("Cache-Control", "no-store")
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Requests are not logged: there is one every few seconds."""


def serve(port: int, runs: Callable[[], Sequence[Watched]], *, every: float) -> None:
    """Show a page of runs until Ctrl-C.

    Args:
        port: 0 for any that is free.
        runs: gives them as they are now.
        every: seconds between looks.

    Raises:
        ValueError: the port is taken, or may not be used.
    """
    try:
        server = Server(port, runs, every)
    except OSError as error:
        raise ValueError(f"--serve {port}: {error.strerror}; 0 takes any free port") from None
    with server:
        print(f"http://{HOST}:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()
