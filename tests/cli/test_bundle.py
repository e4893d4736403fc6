"""``edgecompress bundle``: verify and show."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edgecompress.bundle.digests import core_digest
from edgecompress.cli.bundle import bundle as command
from edgecompress.cli.main import cli
from edgecompress.comparison.side import read_side
from edgecompress.errors import BundleError
from edgecompress.values import Candidate, file_digest

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


COMMANDS = (
    "bundle show {}", "bundle verify {}", "bundle pack {}", "bundle diff {} {}", "predict {} text",
    "serve {} --port 0", "image {} --context-only /nowhere", "reproduce {}",
    "bundle verify {} --key {key}", "predict {} text --no-verify",
)  # fmt: skip
"""Every command that opens a bundle's directory."""


@pytest.mark.parametrize("line", COMMANDS)
def test_a_run_is_no_bundle_and_the_one_in_it_is_named(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path, line: str
) -> None:
    run = make_bundle(tagger, "run/bundle").parent
    (run / "results.json").write_text("{}")
    (tmp_path / "key.pem").write_bytes(public_key())
    words = [one.format(run, key=tmp_path / "key.pem") for one in line.split()]
    found = CliRunner().invoke(cli, words)
    assert isinstance(found.exception, BundleError), found.output
    assert f"{run}: holds a bundle and is none; did you mean {run / 'bundle'}?" in str(
        found.exception
    )
    shutil.rmtree(run / "bundle")
    found = CliRunner().invoke(cli, words)
    assert isinstance(found.exception, BundleError), found.output
    assert "is a run's directory in which no candidate was chosen" in str(found.exception)


def public_key() -> bytes:
    key = Ed25519PrivateKey.generate().public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_one_digest_names_a_core_everywhere(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger, report_html="<p>")
    core = core_digest(bundle)
    assert core == file_digest(bundle / "core.sha256") == read_side(bundle).digest
    assert core == read_side(bundle, verify=False).digest
    shown = CliRunner().invoke(command, ["show", str(bundle)]).output
    assert dict(line.split(maxsplit=1) for line in shown.splitlines())["core_sha256"] == core
    compared = CliRunner().invoke(command, ["diff", str(bundle), str(bundle), "--json"]).output
    assert json.loads(compared)["old"]["core_sha256"] == core


def test_show_of_what_is_no_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["show", str(tmp_path)])
    assert isinstance(result.exception, BundleError)


WITHOUT_NUMPY = """
import sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numpy", "onnxruntime", "tokenizers"):
            raise ImportError(name)

sys.meta_path.insert(0, Refused())
from edgecompress.cli.main import main

main(["bundle", *sys.argv[1:]])
"""


@pytest.mark.parametrize("command", ["verify", "show"])
def test_an_image_for_another_processor_is_verified_where_numpy_is_not(
    command: str, tagger: Candidate, make_bundle: MakeBundle
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NUMPY, command, str(make_bundle(tagger))],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
