"""Real services on free ports, each a process of its own."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

SERVE = [sys.executable, "-m", "edgecompress", "serve"]
PATIENCE_S = 30.0
SLOW = "je " * 15_000
"""A text of thousands of windows: half a second of the smallest model."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Server:
    process: subprocess.Popen[str]
    port: int
    line: str

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def socket(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def request(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        with contextlib.closing(self.connect()) as connection:
            return ask(connection, method, path, body, headers)

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        """Give every sample by its name and its sorted labels."""
        text = self.request("GET", "/metrics").body.decode()
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def metric(self, name: str) -> float:
        """Give a sample without labels."""
        return self.metrics()[f"edgecompress_{name}", ()]

    def predict(self, **body: Any) -> Answer:
        return self.request("POST", "/predict", body)

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, list[str]]:
        """Send the signal and wait; give the exit code and the lines of stderr."""
        self.process.send_signal(number)
        return self.ended()

    def ended(self) -> tuple[int, list[str]]:
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said.splitlines()


def until(true: Callable[[], bool]) -> None:
    """Wait until something is so; fail when it takes too long."""
    end = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.02)


def ask(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: Any = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    """Ask on an open connection; what is not bytes is sent as JSON."""
    raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request(method, path, raw, headers or {})
    reply = connection.getresponse()
    return Answer(reply.status, reply.headers, reply.read())


Start = Callable[..., contextlib.AbstractContextManager[Server]]


@contextlib.contextmanager
def running(bundle: Path, *options: str) -> Iterator[Server]:
    """Start a service of one thread and end it, whatever the test does."""
    command = [*SERVE, str(bundle), "--port", "0", "--threads", "1", "--workers", "1", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+)", line)
        assert found, line + process.stderr.read()
        yield Server(process, int(found[1]), line)
    finally:
        process.kill()
        process.communicate()
