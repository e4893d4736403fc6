"""``edgecompress bundle``: verify and show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from click.testing import CliRunner

from edgecompress.cli.bundle import command
from edgecompress.errors import BundleError
from edgecompress.values import Candidate

MakeBundle = Callable[..., Path]


def test_a_whole_bundle_is_said_to_be_whole(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger, report_html="<p>")
    result = CliRunner().invoke(command, ["verify", str(bundle)])
    assert (result.exit_code, result.output) == (0, f"{bundle}: whole (core and evidence)\n")


def test_a_changed_byte_is_named(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger)
    (bundle / "preprocessor" / "tokenizer.json").write_text("{}")
    result = CliRunner().invoke(command, ["verify", str(bundle)])
    assert isinstance(result.exception, BundleError)
    assert result.exception.exit_code == 1
    assert "preprocessor/tokenizer.json: differs from its digest" in str(result.exception)


def test_the_core_alone_can_be_verified(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger, report_html="<p>")
    shutil.rmtree(bundle / "evidence")
    assert CliRunner().invoke(command, ["verify", str(bundle)]).exit_code == 1
    result = CliRunner().invoke(command, ["verify", "--core-only", str(bundle)])
    assert (result.exit_code, result.output) == (0, f"{bundle}: whole (core)\n")


def test_show_says_what_is_inside(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger, licences={"model": "Apache-2.0"})
    result = CliRunner().invoke(command, ["show", str(bundle)])
    assert result.exit_code == 0
    rows = dict(line.split(maxsplit=1) for line in result.output.splitlines())
    assert rows["task"] == "token-classification"
    assert rows["labels"] == "5: O, B-PER, I-PER, B-LOC, I-LOC"
    assert rows["steps"] == "export"
    assert rows["without"] == "ConstantFolding"
    assert rows["licences"] == "model: Apache-2.0"
    text = CliRunner().invoke(command, ["show", "--json", str(bundle)]).output
    assert text == (bundle / "manifest.json").read_text(encoding="utf-8")
    assert json.loads(text)["format"] == 1


def test_show_of_what_is_no_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["show", str(tmp_path)])
    assert isinstance(result.exception, BundleError)
