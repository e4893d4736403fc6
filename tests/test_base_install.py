"""The base install alone, in an environment of its own, without network: what a board carries."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from base_install import NEEDED, ROOT, Bare, base_distributions, environment

import edgecompress
from edgecompress.values import Candidate

NOT_THERE = ("torch", "transformers", "optimum", "onnx", "pydantic", "neural_compressor", "rich")

MakeBundle = Callable[..., Path]


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """Make the environment; give a function that runs its Python, in an empty folder."""
    return environment(tmp_path_factory.mktemp("base-install"))


def test_it_is_the_base_install_and_nothing_more(bare: Bare) -> None:
    code = (
        "import json, sys\nfrom importlib.util import find_spec\n"
        f"print(json.dumps({{name: bool(find_spec(name)) for name in {NOT_THERE!r}}}))\n"
        "print(json.dumps(sys.path))\n"
    )
    seen, path = map(json.loads, bare("-c", code).stdout.splitlines())
    assert seen == dict.fromkeys(NOT_THERE, False)
    assert sys.prefix not in " ".join(path)
    assert str(ROOT) not in path


def test_it_predicts_from_the_command_line(
    bare: Bare, tagger: Candidate, make_bundle: MakeBundle
) -> None:
    bundle = str(make_bundle(tagger, report_html="<p>"))
    said = bare("-m", "edgecompress", "predict", bundle, "--json", given="Muhammadu Buhari\nje\n")
    first, second = (json.loads(line) for line in said.stdout.splitlines())
    assert [entity["label"] for entity in first["entities"]] == ["PER"]
    assert second["entities"] == []
    assert said.stderr == ""


def test_it_verifies_and_shows(bare: Bare, classifier: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(classifier, report_html="<p>")
    assert "whole" in bare("-m", "edgecompress", "bundle", "verify", str(bundle)).stdout
    assert "text-classification" in bare("-m", "edgecompress", "bundle", "show", str(bundle)).stdout
    (bundle / "model.onnx.data").write_bytes(b"")
    said = bare("-m", "edgecompress", "bundle", "verify", str(bundle), check=False)
    assert said.returncode == 1
    assert "model.onnx.data: differs from its digest" in said.stderr
    assert "Traceback" not in said.stderr


def test_load_answers_as_the_whole_install_does(
    bare: Bare, classifier: Candidate, make_bundle: MakeBundle
) -> None:
    bundle = make_bundle(classifier)
    texts = ["sannu ina", "Habari ya asubuhi?", "je " * 40, ""]
    code = (
        "import json, sys, edgecompress\n"
        f"predictor = edgecompress.load({str(bundle)!r}, threads=1)\n"
        f"print(json.dumps([said.to_json() for said in predictor.predict({texts!r})]))\n"
        f"assert not set({NOT_THERE!r}) & set(sys.modules)\n"
    )
    here = [said.to_json() for said in edgecompress.load(bundle, threads=1).predict(texts)]
    assert json.loads(bare("-c", code).stdout) == here


def test_four_packages_are_all_that_answering_imports(
    bare: Bare, tagger: Candidate, make_bundle: MakeBundle
) -> None:
    """What docs/runtime.md leaves out of a board's install is not touched, the hub's least of all.

    The import of anything else fails here, also where it would only be tried.
    """
    folders = {
        name: {Path(file.parts[0]).name.partition(".")[0] for file in found.files or ()}
        for name, found in base_distributions().items()
    }
    left_out = set().union(*(tops for name, tops in folders.items() if name not in NEEDED))
    left_out -= set().union(*(folders[name] for name in NEEDED))
    assert {"huggingface_hub", "httpx", "tqdm", "yaml"} <= left_out
    bundle = str(make_bundle(tagger))
    code = (
        "import sys\n"
        "class Refuse:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {left_out!r}: raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Refuse())\n"
        "from edgecompress.cli.main import main\n"
        f"main(['predict', {bundle!r}, 'Abuja', '--json'])\n"
    )
    assert json.loads(bare("-c", code).stdout)["entities"][0]["label"] == "LOC"


def test_the_base_install_is_small() -> None:
    """For aarch64, `benchmarks/runtime.py --sizes` says it package by package."""
    found = base_distributions()
    files = [file for each in found.values() for file in each.files or () if file.suffix != ".pyc"]
    there = [Path(str(file.locate())) for file in files]
    assert sum(file.stat().st_size for file in there if file.is_file()) < 160e6


def test_onnxruntime_writes_nothing_below_home(
    bare: Bare, tagger: Candidate, make_bundle: MakeBundle
) -> None:
    code = (
        "from pathlib import Path; import edgecompress\n"
        f"edgecompress.load({str(make_bundle(tagger))!r}).predict('Abuja')\n"
        "print(*Path.home().rglob('*'))\n"
    )
    assert bare("-c", code).stdout.strip() == ""


@pytest.mark.parametrize("arguments", [["--help"], ["predict", "--help"], ["bundle", "--help"]])
def test_help_needs_no_extra(bare: Bare, arguments: list[str]) -> None:
    said = bare("-m", "edgecompress", *arguments)
    assert said.stdout.startswith("Usage:")


def test_what_needs_the_build_extra_says_so(bare: Bare) -> None:
    said = bare("-m", "edgecompress", "check", "recipe.yaml", check=False)
    assert said.returncode == 2
    assert "in the folder of edgecompress's source run: pip install '.[build]'" in said.stderr
    assert "Traceback" not in said.stderr
