"""The base install alone, in an environment of its own, without network: what a board carries.

The environment is a fresh one whose site-packages hold links to just those installed packages that
the project's own dependency list reaches. Nothing of the environment that runs the tests is
visible in it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Callable
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import edgecompress
from edgecompress.values import Candidate

ROOT = Path(__file__).parent.parent
NOT_THERE = ("torch", "transformers", "optimum", "onnx", "pydantic", "neural_compressor", "rich")

MakeBundle = Callable[..., Path]
Bare = Callable[..., subprocess.CompletedProcess[str]]


def base_distributions() -> dict[str, Distribution]:
    """Find the installed distributions that ``dependencies`` in pyproject.toml reaches."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    waiting = [Requirement(text) for text in project["dependencies"]]
    found: dict[str, Distribution] = {}
    while waiting:
        wanted = waiting.pop()
        if wanted.marker and not wanted.marker.evaluate({"extra": ""}):
            continue
        name = re.sub(r"[-_.]+", "-", wanted.name).lower()
        if name not in found:
            found[name] = distribution(name)
            waiting += [Requirement(text) for text in found[name].requires or ()]
    return found


@pytest.fixture(scope="session")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """Make the environment; give a function that runs its Python, in an empty folder."""
    folder = tmp_path_factory.mktemp("base-install")
    home = folder / "home"
    home.mkdir()
    venv.create(folder / "venv", with_pip=False, symlinks=True)
    paths = {"base": str(folder / "venv"), "platbase": str(folder / "venv")}
    packages = Path(sysconfig.get_path("purelib", "venv", paths))
    for found in base_distributions().values():
        for top in {Path(file.parts[0]) for file in found.files or () if file.parts[0] != ".."}:
            if top.name != "__pycache__" and not (packages / top).exists():
                (packages / top).symlink_to(found.locate_file(top))  # type: ignore[arg-type]
    # A copy: edgecompress itself must not find the checkout's models/ and tests/ beside it.
    source = Path(edgecompress.__file__).parent
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(source, packages / "edgecompress", ignore=ignore)

    def run(
        *arguments: str, given: str = "", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(folder / "venv" / "bin" / "python"), *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=check,
            cwd=home,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )

    return run


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
    needed = {"click", "numpy", "onnxruntime", "tokenizers"}
    left_out = set().union(*(tops for name, tops in folders.items() if name not in needed))
    left_out -= set().union(*(folders[name] for name in needed))
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
