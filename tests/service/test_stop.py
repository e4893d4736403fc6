"""The way down: nothing new is accepted, and what was accepted is answered."""

from __future__ import annotations

import contextlib
import signal
import threading
from pathlib import Path

import pytest
from serving import SLOW, Answer, Server, Start, ask, until


def refused(server: Server) -> bool:
    """Whether a new connection is."""
    try:
        server.socket().close()
    except ConnectionRefusedError:
        return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_was_accepted_is_answered(tags_bundle: Path, start: Start, number: int) -> None:
    answers: list[Answer] = []
    with start(tags_bundle) as server, contextlib.closing(server.connect()) as open_before:
        assert ask(open_before, "GET", "/health").status == 200
        asking = [
            threading.Thread(target=lambda: answers.append(server.predict(text=SLOW + " Abuja")))
            for _ in range(3)
        ]
        for thread in asking:
            thread.start()
        until(lambda: server.metric("in_flight_requests") >= 3)
        server.process.send_signal(number)
        until(lambda: refused(server))
        # A connection that is open is still answered, told that this is the end, and closed.
        health = ask(open_before, "GET", "/health")
        assert (health.status, health.json["status"]) == (503, "stopping")
        assert health.headers["connection"] == "close"
        for thread in asking:
            thread.join()
        assert server.ended() == (
            0,
            ["edgecompress: stopped after 3 answered requests; 0 left unanswered"],
        )
    assert [answer.status for answer in answers] == [200] * 3
    assert all(answer.json["entities"][0]["text"] == "Abuja" for answer in answers)
    assert all(answer.headers["connection"] == "close" for answer in answers)


def test_none_is_lost_amid_the_load(tags_bundle: Path, start: Start) -> None:
    lost, answered, turned_away = [], [], []

    def client(server: Server) -> None:
        while True:
            connection, fresh = server.connect(), True
            try:
                while True:
                    answer = ask(connection, "POST", "/predict", {"text": "je Abuja"})
                    answered.append(answer.status)
                    fresh = False
                    if answer.headers["connection"] == "close":
                        break
            except ConnectionError as error:
                # Refused, or completed by the kernel and never accepted: the service's own count,
                # below, tells that none of these was received.
                (turned_away if fresh else lost).append(error)
                return
            finally:
                connection.close()

    with start(tags_bundle) as server:
        clients = [threading.Thread(target=client, args=(server,)) for _ in range(16)]
        for thread in clients:
            thread.start()
        until(lambda: len(answered) >= 200)
        server.process.send_signal(signal.SIGTERM)
        for thread in clients:
            thread.join()
        code, said = server.ended()
    assert (code, lost, set(answered)) == (0, [], {200})
    assert len(turned_away) == 16
    assert said == [
        f"edgecompress: stopped after {len(answered)} answered requests; 0 left unanswered"
    ]


def test_an_idle_connection_does_not_hold_it_up(tags_bundle: Path, start: Start) -> None:
    with start(tags_bundle) as server, contextlib.closing(server.connect()) as idle:
        assert ask(idle, "POST", "/predict", {"text": "je"}).status == 200
        with server.socket():  # and one that never says anything
            assert server.stop()[0] == 0


BODY = b'{"texts": [%b]}' % b", ".join([b'"%b"' % SLOW.encode()] * 20)
SLOW_REQUEST = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


def test_beyond_the_grace_it_says_so(tags_bundle: Path, start: Start) -> None:
    with (
        start(tags_bundle, "--grace", "0.2") as server,
        server.socket() as waits,
        server.socket() as is_read,
    ):
        waits.sendall(SLOW_REQUEST)
        is_read.sendall(SLOW_REQUEST[:-5])
        until(lambda: server.metric("in_flight_requests") >= 2)
        assert server.stop() == (
            1,
            ["edgecompress: stopped after 0 answered requests; 2 left unanswered"],
        )
        for asking in (waits, is_read):
            said = asking.recv(10_000)
            assert said.startswith(b"HTTP/1.1 503")
            assert b"connection: close" in said
            assert b"the service stopped before it could answer" in said


def test_a_second_signal_waits_for_nothing(tags_bundle: Path, start: Start) -> None:
    with start(tags_bundle) as server, server.socket() as asking:
        asking.sendall(SLOW_REQUEST)
        until(lambda: server.metric("in_flight_requests") >= 1)
        server.process.send_signal(signal.SIGINT)
        until(lambda: refused(server))
        assert server.stop(signal.SIGINT) == (
            1,
            ["edgecompress: stopped after 0 answered requests; 1 left unanswered"],
        )
