"""What is said about installing works as it stands, wherever edgecompress came from."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

from edgecompress import installing
from edgecompress.images.wheel import write_own_wheel

ROOT = Path(__file__).parents[1]
DECLARED = "Provides-Extra: pack\nRequires-Dist: brought; extra == 'pack'\n"


def make_wheel(folder: Path) -> Path:
    """Write a wheel of this code whose extra `pack` needs one package, and that package."""
    plain, _ = write_own_wheel(folder)
    full = folder / "a folder" / plain.name
    full.parent.mkdir()
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(full, "w") as new:
        for name in old.namelist():
            text = old.read(name)
            new.writestr(name, text + DECLARED.encode() if name.endswith("METADATA") else text)
    about = "brought-1.dist-info"
    with zipfile.ZipFile(folder / "brought-1-py3-none-any.whl", "w") as tiny:
        tiny.writestr("brought.py", "")
        tiny.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: brought\nVersion: 1\n")
        tiny.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        tiny.writestr(f"{about}/RECORD", "")
    return full


class Environment:
    """A virtual environment whose pip finds what lies in a folder, and nothing else."""

    def __init__(self, folder: Path, packages: Path) -> None:
        venv.create(folder, with_pip=True)
        self.python = folder / "bin" / "python"
        self.site = next(folder.glob("lib/python*/site-packages"))
        self.environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("PIP_", "PYTHON"))},
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(packages),
            "PIP_CONFIG_FILE": os.devnull,
            "PATH": "/usr/bin:/bin",
        }

    def shell(self, command: str) -> str:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            capture_output=True,
            text=True,
            env=self.environment,
            cwd="/",
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def said(self, extra: str = "pack") -> str:
        code = f"from edgecompress.installing import install_extra as f; print(f({extra!r}))"
        return self.shell(shlex.join([str(self.python), "-c", code])).strip()

    def record(self, document: object) -> None:
        file = next(self.site.glob("edgecompress-*.dist-info")) / "direct_url.json"
        file.write_text(json.dumps(document), encoding="utf-8")


def test_of_a_wheel_the_line_brings_the_extra(tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path)
    used = Environment(tmp_path / "venv", tmp_path)
    pip = shlex.join([str(used.python), "-m", "pip"])
    used.shell(f"{pip} install --quiet {shlex.quote(str(wheel))}")

    line = used.said().removeprefix("run: ")
    assert f"{wheel}[pack]" in line
    used.shell(line)
    used.shell(f"{used.python} -c 'import brought'")

    used.shell(f"{pip} uninstall --quiet --yes brought")
    wheel.unlink()  # pip then reads in what is installed what the extra needs
    line = used.said().removeprefix("run: ")
    assert str(wheel) not in line
    used.shell(line)
    used.shell(f"{used.python} -c 'import brought'")

    for recorded, requirement in (
        ({"url": "https://example.org/e.whl"}, "edgecompress[pack] @ https://example.org/e.whl"),
        (
            {"url": "https://example.org/e", "vcs_info": {"vcs": "git", "commit_id": "abc"}},
            "edgecompress[pack] @ git+https://example.org/e@abc",
        ),
        ([], "edgecompress[pack]"),
        ({"url": "file:///gone"}, "edgecompress[pack]"),
    ):
        used.record(recorded)
        assert shlex.split(used.said())[-1] == requirement
    assert "answering only" in used.said("build")


def test_of_a_checkout_the_line_names_its_folder() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for extra in project["optional-dependencies"]:
        words = shlex.split(installing.install_extra(extra).removeprefix("run: "))
        assert words[-2:] == ["--editable", f"{ROOT}[{extra}]"]
        own = ROOT / f"constraints-{extra}.txt"
        fixed = own if own.is_file() else ROOT / "constraints.txt"
        assert words[-4:-2] == ["--constraint", str(fixed)]


def test_the_line_is_for_the_python_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = tmp_path / "my env" / "python"
    monkeypatch.setattr("sys.executable", str(python))
    assert shlex.split(installing.pip_install("x"))[0] == str(python)
    python.parent.mkdir()
    beside = python.with_name("pip")
    beside.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(python.parent))
    assert installing.pip_install("a b[c]") == "pip install 'a b[c]'"


def test_no_page_and_no_message_asks_an_index_for_edgecompress() -> None:
    files = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("edgecompress/**/*.py")]
    wrong = re.compile(r"pip install [^\n]*\bedgecompress(\[\w+\])?(?=['\"` ]|$)(?!'s)")
    own = Path(str(installing.__file__))  # says why not
    assert not [
        f"{file}: {found[0]}"
        for file in files
        if file != own
        for found in wrong.finditer(file.read_text(encoding="utf-8"))
    ]
