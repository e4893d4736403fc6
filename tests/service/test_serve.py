"""``edgecompress serve`` as clients meet it: answers, refusals in words, health, metrics."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from serving import SERVE, SLOW, Server, Start, ask, running, until

from edgecompress.bundle.digests import core_digest
from edgecompress.installing import install_extra
from edgecompress.values import file_digest

TEXTS = ["Muhammadu Buhari je Abuja", "", "Ikeja 🙂 \u200b", "je " * 40 + "Abuja", "a\nb\t\x00"]


@pytest.fixture(scope="module")
def server(tags_bundle: Path) -> Iterator[Server]:
    options = ("--max-text", "200", "--texts-per-request", "8", "--max-body", "4000")
    with running(tags_bundle, *options) as found:
        yield found


def of_command(bundle: Path, lines: list[Any]) -> list[bytes]:
    command = [sys.executable, "-m", "edgecompress", "predict", str(bundle), "--threads", "1"]
    given = "".join(json.dumps(line) + "\n" for line in lines).encode()
    done = subprocess.run([*command, "--jsonl", "--json"], input=given, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_answers_are_those_of_predict(server: Server, tags_bundle: Path) -> None:
    asked: list[dict[str, Any]] = [{"text": text} for text in TEXTS]
    asked += [{"words": ["Muhammadu", "Buhari", "je"]}, {"words": []}]
    answers = [server.predict(**body) for body in asked]
    assert [answer.status for answer in answers] == [200] * len(asked)
    assert [answer.body for answer in answers] == of_command(tags_bundle, asked)
    assert answers[0].headers["content-type"] == "application/json"


def test_several_texts_are_answered_in_order(server: Server, tags_bundle: Path) -> None:
    said = server.predict(texts=TEXTS).json
    assert said == {
        "answers": [
            json.loads(line) for line in of_command(tags_bundle, [{"text": t} for t in TEXTS])
        ]
    }
    assert server.predict(texts=[]).json == {"answers": []}


def test_clients_at_once_get_their_own_answers(server: Server) -> None:
    found: dict[int, list[Any]] = {}

    def client(number: int) -> None:
        with contextlib.closing(server.connect()) as connection:
            text = f"je {number} Abuja" if number % 2 else f"Muhammadu {number}"
            replies = [ask(connection, "POST", "/predict", {"text": text}) for _ in range(10)]
            found[number] = [reply.json for reply in replies]

    threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, answers in found.items():
        for answer in answers:
            assert str(number) in answer["text"]
            assert [each["label"] for each in answer["entities"]] == [
                "LOC" if number % 2 else "PER"
            ]
    assert len(found) == 16


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "the body is not JSON"),
        (b'{"text": "a"', 400, "the body is not JSON"),
        (b"\xff\xfe", 400, "the body is not UTF-8"),
        ("utf-16".encode("utf-16"), 400, "the body is not UTF-8"),
        (b"[" * 3000, 400, "the body is not JSON"),
        (b"[]", 422, "must be a JSON object"),
        (b"{}", 422, "exactly one of text, texts and words"),
        ({"text": "a", "words": ["a"]}, 422, "exactly one of text, texts and words"),
        ({"txt": "a"}, 422, "unknown key 'txt'; did you mean 'text'?"),
        ({"x" * 500: 1}, 422, "unknown key 'xxxx"),
        ({"text": None}, 422, "text must be a string"),
        ({"texts": "a"}, 422, "texts must be a list of strings"),
        ({"texts": ["a", 1]}, 422, "texts must be a list of strings"),
        ({"words": "a"}, 422, "words must be a list of strings"),
        ({"text": "\ud800"}, 422, "not valid Unicode"),
        ({"texts": ["Abuja", "\ud800"]}, 422, "not valid Unicode"),
        ({"text": "a" * 201}, 413, "the text has 201 characters; at most 200"),
        ({"texts": ["a", "a" * 201]}, 413, "text 2 has 201 characters"),
        ({"words": ["a"] * 101}, 413, "the text has 201 characters"),
        ({"texts": ["a"] * 9}, 413, "9 texts in one request; send at most 8"),
        (b" " * 4001, 413, "the body is larger than 4000 bytes"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    server: Server, body: Any, status: int, words: str
) -> None:
    answer = server.request("POST", "/predict", body)
    assert answer.status == status
    assert list(answer.json) == ["error"]
    assert words in answer.json["error"]
    assert "\n" not in answer.json["error"]
    assert len(answer.json["error"]) < 300
    assert server.predict(text="Abuja").status == 200


def test_a_form_is_answered_as_json_is(server: Server) -> None:
    head = {"content-type": "multipart/form-data; boundary=x"}
    field = '--x\r\nContent-Disposition: form-data; name="text"\r\n\r\n%s\r\n--x--\r\n'
    answer = server.request("POST", "/predict", (field % "je Abuja").encode(), head)
    assert answer.body == server.predict(text="je Abuja").body
    cut = server.request("POST", "/predict", (field % "je Abuja")[:-9].encode(), head)
    assert cut.status == 400
    assert "the body is no form" in cut.json["error"]
    assert server.request("POST", "/predict", (field % ("a" * 4000)).encode(), head).status == 413


def test_a_body_of_unknown_length_is_limited_too(server: Server) -> None:
    with contextlib.closing(server.connect()) as connection:
        connection.request("POST", "/predict", iter([b" " * 3000] * 3))  # chunked
        assert connection.getresponse().status == 413
    with contextlib.closing(server.connect()) as connection:
        connection.request("POST", "/predict", iter([b'{"text": ', b'"Abuja"}']))
        assert connection.getresponse().status == 200


def test_other_paths_and_methods_are_refused_in_words(server: Server) -> None:
    unknown = server.request("GET", "/")
    assert (unknown.status, unknown.json["error"][:21]) == (404, "there is no such path")
    wrong = server.request("GET", "/predict")
    assert (wrong.status, wrong.headers["allow"]) == (405, "POST")
    assert "GET is not for this path" in wrong.json["error"]
    with server.socket() as raw:
        raw.sendall(b"no HTTP at all\r\n\r\n")
        assert raw.recv(12) == b"HTTP/1.1 400"


def test_health_names_the_bundle(server: Server, tags_bundle: Path) -> None:
    answer = server.request("GET", "/health")
    assert answer.status == 200
    said = answer.json
    assert said["status"] == "ready"
    assert (said["bundle"], said["task"]) == ("tiny", "token-classification")
    assert (
        said["core_sha256"] == core_digest(tags_bundle) == file_digest(tags_bundle / "core.sha256")
    )


def test_metrics_count_what_happened(server: Server) -> None:
    before = server.metrics()
    server.predict(texts=["je", "Abuja"])
    server.predict(text=1)
    after = server.metrics()

    def rise(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after[key] - before.get(key, 0.0)

    assert rise("edgecompress_requests_total", path="/predict", status="200") == 1
    assert rise("edgecompress_requests_total", path="/predict", status="422") == 1
    assert rise("edgecompress_requests_total", path="/metrics", status="200") == 1
    assert rise("edgecompress_texts_total") == 2
    assert rise("edgecompress_batch_texts_sum") == 2
    assert rise("edgecompress_request_seconds_count") == 1
    assert rise("edgecompress_request_seconds_bucket", le="+Inf") == 1
    assert after["edgecompress_queue_texts", ()] == 0
    assert after["edgecompress_in_flight_requests", ()] == 0
    (model,) = (dict(labels) for name, labels in after if name == "edgecompress_model_info")
    assert (model["name"], model["task"]) == ("tiny", "token-classification")
    assert after["process_resident_memory_bytes", ()] > 1e6


def test_metrics_speak_openmetrics_when_asked(server: Server) -> None:
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    answer = server.request("GET", "/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert {"edgecompress_requests", "edgecompress_batch_texts"} <= {
        family.name for family in parse_openmetrics(answer.body.decode())
    }


def test_classifies_and_leaves_the_bundle_as_it_is(languages_bundle: Path, start: Start) -> None:
    paths = [languages_bundle, *languages_bundle.rglob("*")]
    seen = {path: path.stat().st_mtime_ns for path in paths}
    for path in paths:
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        with start(languages_bundle) as server:
            said = server.predict(text="Habari ya asubuhi!")
            assert said.json["label"] == "swa"
            assert list(said.json["scores"]) == ["hau", "swa"]
            refused = server.predict(words=["habari"])
            assert refused.status == 422
            assert "it takes texts, not words" in refused.json["error"]
            assert server.stop() == (
                0,
                ["edgecompress: stopped after 2 answered requests; 0 left unanswered"],
            )
    finally:
        for path in paths:
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert seen == {path: path.stat().st_mtime_ns for path in paths}


def test_beyond_the_queue_is_503_and_comes_again(tags_bundle: Path, start: Start) -> None:
    with start(tags_bundle, "--max-queue", "2", "--max-batch", "1") as server:
        too_many = server.predict(texts=["je"] * 3)  # would never fit
        assert (too_many.status, "at most 2" in too_many.json["error"]) == (413, True)
        waiting = [server.connect() for _ in range(8)]
        for connection in waiting:
            connection.request("POST", "/predict", json.dumps({"text": SLOW}))
        replies = [connection.getresponse() for connection in waiting]
        answers = [(reply.status, reply.headers["retry-after"], reply.read()) for reply in replies]
        for connection in waiting:
            connection.close()
        statuses = sorted(status for status, _, _ in answers)
        assert set(statuses) == {200, 503}
        assert statuses.count(503) >= 5  # one is being answered, two wait
        for status, retry, body in answers:
            if status == 503:
                assert int(retry) >= 1
                assert "ask again in" in json.loads(body)["error"]
        assert server.predict(text="Abuja").status == 200
        assert server.stop()[0] == 0


def test_a_request_has_a_deadline(tags_bundle: Path, start: Start) -> None:
    with start(tags_bundle, "--timeout", "0.2") as server:
        late = server.predict(texts=[SLOW] * 4)
        assert late.status == 504
        assert "no answer within 0.2 s" in late.json["error"]
        with server.socket() as raw:
            raw.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
            assert raw.recv(12) == b"HTTP/1.1 408"


def test_who_goes_away_leaves_the_queue(tags_bundle: Path, start: Start) -> None:
    with start(tags_bundle, "--max-queue", "4", "--max-batch", "1") as server:
        gone = [server.connect() for _ in range(3)]
        for connection in gone:
            connection.request("POST", "/predict", json.dumps({"text": SLOW}))
        until(lambda: server.metric("queue_texts") >= 1)
        for connection in gone:
            connection.close()
        until(lambda: server.metric("in_flight_requests") == 0)
        counted = server.metrics()
        key = "edgecompress_requests_total", (("path", "/predict"), ("status", "499"))
        assert counted[key] >= 2  # the first may have been answered before
        assert counted["edgecompress_queue_texts", ()] == 0
        assert server.predict(text="Abuja").status == 200


def fails(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    command = [*SERVE, *arguments]
    if code:
        start = "from edgecompress.cli.main import main; main(['serve', *sys.argv[1:]])"
        command = [sys.executable, "-c", f"import sys; {code}; {start}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_port_that_is_taken_is_one_sentence(server: Server, tags_bundle: Path) -> None:
    done = fails(str(tags_bundle), "--port", str(server.port))
    assert done.returncode == 1
    assert done.stderr == (
        f"edgecompress: 127.0.0.1 port {server.port}: Address already in use; choose another with "
        "--port, or 0 for any free one\n"
    )


def test_a_port_that_is_only_bound_is_taken_too(tags_bundle: Path) -> None:
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = fails(str(tags_bundle), "--port", str(other.getsockname()[1]))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such host", "x" * 300])
def test_an_address_that_is_not_ours_is_one_sentence(tags_bundle: Path, host: str) -> None:
    done = fails(str(tags_bundle), "--port", "0", "--host", host)
    assert done.returncode == 1
    assert done.stderr.startswith("edgecompress: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_damaged_bundle_is_not_served(tmp_path: Path) -> None:
    done = fails(str(tmp_path), "--port", "0")
    assert done.returncode == 1
    assert "is this a whole bundle" in done.stderr


@pytest.mark.parametrize("package", ["starlette", "uvicorn", "prometheus_client"])
def test_a_missing_extra_names_the_pip_line(tags_bundle: Path, package: str) -> None:
    done = fails(str(tags_bundle), code=f"sys.modules[{package!r}] = None")
    assert done.returncode == 2
    assert done.stderr == (
        f"edgecompress: {package} is needed for this; {install_extra('serve')}\n"
    )


def test_help_needs_no_extra() -> None:
    code = "sys.modules['uvicorn'] = sys.modules['starlette'] = None"
    done = fails("--help", code=code)
    assert done.returncode == 0
    assert "--max-queue" in done.stdout
