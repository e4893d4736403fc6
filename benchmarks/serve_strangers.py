"""A service while strangers misbehave: what other clients still get, measured with wrk.

Run ``python benchmarks/serve_strangers.py BUNDLE [--data FILE]`` (needs the Debian package wrk).
wrk asks one text after the other on 16 connections from 127.0.0.1; the strangers come from
127.0.0.9, which is a client of its own. One row each:

- ``alone``: nobody else.
- ``silent``: 1,500 connections that never say anything.
- ``heads``: 1,500 connections that stop in the middle of a request's head.
- ``bodies``: 300 requests whose body does not end.
- ``long``: one client with four connections that asks for 64 long texts at once, again and again.

After each part the service is told to stop while the strangers go on, and how that ended is in the
row; one that has not ended a minute later is killed. Clients and service share the machine.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
from serve import TEXTS, Running, conll_texts, serving

STRANGER = "127.0.0.9"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
SCRIPT = """
local bodies = {%s}
local turn = 0
request = function()
  turn = turn %% #bodies + 1
  return wrk.format("POST", "/predict", {["Content-Type"] = "application/json"}, bodies[turn])
end
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("FIGURES %%d %%d %%d %%d %%d %%f %%f %%f\\n", summary.requests, e.status,
    e.connect, e.read + e.write, e.timeout, latency:percentile(50), latency:percentile(99),
    latency.max))
end
"""


def wrk(port: int, texts: Sequence[str], seconds: int, folder: Path) -> list[float]:
    """Ask with wrk; give requests, statuses other than 200, three errors, and three latencies."""
    bodies = (json.dumps({"text": text}) for text in texts)
    script = folder / "ask.lua"
    script.write_text(SCRIPT % ", ".join(f"[==[{body}]==]" for body in bodies), "utf-8")
    command = ["wrk", "-t1", "-c16", f"-d{seconds}s", "--timeout", "30s", "-s", str(script)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True
    )
    found = re.search(r"FIGURES (.*)", done.stdout)
    if found is None:
        raise click.ClickException(f"wrk printed no figures: {done.stdout}{done.stderr}")
    return [float(figure) for figure in found[1].split()]


@contextlib.contextmanager
def connections(running: Running, count: int, said: bytes) -> Iterator[None]:
    """Hold connections from the stranger's address, opening them again when they are closed."""
    stop = threading.Event()

    def hold() -> None:
        held: list[socket.socket] = []
        while not stop.is_set():
            for one in [one for one in held if _closed(one)]:
                one.close()
                held.remove(one)
            with contextlib.suppress(OSError):  # full, or it is stopping: try again later
                while len(held) < count and not stop.is_set():
                    one = socket.create_connection(("127.0.0.1", running.port), 5, (STRANGER, 0))
                    held.append(one)
                    one.sendall(said)
            stop.wait(0.2)
        for one in held:
            one.close()

    with _at_work([threading.Thread(target=hold)], stop):
        yield


def _closed(one: socket.socket) -> bool:
    try:
        return one.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


@contextlib.contextmanager
def long_texts(running: Running) -> Iterator[None]:
    """Ask for 64 texts of 12,000 characters at once, on four connections."""
    stop = threading.Event()
    body = json.dumps({"texts": ["Abuja " * 2000] * 64}).encode()

    def ask() -> None:
        place = ("127.0.0.1", running.port)
        while not stop.is_set():
            with (
                contextlib.suppress(OSError),
                socket.create_connection(place, 60, (STRANGER, 0)) as one,
            ):
                one.settimeout(2.0)
                one.sendall(HEAD % len(body) + body)
                while not stop.is_set():
                    with contextlib.suppress(TimeoutError):
                        one.recv(1 << 20)
                        break
            stop.wait(0.01)

    with _at_work([threading.Thread(target=ask) for _ in range(4)], stop):
        yield


@contextlib.contextmanager
def _at_work(threads: Sequence[threading.Thread], stop: threading.Event) -> Iterator[None]:
    """Run threads for the while, after the seconds that they take to get going."""
    for thread in threads:
        thread.start()
    time.sleep(3)
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def part(name: str, running: Running) -> contextlib.AbstractContextManager[None]:
    """Give what misbehaves in a part."""
    if name == "silent":
        return connections(running, 1500, b"")
    if name == "heads":
        return connections(running, 1500, b"POST /predict HT")
    if name == "bodies":
        return connections(running, 300, HEAD % 900_000 + b'{"text": "')
    if name == "long":
        return long_texts(running)
    return contextlib.nullcontext()


@click.command(help=__doc__)
@click.argument("bundle", type=click.Path(path_type=Path, exists=True))
@click.option("--data", type=click.Path(path_type=Path, exists=True), help="CoNLL file of texts.")
@click.option("--seconds", default=20, show_default=True)
@click.option("--only", multiple=True, help="Parts; default: all.")
def main(bundle: Path, data: Path | None, seconds: int, only: tuple[str, ...]) -> None:
    """Measure, and print a table."""
    if shutil.which("wrk") is None:
        raise click.ClickException("wrk is missing; install the Debian package wrk")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    texts = TEXTS if data is None else conll_texts(data)
    rows = []
    for name in only or ("alone", "silent", "heads", "bodies", "long"):
        with (
            tempfile.TemporaryDirectory() as folder,
            serving(bundle) as running,
            part(name, running),
        ):
            figures = wrk(running.port, texts, seconds, Path(folder))
            start = time.perf_counter()
            code, said = running.stop()
            took = time.perf_counter() - start
        ended = f"{took:.1f} s, " + ("killed" if code is None else f"exit {code}")
        asked, refused, unconnected, broken, late, p50, p99, most = figures
        rows.append(
            f"| {name} | {(asked - refused) / seconds:.0f} | {refused:.0f} | "
            f"{unconnected + broken + late:.0f} | {p50 / 1e3:.0f} | {p99 / 1e3:.0f} | "
            f"{most / 1e3:.0f} | {len(running.said)} | {ended} |"
        )
        click.echo(f"  {rows[-1]}  {said}")
    click.echo(
        "\n| strangers | answers/s | not 200 | no answer | p50, ms | p99, ms | longest, ms "
        "| log lines | stop |"
        "\n|---|--:|--:|--:|--:|--:|--:|--:|---|"
    )
    click.echo("\n".join(rows))


if __name__ == "__main__":
    main()
