"""``edgecompress predict``: texts, standard input, JSON lines, and what bad input gets."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgecompress.cli.predict import predict as command
from edgecompress.errors import BundleError, DataError
from edgecompress.values import Candidate

MakeBundle = Callable[..., Path]
RUN = [sys.executable, "-m", "edgecompress", "predict", "--threads", "1"]


@pytest.fixture
def tags(tagger: Candidate, make_bundle: MakeBundle) -> str:
    return str(make_bundle(tagger, "tags"))


@pytest.fixture
def languages(classifier: Candidate, make_bundle: MakeBundle) -> str:
    return str(make_bundle(classifier, "languages"))


def ask(*arguments: str, given: str | bytes = "") -> Result:
    return CliRunner().invoke(command, ["--threads", "1", *arguments], input=given)


def test_a_text_is_classified(languages: str) -> None:
    result = ask(languages, "Habari ya\nasubuhi", "sannu")
    assert result.exit_code == 0
    assert result.output == "swa  100.0%  Habari ya asubuhi\nhau  98.2%  sannu\n"


def test_entities_are_listed_below_their_text(tags: str) -> None:
    result = ask(tags, "Muhammadu Buhari je Abuja", "je")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0] == "Muhammadu Buhari je Abuja"
    assert lines[1].split() == ["PER", "93.2%", "Muhammadu", "Buhari", "[0:16]"]
    assert lines[2].split() == ["LOC", "93.2%", "Abuja", "[20:25]"]
    assert lines[3:] == ["je", "  nothing found"]


@pytest.mark.parametrize("dash", [[], ["-"]])
def test_standard_input_is_read_line_by_line(languages: str, dash: list[str]) -> None:
    result = ask(languages, *dash, "--json", given="\ufeffsannu\r\nhabari\n\nina")
    assert result.exit_code == 0
    said = [json.loads(line) for line in result.output.splitlines()]
    assert [answer["text"] for answer in said] == ["sannu", "habari", "", "ina"]
    assert [answer["label"] for answer in said] == ["hau", "swa", "hau", "hau"]
    assert set(said[0]["scores"]) == {"hau", "swa"}


def test_json_lines_go_in_and_out(tags: str) -> None:
    lines = [
        {"text": "je Abuja", "id": 7},
        {"words": ["Muhammadu", "Buhari"], "text": "ignored", "entities": "overwritten"},
    ]
    given = "\n\n".join(json.dumps(line) for line in lines)
    result = ask(tags, "--jsonl", "--json", given=given)
    assert result.exit_code == 0
    first, second = (json.loads(line) for line in result.output.splitlines())
    assert first["id"] == 7
    assert [entity["text"] for entity in first["entities"]] == ["Abuja"]
    assert (second["text"], len(second["entities"])) == ("Muhammadu Buhari", 1)


def test_an_answer_in_json_is_one_line_of_utf8(languages: str) -> None:
    text = "Ẹ kú\nàárọ̀ \x1b[31m"
    result = ask(languages, "--json", text)
    assert result.stdout_bytes.decode("utf-8").count("\n") == 1
    assert "àárọ̀" in result.stdout_bytes.decode("utf-8")
    assert json.loads(result.stdout_bytes)["text"] == text


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"text": 3}', "must be an object"),
        ('["text"]', "must be an object"),
        ('{"words": ["a", 1]}', "must be an object"),
        ('{"words": "a b"}', "must be an object"),
        ('{"text": null}', "must be an object"),
        ("{}", 'neither "text" nor "words"'),
        ('{"id": 7, "txt": "a"}', 'is "txt" meant to be "text"?'),
        ('{"Word": ["a"]}', 'is "Word" meant to be "words"?'),
        ("{text", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"text": "half \\ud83d"}', "half of a surrogate pair"),
        ('{"words": ["half", "\\ud83d"]}', "half of a surrogate pair"),
    ],
)
def test_a_malformed_json_line_is_named(tags: str, line: str, says: str) -> None:
    result = ask(tags, "--jsonl", given=f'{{"text": "fine"}}\n{line}\n')
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("<stdin>:2: ")
    assert says in str(result.exception)
    assert result.output.startswith("fine\n")  # what came before it is answered


def test_text_that_is_not_utf8_is_named(tags: str) -> None:
    result = ask(tags, given=b"fine\n\xff\xfe\n")
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("<stdin>:2: not UTF-8")


def test_json_lines_and_texts_exclude_each_other(tags: str) -> None:
    result = ask(tags, "--jsonl", "text")
    assert result.exit_code == 2
    assert "leave the texts out" in result.output


def test_a_file_is_read(tags: str, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_bytes("je Abuja\r\nẸ kú".encode())
    result = ask(tags, "--input", str(tmp_path / "texts.txt"), "--json")
    said = [json.loads(line) for line in result.output.splitlines()]
    assert [answer["text"] for answer in said] == ["je Abuja", "Ẹ kú"]
    lines = '{"words": ["je", "Abuja"], "id": 1}\n'
    for name, option in (("lines.jsonl", []), ("lines.NDJSON", []), ("lines.txt", ["--jsonl"])):
        (tmp_path / name).write_text(lines)
        result = ask(tags, "--input", str(tmp_path / name), "--json", *option)
        assert json.loads(result.output)["id"] == 1
    (tmp_path / "empty.txt").write_text("")
    assert ask(tags, "--input", str(tmp_path / "empty.txt")).output == ""


def test_a_file_that_is_wrong_is_named(tags: str, tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"text": "je"}\n3\n')
    result = ask(tags, "--input", str(tmp_path / "bad.jsonl"))
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith(f"{tmp_path}/bad.jsonl:2: a line must be an object")
    for arguments, says in (
        (["--input", str(tmp_path / "none")], "does not exist"),
        (["--input", str(tmp_path)], "is a directory"),
        (["--input", str(tmp_path / "bad.jsonl"), "text"], "leave them out"),
    ):
        result = ask(tags, *arguments)
        assert result.exit_code == 2
        assert says in result.output


def test_words_that_are_cut_are_said(tags: str) -> None:
    longer = "(" * 3 + "je-" * 30  # a word is one piece here, but for its dashes
    result = ask(tags, longer)
    assert "only the beginning was read" in result.output
    assert "[3:92]" in result.output


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "", "²"])
@pytest.mark.parametrize("option", ["--threads", "--batch"])
def test_threads_and_batch_are_a_number_or_auto(tags: str, option: str, value: str) -> None:
    result = ask(tags, option, value, "je")
    assert result.exit_code == 2
    assert "neither auto nor a whole number from 1" in result.output


def test_batches_are_answered_in_order(tags: str) -> None:
    lines = [" ".join(["je"] * (k * 7 % 30)) + f" Abuja{k}" for k in range(200)]
    for batch in ("auto", "1", "5"):
        result = ask(tags, "--batch", batch, "--json", given="\n".join(lines))
        assert [json.loads(line)["text"] for line in result.output.splitlines()] == lines


@pytest.fixture
def three_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("edgecompress.runtime.threads.usable_cores", lambda: 3)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    times = {1: 3.0, 2: 1.0, 3: 2.0}
    monkeypatch.setattr("edgecompress.runtime.threads.fastest", lambda *_, **__: times)
    return tmp_path / "cache"


def remembered(cache: Path) -> list[int]:
    return [json.loads(file.read_text())["threads"] for file in cache.rglob("*.json")]


def test_a_long_stream_finds_its_threads(tags: str, three_cores: Path, tmp_path: Path) -> None:
    short, longer = "je\n" * 20, "je\n" * 200
    automatic = CliRunner()
    assert automatic.invoke(command, [tags], input=short).exit_code == 0
    assert automatic.invoke(command, [tags, *["je"] * 70]).exit_code == 0
    assert ask(tags, given=longer).exit_code == 0  # the number was given
    assert remembered(three_cores) == []
    said = automatic.invoke(command, [tags], input=longer)
    assert said.stderr == ""
    assert said.output.count("nothing found") == 200
    assert remembered(three_cores) == [2]
    shutil.rmtree(three_cores)
    (tmp_path / "texts.txt").write_text(longer)
    assert automatic.invoke(command, [tags, "--input", str(tmp_path / "texts.txt")]).exit_code == 0
    assert remembered(three_cores) == [2]


def test_tuning_can_be_asked_for(tags: str, three_cores: Path) -> None:
    said = CliRunner().invoke(command, ["--tune", tags], input="not read\n")
    assert (said.exit_code, said.stdout) == (0, "")
    assert said.stderr == "threads: 2 (1: 3.00 ms; 2: 1.00 ms; 3: 2.00 ms)\n"
    assert remembered(three_cores) == [2]
    said = CliRunner().invoke(command, ["--tune", tags, "-"], input="je\n")
    assert said.stdout.startswith("je\n")
    said = ask("--tune", tags)
    assert said.exit_code == 2
    assert "leave --threads out" in said.output


def test_the_environment_may_give_the_threads(tags: str, three_cores: Path) -> None:
    longer = "je\n" * 200
    environment = {"EDGECOMPRESS_THREADS": "1"}
    assert CliRunner().invoke(command, [tags], input=longer, env=environment).exit_code == 0
    assert remembered(three_cores) == []


def test_a_damaged_bundle_is_said_in_one_sentence(tags: str) -> None:
    with (Path(tags) / "manifest.json").open("a") as stream:
        stream.write(" ")
    assert isinstance(ask(tags, "x").exception, BundleError)
    assert ask(tags, "--no-verify", "x").exit_code == 0
    said = subprocess.run([*RUN, tags, "x"], capture_output=True, text=True, check=False)
    assert said.returncode == 1
    assert "manifest.json: differs from its digest" in said.stderr
    assert "Traceback" not in said.stderr


def test_each_answer_comes_before_the_next_question(languages: str) -> None:
    with subprocess.Popen(
        [*RUN, languages, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        for text, label in (("sannu", "hau"), ("habari", "swa")):
            process.stdin.write(text.encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] == label
        process.stdin.close()
        assert process.wait(60) == 0


def test_a_pipe_holds_up_who_writes_into_it(languages: str) -> None:
    """Without a reader of the answers, only so much is read as pipes and one group hold."""
    with subprocess.Popen(
        [*RUN, languages, "--json"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"sannu\n")
        process.stdin.flush()
        process.stdout.readline()  # it has begun
        os.set_blocking(process.stdin.fileno(), False)
        line, written = b"habari " * 100 + b"\n", 0
        quiet = 0
        while quiet < 20 and written < 20_000_000:  # it waits a second, then it is held up
            try:
                written += os.write(process.stdin.fileno(), line * 10)
                quiet = 0
            except BlockingIOError:
                quiet += 1
                time.sleep(0.05)
        assert 0 < written < 1_000_000
        os.set_blocking(process.stdin.fileno(), True)
        process.stdout.close()
        process.stdin.close()
        assert process.wait(60) == 0


def test_an_interrupt_ends_it_without_words(languages: str) -> None:
    with subprocess.Popen(
        [*RUN, languages],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"sannu\n")
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"hau")
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
        assert process.stdout.read() == b""
        assert process.stderr.read() == b""


def test_a_reader_that_goes_away_is_no_error(languages: str) -> None:
    with subprocess.Popen(
        [*RUN, languages],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        process.stdin.write(b"sannu\n")
        process.stdin.flush()
        process.stdout.readline()
        process.stdout.close()
        process.stdin.write(b"habari\n" * 3)
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_ascii_terminal_gets_utf8_all_the_same(languages: str, options: list[str]) -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    said = subprocess.run(
        [*RUN, languages, *options],
        input="Ẹ kú\n".encode(),
        capture_output=True,
        env=environment,
        check=True,
    )
    assert "Ẹ kú" in said.stdout.decode("utf-8")


def test_files_with_columns(languages: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('id;tweet\n1;"sannu; ina\nkwana"\n2;habari\n')
    (tmp_path / "t.json").write_text('[{"id": "1", "note": "sannu"}, {"id": "2", "note": "x"}]')
    result = ask(languages, "--input", str(tmp_path / "t.csv"), "--json")
    said = [json.loads(line) for line in result.output.splitlines()]
    assert [(one["id"], one["text"]) for one in said] == [
        ("1", "sannu; ina\nkwana"), ("2", "habari")
    ]  # fmt: skip
    file = str(tmp_path / "t.json")
    named = ask(languages, "--input", file, "--columns", "text=note", "--json")
    assert [json.loads(line)["text"] for line in named.output.splitlines()] == ["sannu", "x"]
    wrong = ask(languages, "--input", file)
    assert isinstance(wrong.exception, DataError)
    assert "'id', 'note' (give --columns text=NAME)" in str(wrong.exception)
    many = [f"text {number}," for number in range(70)] + ["one,two,three"]
    (tmp_path / "long.csv").write_text("\n".join(["text,x", *many]))
    result = ask(languages, "--input", str(tmp_path / "long.csv"))
    assert len(result.output.splitlines()) == 70
    assert "long.csv:72: expected 2 columns" in str(result.exception)
    for arguments in (["--columns", "text"], ["--columns", "text=a", "habari"]):
        assert ask(languages, *arguments).exit_code == 2
