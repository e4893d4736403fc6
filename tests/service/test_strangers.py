"""Clients that say nothing, or half of it, or do not listen: others are answered all the same.

Every address of the loopback network is a client of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import SLOW, Server, Start, running, until

STRANGER = "127.0.0.9"
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"


@contextlib.contextmanager
def strangers(server: Server, count: int, said: bytes = b"") -> Iterator[list[socket.socket]]:
    """Open connections from another address, and say the same on all."""
    with contextlib.ExitStack() as stack:
        found = []
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", server.port), 30, (STRANGER, 0))
            found.append(stack.enter_context(one))
            one.sendall(said)
            if said.startswith(b"GET") and said.endswith(b"\r\n\r\n"):  # until it is answered, busy
                assert one.recv(1, socket.MSG_PEEK)
        yield found


def closed(server: Server, reason: str) -> float:
    key = ("edgecompress_closed_connections_total", (("reason", reason),))
    return server.metrics().get(key, 0.0)


@pytest.mark.parametrize(
    "said",
    [b"", b"POST /pre", HEAD % 100 + b"{", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"],
    ids=["nothing", "half a head", "half a body", "one question, then nothing"],
)
def test_connections_that_wait_for_their_client_make_room(
    tags_bundle: Path, start: Start, said: bytes
) -> None:
    with (
        start(tags_bundle, "--max-connections", "8", "--read-timeout", "600") as server,
        strangers(server, 30, said),
    ):
        answers = [server.predict(text="je Abuja") for _ in range(10)]
        assert [answer.status for answer in answers] == [200] * 10
        assert closed(server, "made room") >= 22
        assert server.metric("connections") <= 8
        code, lines = server.stop()
    assert (code, len(lines)) == (0, 1)  # the log holds nothing of it


def test_a_connection_that_is_being_answered_is_never_closed(
    tags_bundle: Path, start: Start
) -> None:
    body = json.dumps({"text": SLOW + " Abuja"}).encode()
    with start(tags_bundle, "--max-connections", "4") as server, contextlib.ExitStack() as stack:
        asking = [stack.enter_context(server.socket()) for _ in range(3)]
        for one in asking:
            one.sendall(HEAD % len(body) + body)
        until(lambda: server.metric("in_flight_requests") >= 3)
        stack.enter_context(strangers(server, 10))
        for one in asking:
            assert one.recv(12) == b"HTTP/1.1 200"


def test_where_all_are_being_answered_a_new_one_is_told_so(tags_bundle: Path, start: Start) -> None:
    body = json.dumps({"text": SLOW}).encode()
    told: list[bytes] = []
    waits_s = (0.02 * 2**tried for tried in itertools.count())  # a busy machine reads it late

    def asked_and_told(server: Server) -> bool:
        """Ask on the only connection there may be; whoever comes then is refused."""
        with server.socket() as asking:
            asking.sendall(HEAD % len(body) + body)
            time.sleep(next(waits_s))  # until it has been read
            try:
                with server.socket() as beyond:
                    told.append(beyond.recv(1000))
                return asking.recv(12) == b"HTTP/1.1 200" and told[-1].startswith(b"HTTP/1.1 503")
            except ConnectionError:  # it was not being answered yet, and gave way
                return False

    with start(tags_bundle, "--max-connections", "1") as server:
        until(lambda: asked_and_told(server))
    assert b"Retry-After: 1" in told[-1]
    assert json.loads(told[-1].partition(b"\r\n\r\n")[2])["error"].endswith("ask again in 1 s")


def test_unfinished_bodies_hold_no_place_in_the_queue(tags_bundle: Path, start: Start) -> None:
    options = ("--max-queue", "4", "--max-body", "2000", "--read-timeout", "600")
    with (
        start(tags_bundle, *options) as server,
        strangers(server, 40, HEAD % 1500 + b" " * 1000) as found,
    ):
        until(lambda: server.metric("in_flight_requests") <= 8)  # 8 × 1000 bytes is all they get
        assert [server.predict(text="je Abuja").status for _ in range(10)] == [200] * 10
        assert found[0].recv(12) == b"HTTP/1.1 408"
        # And a stop does not wait for what is left of them.
        code, lines = server.stop()
    assert code == 0
    assert lines[-1].endswith("0 left unanswered")


def test_a_request_that_does_not_come_is_ended(tags_bundle: Path, start: Start) -> None:
    with start(tags_bundle, "--read-timeout", "0.3") as server:
        with strangers(server, 1) as [silent]:
            assert silent.recv(10) == b""
        with strangers(server, 1, b"GET /hea") as [half]:
            assert half.recv(12) == b"HTTP/1.1 408"
        with strangers(server, 1, HEAD % 9 + b"{") as [unfinished]:
            assert unfinished.recv(12) == b"HTTP/1.1 408"
        # After an answer, the next head has its time again.
        with strangers(server, 1, b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n") as [second]:
            said = b""
            while not said.endswith(b"}"):  # head and body may come apart
                said += second.recv(4096)
            assert said.startswith(b"HTTP/1.1 200")
            second.sendall(b"GET /hea")
            assert second.recv(12) == b"HTTP/1.1 408"
        until(lambda: closed(server, "no request") >= 3)


def test_what_is_no_http_is_logged_once(tags_bundle: Path, start: Start) -> None:
    with start(tags_bundle) as server:
        with strangers(server, 20, b"\x16\x03\x01 no HTTP\r\n\r\n") as found:
            for one in found:
                assert one.recv(12) == b"HTTP/1.1 400"
        code, lines = server.stop()
    assert code == 0
    assert len(lines) == 2


def test_an_answer_that_nobody_reads_is_given_up(tags_bundle: Path, start: Start) -> None:
    body = json.dumps({"texts": ["a" * 95_000] * 32}).encode()  # the answer holds the texts again
    options = ("--read-timeout", "1", "--max-body", "10000000")
    with start(tags_bundle, *options) as server, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.bind((STRANGER, 0))
        deaf.connect(("127.0.0.1", server.port))
        deaf.sendall(HEAD % len(body) + body)
        until(lambda: closed(server, "answer not read") == 1)
        assert server.predict(text="je Abuja").status == 200


def test_metrics_answer_whatever_is_accepted(tags_bundle: Path, start: Start) -> None:
    random.seed(4)
    kinds = ["text/plain", "application/openmetrics-text", "*/*", "text/html", ""]
    pieces = [
        "version=x",
        "version=",
        "version=1..2",
        "version=0.0.4",
        "escaping=y",
        "q=z",
        "=",
        "",
    ]
    pieces += ["version=9999999999999999999999.0", "version=-1", "version=\xb2", "escaping="]
    with running(tags_bundle) as server:
        for _ in range(150):
            parts = [random.choice(kinds), *random.choices(pieces, k=random.randint(0, 3))]
            accept = ";".join(parts) + random.choice(["", ",", ", text/plain;version=q"])
            answer = server.request("GET", "/metrics", headers={"Accept": accept})
            assert answer.status == 200, accept
            assert b"edgecompress_requests" in answer.body
