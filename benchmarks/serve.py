"""A service under load: no error for two minutes, 503 beyond its limit, nothing lost on SIGTERM.

Run ``python benchmarks/serve.py BUNDLE [--data FILE]`` (some two and a half minutes), or one part
of it: ``load``, ``limit``, ``stop``. Each part starts ``edgecompress serve BUNDLE`` as a process of
its own on a free port. Clients keep their connection and ask one text after the other, over the
standard library's sockets. It exits with 1 when a bound is not kept:

- ``load``: 64 clients for two minutes; every request is answered with 200.
- ``limit``: the same clients against a queue of eight texts; every answer is 200, or 503 with
  Retry-After, and there are some of both.
- ``stop``: SIGTERM amid the load. Every request that was sent on a connection that was open then
  has its answer, the service received no request that it did not answer, and it ends with 0.

Clients and service share the machine: what clients cost is part of what is measured.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click
import numpy as np

TEXTS = (
    "Muhammadu Buhari ya je Abuja ranar Litinin domin ganawa da gwamnoni.",
    "Rais Samia Suluhu Hassan aliwasili Dodoma Jumatatu asubuhi.",
    "President don travel go London to see im doctor for di second time dis year.",
    "Kano",
    "Serikali ya Kenya imesema kuwa shule zote zitafunguliwa mwezi Januari baada ya likizo ndefu "
    "iliyosababishwa na janga la corona, kama ilivyotangazwa na Waziri wa Elimu George Magoha "
    "mjini Nairobi siku ya Jumanne.",
)
REPLY_LIMIT_S = 60.0  # a request without an answer for so long is lost


@dataclass
class Seen:
    """What the clients saw.

    Attributes
    ----------
    latencies_ms : list of float
        Of answers with 200.
    statuses : Counter
        Answers by status.
    without_retry : int
        Answers with 503 that do not say when to come again.
    lost : list of str
        Requests that were sent whole, on a connection that had been accepted, and got no answer.
    turned_away : int
        New connections that a stopping service did not accept.
    seconds : float
        From the first request to the last answer.
    """

    latencies_ms: list[float] = field(default_factory=list)
    statuses: collections.Counter[int] = field(default_factory=collections.Counter)
    without_retry: int = 0
    lost: list[str] = field(default_factory=list)
    turned_away: int = 0
    seconds: float = 0.0


@dataclass
class Running:
    """A service that is up; `said` holds what it has written to its log."""

    process: subprocess.Popen[str]
    port: int
    said: list[str]
    reader: threading.Thread

    def stop(self) -> tuple[int | None, str]:
        """Send SIGTERM; give the exit code and the last thing it said."""
        self.process.send_signal(signal.SIGTERM)
        return self.ended()

    def ended(self) -> tuple[int | None, str]:
        """Wait for the end; no exit code where it does not come."""
        try:
            code = self.process.wait(timeout=REPLY_LIMIT_S)
        except subprocess.TimeoutExpired:
            return None, "it did not end"
        self.reader.join()
        return code, (self.said or [""])[-1]


@contextlib.contextmanager
def serving(bundle: Path, *options: str) -> Iterator[Running]:
    """Start a service on a free port, and end it."""
    command = [sys.executable, "-m", "edgecompress", "serve", str(bundle), "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = process.stderr.readline()
        found = re.search(r"http://[^ ]*:(\d+)", line)
        if found is None:
            raise click.ClickException(f"the service did not start: {line}{process.stderr.read()}")
        click.echo(f"  {line.strip().removeprefix('edgecompress: ')}")
        said: list[str] = []
        reader = threading.Thread(
            target=lambda log: said.extend(map(str.strip, log)), args=(process.stderr,)
        )
        reader.start()  # a log that nobody reads would hold the service up
        yield Running(process, int(found[1]), said, reader)
    finally:
        process.kill()
        process.wait()


async def clients(port: int, texts: Sequence[str], count: int, until: Callable[[], bool]) -> Seen:
    """Ask with `count` clients at once, until `until` says so."""
    seen = Seen()
    bodies = [json.dumps({"text": text}, ensure_ascii=False).encode() for text in texts]
    requests = [
        b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        for body in bodies
    ]
    start = time.perf_counter()
    await asyncio.gather(*(_client(port, requests, n, until, seen) for n in range(count)))
    seen.seconds = time.perf_counter() - start
    return seen


async def _client(
    port: int, requests: Sequence[bytes], number: int, until: Callable[[], bool], seen: Seen
) -> None:
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
    turn, fresh = number, True
    while not until():
        if streams is None:
            try:
                streams = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                seen.turned_away += 1
                return
            fresh = True
        reader, writer = streams
        start = time.perf_counter()
        try:
            writer.write(requests[turn % len(requests)])
            async with asyncio.timeout(REPLY_LIMIT_S):
                status, headers = await _reply(reader)
        except (OSError, EOFError, TimeoutError) as error:
            # On a connection that was just opened it is not known whether it had been accepted:
            # the kernel completes it before the service does. The service's own count tells.
            if fresh and not isinstance(error, TimeoutError):
                seen.turned_away += 1
            else:
                seen.lost.append(f"client {number}: {type(error).__name__}")
            writer.close()
            return
        seen.statuses[status] += 1
        if status == 200:
            seen.latencies_ms.append((time.perf_counter() - start) * 1e3)
        elif status == 503:
            seen.without_retry += "retry-after" not in headers
            await asyncio.sleep(0.05)  # less than it asks for: the limit is what is shown here
        turn, fresh = turn + 1, False
        if headers.get("connection") == "close":
            writer.close()
            streams = None
    if streams is not None:
        streams[1].close()


async def _reply(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {
        name.lower(): value.strip()
        for name, _, value in (line.partition(":") for line in head[1:] if line)
    }
    await reader.readexactly(int(headers["content-length"]))
    return int(head[0].split()[1]), headers


def report(seen: Seen) -> None:
    """Print throughput and latencies."""
    statuses = ", ".join(f"{n} × {status}" for status, n in sorted(seen.statuses.items()))
    p50, p90, p99 = np.quantile(seen.latencies_ms or [float("nan")], (0.5, 0.9, 0.99))
    click.echo(
        f"  {statuses}; {len(seen.latencies_ms) / seen.seconds:.0f} answers/s, "
        f"p50 {p50:.1f} ms, p90 {p90:.1f} ms, p99 {p99:.1f} ms; {len(seen.lost)} lost"
    )


def timed(running: Running, texts: Sequence[str], count: int, seconds: float) -> Seen:
    """Ask for so many seconds, then let every client have its last answer."""
    end = time.perf_counter() + seconds
    return asyncio.run(clients(running.port, texts, count, lambda: time.perf_counter() >= end))


def load(bundle: Path, texts: Sequence[str], count: int, seconds: float) -> bool:
    """No error."""
    with serving(bundle) as running:
        timed(running, texts, count, 1.0)  # connections, caches, threads
        seen = timed(running, texts, count, seconds)
        code, said = running.stop()
    report(seen)
    click.echo(f"  exit code {code}; {said}")
    return set(seen.statuses) == {200} and not seen.lost and not seen.turned_away and code == 0


def limit(bundle: Path, texts: Sequence[str], count: int, seconds: float) -> bool:
    """503 beyond the limit, and nothing else."""
    with serving(bundle, "--max-queue", "8", "--max-batch", "1") as running:
        seen = timed(running, texts, count, min(seconds, 15.0))
        code, said = running.stop()
    report(seen)
    click.echo(f"  {seen.without_retry} without Retry-After; exit code {code}; {said}")
    return (
        set(seen.statuses) == {200, 503}
        and not (seen.without_retry or seen.lost or seen.turned_away)
        and code == 0
    )


def stop(bundle: Path, texts: Sequence[str], count: int, seconds: float) -> bool:
    """Stop amid the load, five times."""
    return all(_stop_once(bundle, texts, count, min(seconds, 3.0)) for _ in range(5))


def _stop_once(bundle: Path, texts: Sequence[str], count: int, seconds: float) -> bool:
    with serving(bundle) as running:
        process = running.process
        told: list[float] = []
        end = time.perf_counter() + seconds

        def tell_once() -> bool:
            if not told and time.perf_counter() >= end:
                told.append(time.perf_counter())
                process.send_signal(signal.SIGTERM)
            return False  # a client ends when it is turned away

        seen = asyncio.run(clients(running.port, texts, count, tell_once))
        code, last = running.ended()
        took = time.perf_counter() - told[0]
    counts = re.search(r"after (\d+) answered requests; (\d+) left", last)
    report(seen)
    click.echo(
        f"  {seen.turned_away} of {count} clients turned away at a new connection; ended "
        f"{took:.2f} s after SIGTERM with exit code {code}; {last}"
    )
    return (
        set(seen.statuses) == {200}
        and not seen.lost
        and code == 0
        and counts is not None
        and (int(counts[1]), int(counts[2])) == (seen.statuses.total(), 0)
    )


def conll_texts(file: Path, most: int = 500) -> tuple[str, ...]:
    """Read a file of one word a line, first column, and blank lines between sentences."""
    blocks = file.read_text(encoding="utf-8").split("\n\n")
    texts = (" ".join(line.split()[0] for line in block.splitlines() if line) for block in blocks)
    return tuple(text for text in texts if text)[:most]


PARTS = {"load": load, "limit": limit, "stop": stop}


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="CoNLL file of texts.")
@click.option("--clients", "count", default=64, show_default=True)
@click.option("--seconds", default=120.0, show_default=True, help="Of the load.")
def main(
    bundle: Path, parts: tuple[str, ...], data: Path | None, count: int, seconds: float
) -> None:
    """Put a service under load."""
    texts = TEXTS if data is None else conll_texts(data)
    words = statistics.fmean(len(text.split()) for text in texts)
    cores = len(os.sched_getaffinity(0))
    click.echo(
        f"{count} clients, {cores} cores, {len(texts)} texts of {words:.0f} words on average"
    )
    failed = []
    for part in parts or PARTS:
        click.echo(f"{part}:")
        if not PARTS[part](bundle, texts, count, seconds):
            failed.append(part)
    if failed:
        raise click.ClickException(f"not kept: {', '.join(failed)}")


if __name__ == "__main__":
    main()
