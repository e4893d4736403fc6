"""``edgecompress targets``: what it prints, its exit codes, and a board looked at and cleaned."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from boards import Server, free_port, sshd
from commands import in_process

from edgecompress.targets.emulated import prepared
from edgecompress.targets.emulated.setup import FOLDER_VARIABLE
from edgecompress.targets.kinds.emulated import EmulatedSpec
from edgecompress.targets.kinds.local import LocalSpec

BASE = getattr(sys, "_base_executable", sys.executable)


def run(*arguments: object, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"COLUMNS": "80", "XDG_CONFIG_HOME": str(folder), **variables}
    return in_process("targets", *arguments, cwd=folder, **environment)


def words(text: str) -> str:
    return " ".join(text.split())


def entry(server: Server, **further: object) -> str:
    """Write a board's entry of a fleet file, as JSON, which YAML reads too."""
    spec = server.spec(**further)
    return spec.model_dump_json(exclude_defaults=True, exclude={"name"})


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("targets") / "board") as server:
        yield server


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python without any library."""
    folder = tmp_path_factory.mktemp("bare") / "python"
    subprocess.run([BASE, "-m", "venv", "--without-pip", str(folder)], check=True)
    return str(folder / "bin" / "python")


def test_list_connects_to_nothing(tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text(
        "pi4: ssh://pi@raspberrypi.invalid\nold: {url: 'emulated://x86-avx2', samples: 50}\n"
    )
    done = run("list", folder=tmp_path)
    assert done.returncode == 0
    assert done.stderr == ""
    lines = [words(line) for line in done.stdout.splitlines()]
    assert "pi4 ssh://pi@raspberrypi.invalid latency, memory, energy, answers" in lines
    assert "old emulated://x86-avx2 answers, instructions; asked 50 examples" in lines
    assert any(line.startswith("emulated://cortex-a72") for line in lines)
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_list_without_a_fleet(tmp_path: Path) -> None:
    done = run("list", folder=tmp_path)
    assert done.returncode == 0
    assert "There is no targets.yaml" in done.stdout
    assert "local" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check", "pi5"], "unknown target 'pi5'; did you mean 'pi4'"),
        (["check", "emulated://cortex-a73"], "no processor 'cortex-a73' to emulate; did you mean"),
        (["prepare", "emulated://max"], "no processor 'max' to emulate"),
        (["check", "ssh://"], "no host is named; write ssh://user@host:port"),
        (["clean", "ssh://pi:secret@pi4"], "a password has no place in a URL"),
        (["check", "--targets", "none.yaml"], "File 'none.yaml' does not exist"),
        (["prepare"], "Missing argument 'NAME…'"),
        (["chek", "local"], "there is no command 'chek'; did you mean 'check'"),
    ],
)
def test_what_is_wrong_is_one_sentence(arguments: list[str], said: str, tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text("pi4: ssh://pi@raspberrypi.invalid\n")
    done = run(*arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in words(done.stderr.replace("│", " "))
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr
    assert done.stdout == ""


def test_a_fleet_that_is_wrong_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text("pi4:\n  url: ssh://pi@board\n  pyton: x\n")
    done = run("list", folder=tmp_path)
    assert done.returncode == 2
    assert "targets.yaml:3" in done.stderr
    assert "did you mean 'python'" in done.stderr


def test_nothing_to_check(tmp_path: Path) -> None:
    done = run("check", folder=tmp_path)
    assert done.returncode == 2
    assert "name a target, or write a targets.yaml" in done.stderr


def test_this_machine(tmp_path: Path) -> None:
    seen = LocalSpec(name="local", url="local", any_governor=True).check()
    assert seen.ready
    assert seen.facts is not None
    done = run("check", "local", folder=tmp_path)
    assert done.returncode == 0
    assert f"Python {seen.facts['python']}" in done.stdout
    assert "onnxruntime" in done.stdout
    assert "can measure latency, memory" in done.stdout
    for verb in ("prepare", "clean"):
        done = run(verb, "local", folder=tmp_path)
        assert done.returncode == 0
        assert done.stdout.startswith("local: ")


def test_an_external_meter_that_is_not_there(tmp_path: Path) -> None:
    spec = LocalSpec(name="here", url="local", meter=tmp_path / "power.csv")
    seen = spec.check()
    assert not seen.ready
    assert any("power.csv is not there" in one.what for one in seen.findings)
    (tmp_path / "power.csv").write_text("")
    assert "energy" in spec.check().can


@pytest.mark.debian("openssh-server")
def test_several_boards_one_of_them_off(board: Server, tmp_path: Path) -> None:
    off = f"ssh://{board.user}@127.0.0.1:{free_port()}"
    fleet = f"good: {entry(board)}\naway: {off}\nhere: local\n"
    (tmp_path / "fleet.yaml").write_text(fleet)
    done = run("check", "--targets", "fleet.yaml", folder=tmp_path)
    assert done.returncode == 1
    good, away, here = done.stdout.split("\n\n")
    assert good.startswith("good  ssh://")
    assert "✓ ready" in good
    assert "onnxruntime" in good
    assert away.startswith("away  ssh://")
    assert "is its SSH server enabled?" in words(away)
    assert "Traceback" not in done.stderr
    assert here.startswith("here")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert not board.litter()


@pytest.mark.debian("openssh-server")
def test_a_board_is_checked_prepared_and_cleaned(board: Server, bare: str, tmp_path: Path) -> None:
    (tmp_path / "targets.yaml").write_text(f"pi: {entry(board, python=bare)}\n")
    home = {"XDG_CACHE_HOME": str(tmp_path / "host")}
    lacking = run("check", "pi", folder=tmp_path, **home)
    assert lacking.returncode == 1
    assert "✗ no onnxruntime and no numpy" in lacking.stdout
    assert "run: edgecompress targets prepare pi" in lacking.stdout
    made = run("prepare", "pi", folder=tmp_path, **home)
    assert made.returncode == 0, made.stderr
    assert words(made.stdout).startswith("pi: ready: onnxruntime ")
    assert "pi: sending onnxruntime" in made.stderr
    again = run("prepare", "pi", folder=tmp_path, **home)
    assert again.stdout.startswith("pi: was ready already: ")
    assert run("check", "pi", folder=tmp_path, **home).returncode == 0
    cleaned = run("clean", "pi", folder=tmp_path, **home)
    assert cleaned.returncode == 0
    assert cleaned.stdout.startswith("pi: removed ")
    assert cleaned.stdout.endswith(" MB\n")
    board.wait_until_quiet()
    assert not board.cache.exists()
    assert run("clean", "pi", folder=tmp_path, **home).stdout == "pi: nothing was left there\n"


def test_one_that_fails_stops_no_other(tmp_path: Path) -> None:
    off = f"ssh://pi@127.0.0.1:{free_port()}"
    done = run("clean", off, "local", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("edgecompress: ")
    assert done.stderr.count("\n") == 1
    assert done.stdout.startswith("local: ")


def test_an_emulated_processor_that_is_not_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "emulation"))
    spec = EmulatedSpec(name="a72", url="emulated://cortex-a72")
    seen = spec.check()
    assert not seen.ready
    assert seen.error is None
    assert seen.findings[0].advice == "run: edgecompress targets prepare a72"
    assert spec.clean() == "nothing was left there"
    assert not prepared("cortex-a72")


@pytest.mark.debian("qemu-user")
def test_an_emulated_processor_is_prepared_and_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "emulation"))
    spec = EmulatedSpec(name="old", url="emulated://x86-avx2")
    said: list[str] = []
    assert spec.prepare(lambda done, total, what: said.append(what)).startswith("ready")
    assert said
    assert spec.prepare(lambda *_: None).startswith("was ready already")
    seen = spec.check()
    assert seen.facts is not None
    assert seen.facts["isa"] == ["avx2"]
    assert "memory_bytes" not in seen.facts
    assert spec.clean().startswith("removed ")
    assert not prepared(spec.url)
