"""``edgecompress predict``: texts, standard input, JSON lines, and what bad input gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edgecompress.cli.predict import command
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
        ("{text", "not JSON"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_malformed_json_line_is_named(tags: str, line: str, says: str) -> None:
    result = ask(tags, "--jsonl", given=f'{{"text": "fine"}}\n{line}\n')
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("<stdin>:2: ")
    assert says in str(result.exception)


def test_text_that_is_not_utf8_is_named(tags: str) -> None:
    result = ask(tags, given=b"fine\n\xff\xfe\n")
    assert isinstance(result.exception, DataError)
    assert str(result.exception).startswith("<stdin>:2: not UTF-8")


def test_json_lines_and_texts_exclude_each_other(tags: str) -> None:
    result = ask(tags, "--jsonl", "text")
    assert result.exit_code == 2
    assert "leave the texts out" in result.output


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
