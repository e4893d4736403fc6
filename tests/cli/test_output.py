"""A stranger's words on standard output: harmless at a terminal, whole in a pipe."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from fuzzing.bundles import ESCAPES

from edgecompress.bundle import write_bundle
from edgecompress.values import Candidate

COMMAND = [sys.executable, "-m", "edgecompress"]


def at_a_terminal(*arguments: str) -> str:
    """Run a command whose standard output is a terminal; give what it wrote there."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen([*COMMAND, *arguments], stdout=theirs, stdin=subprocess.DEVNULL)
    os.close(theirs)
    found = b""
    try:
        while piece := os.read(ours, 65_536):
            found += piece
    except OSError:  # the other end is closed: all is read
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=60) == 0
    return found.decode().replace("\r\n", "\n")


def test_names_and_labels_cannot_steer_the_terminal(tmp_path: Path, tagger: Candidate) -> None:
    labels = tuple(f"{label}{ESCAPES}" for label in tagger.labels)
    strange = Candidate(tagger.model, tagger.preprocessor, tagger.task, labels)
    recipe, versions = {"name": f"n{ESCAPES}"}, {"onnxruntime": f"1.0{ESCAPES}"}
    bundle = tmp_path / "bundle"
    write_bundle(bundle, strange, recipe, versions, licences={"model": f"MIT{ESCAPES}"})
    other = tmp_path / "other"
    write_bundle(other, tagger, {"name": "b"}, {})
    text = f"Muhammadu Buhari je Abuja {ESCAPES}"
    for arguments in (
        ("bundle", "show", str(bundle)),
        ("bundle", "show", str(bundle), "--json"),
        ("bundle", "diff", str(other), str(bundle)),
        ("bundle", "diff", str(other), str(bundle), "--json"),
        ("predict", str(bundle), text, "--threads", "1"),
        ("predict", str(bundle), text, "--threads", "1", "--json"),
    ):
        said = at_a_terminal(*arguments)
        for harmful in ("\x1b]", "\x1b[2J", "\r", "\x9b", "\u202e", "\u2028", "\x7f", "\x07"):
            assert harmful not in said, (arguments, harmful)
        if "--json" in arguments and arguments[0] == "predict":
            assert json.loads(said)["text"] == text


def test_a_pipe_gets_the_text_as_it_is(tmp_path: Path, tagger: Candidate) -> None:
    write_bundle(tmp_path / "bundle", tagger, {"name": "a"}, {})
    text = "Abuja \u202eje\u200b"
    command = [*COMMAND, "predict", str(tmp_path / "bundle"), text, "--json", "--threads", "1"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert text.encode() in done.stdout


@pytest.mark.parametrize(("variable", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_a_warning_is_coloured_at_a_terminal_only_and_steers_none(
    variable: dict[str, str], coloured: bool
) -> None:
    ours, theirs = pty.openpty()
    code = "from edgecompress.cli._output import beware; beware('a\\x1b[2Jb')"
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    subprocess.run(
        [sys.executable, "-c", code], stderr=theirs, env={**environment, **variable}, check=True
    )
    os.close(theirs)
    said = os.read(ours, 1000)
    os.close(ours)
    assert b"beware: a\\x1b[2Jb" in said
    assert (b"\x1b[33m" in said) == coloured
