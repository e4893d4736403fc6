"""What an image is made of: the build context, its own wheel, the locks, and who builds it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import small_images as small
from click.testing import CliRunner, Result
from every_kind import asked_of, write_bundle_of, write_inputs
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from edgecompress.cli.image import image as command
from edgecompress.errors import BundleError, ImageError
from edgecompress.images.context import default_base, read_lock, wheels_for, write_context
from edgecompress.images.engines import build_command, find_engine
from edgecompress.images.wheel import EPOCH, write_own_wheel
from edgecompress.processors import TextProcessor
from edgecompress.runtime.health import main as health
from edgecompress.values import Candidate, directory_digests

ROOT = Path(__file__).parent.parent.parent
LOCKS = sorted((ROOT / "docker").glob("*.lock"))

MakeBundle = Callable[..., Path]


@pytest.fixture
def bundle(tagger: Candidate, make_bundle: MakeBundle) -> Path:
    return make_bundle(tagger, report_html="<p>")


def only(programs: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide all programs but these, which are scripts of the shell."""
    place = tmp_path / "bin"
    place.mkdir()
    for name, script in programs.items():
        (place / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        (place / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(place))


def image(*arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def test_a_context_is_the_same_bytes_in_another_place(bundle: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "some" / "where" / "b"
    assert not write_context(bundle, first, base="base")
    write_context(bundle, second, base="base")
    assert directory_digests(first) == directory_digests(second)
    for folder in (first, second):
        assert {path.stat().st_mtime for path in folder.rglob("*")} == {EPOCH}
        modes = {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}
        assert modes == {0o644}


def test_a_context_holds_the_core_and_no_evidence(bundle: Path, tmp_path: Path) -> None:
    write_context(bundle, tmp_path / "context", base="base")
    inside = set(directory_digests(tmp_path / "context"))
    assert "bundle/model.onnx" in inside
    assert "bundle/core.sha256" in inside
    assert not [name for name in inside if "evidence" in name]
    shutil.rmtree(bundle / "evidence")
    (bundle / "evidence.sha256").unlink()
    write_context(bundle, tmp_path / "again", base="base")
    assert directory_digests(tmp_path / "again") == directory_digests(tmp_path / "context")


def test_its_dockerfile_names_the_base(bundle: Path, tmp_path: Path) -> None:
    base = r"registry.test/a\1b@sha256:" + "0" * 64
    write_context(bundle, tmp_path / "context", base=base)
    text = (tmp_path / "context" / "Dockerfile").read_text(encoding="utf-8")
    assert f"\nARG BASE={base}\n" in text
    write_context(bundle, tmp_path / "context")  # one that is there is replaced
    text = (tmp_path / "context" / "Dockerfile").read_text(encoding="utf-8")
    assert f"\nARG BASE={default_base()}\n" in text


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that is asked about images."""
    folder = tmp_path_factory.mktemp("pictures")
    asked = asked_of("image-classification", write_inputs(folder))
    return write_bundle_of("image-classification", folder / "made", asked)


def test_a_bundle_gets_what_its_task_needs_and_no_other(
    bundle: Path, pictures: Path, tmp_path: Path
) -> None:
    named = {}
    for place in (bundle, pictures):
        write_context(place, tmp_path / "context", base="base")
        lock = (tmp_path / "context" / "requirements.lock").read_text(encoding="utf-8")
        named[place] = {name.partition("==")[0] for name in read_lock(lock)}
    assert named[pictures] - named[bundle] == {"pillow"} and named[bundle] < named[pictures]


def test_what_no_lock_has_is_said(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TextProcessor, "extra", "sound")
    with pytest.raises(ImageError, match=r"needs the extra sound.*runtime-sound\.lock is missing"):
        write_context(bundle, tmp_path / "context", base="base")
    assert not (tmp_path / "context").exists()


def test_the_health_check_asks_a_bundle(
    bundle: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for place in (bundle, pictures):
        assert health(str(place)) == 0 and capsys.readouterr().out.strip()
    (bundle / "model.onnx").write_bytes(b"")
    assert health(str(bundle)) == 1 and "model.onnx" in capsys.readouterr().err


def test_nothing_else_is_replaced(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(ImageError, match="exists and is no build context"):
        write_context(bundle, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").exists()


def test_a_damaged_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleError, match=r"model\.onnx: differs from its digest"):
        write_context(bundle, tmp_path / "context")
    assert not (tmp_path / "context").exists()


def test_our_wheel_can_be_installed(tmp_path: Path) -> None:
    wheel, requirement = write_own_wheel(tmp_path)
    (tmp_path / "again").mkdir()
    assert write_own_wheel(tmp_path / "again")[0].read_bytes() == wheel.read_bytes()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index"]
    pip += ["--find-links", str(tmp_path), "--target", str(tmp_path / "site"), requirement]
    subprocess.run(pip, check=True)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "PYTHONSAFEPATH": "1"}
    code = (
        "import edgecompress.images.context as i\n"
        "print(i.__file__, i.resource_folder('docker'), i.resource_folder('models'))"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    file, resources, recipes = map(Path, said.stdout.split())
    assert file.is_relative_to(tmp_path)
    assert sorted(path.name for path in resources.iterdir()) == [
        "runtime-image.lock",
        "runtime.Dockerfile",
        "runtime.lock",
    ]
    assert (recipes / "quickstart.yaml").is_file()
    with zipfile.ZipFile(wheel) as archive:
        assert not [name for name in archive.namelist() if "__pycache__" in name]


@pytest.mark.parametrize("file", LOCKS, ids=lambda file: file.name)
def test_a_lock_holds_hashes_and_no_address(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    lock = read_lock(text)
    assert lock
    assert "://" not in text
    assert "--index" not in text
    for name, hashes in lock.items():
        assert name.count("==") == 1
        assert hashes
        assert all(len(each) == 64 and int(each, 16) >= 0 for each in hashes)


def test_locks_have_the_versions_of_the_constraints() -> None:
    pairs = [line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split()]
    fixed = {canonicalize_name(name): version for name, version in pairs}
    for name in ("runtime", "runtime-image", "builder", "source"):
        for package, version in locked(name).items():
            assert fixed[package] == version.partition("+")[0], f"run: make lock ({name}.lock)"


def test_locks_hold_all_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    base, extras = project["dependencies"], project["optional-dependencies"]
    for texts, found in (
        ([*base, *extras["serve"]], locked("runtime")),
        (extras["image"], locked("runtime-image")),
        ([*base, *extras["build"]], locked("builder") | locked("source")),
    ):
        for wanted in map(Requirement, texts):
            version = found.get(canonicalize_name(wanted.name), "0")
            assert wanted.specifier.contains(version), f"run: make lock ({wanted})"


def locked(name: str) -> dict[str, str]:
    """Read the versions of a lock by package."""
    lock = read_lock((ROOT / "docker" / f"{name}.lock").read_text(encoding="utf-8"))
    return {package: version for package, _, version in (each.partition("==") for each in lock)}


def test_only_wheels_of_the_lock_are_taken(tmp_path: Path) -> None:
    good, other = b"good", b"other"
    lock = {"a==1": frozenset({hashlib.sha256(good).hexdigest()}), "b==1": frozenset()}
    (tmp_path / "a-1-py3-none-manylinux_2_28_aarch64.whl").write_bytes(good)
    (tmp_path / "b-1-py3-none-any.whl").write_bytes(other)
    assert wheels_for("x86_64", lock, tmp_path) == {}
    assert wheels_for("aarch64", lock, tmp_path).keys() == {"a==1"}


def test_without_an_engine_it_says_what_to_do(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only({}, tmp_path, monkeypatch)
    said = image(bundle)
    assert isinstance(said.exception, ImageError)
    assert "install one, or write the build context with --context-only" in str(said.exception)
    with pytest.raises(ImageError, match="podman is not installed; install it or choose another"):
        find_engine("podman")
    said = image(bundle, "--context-only", tmp_path / "context")
    assert said.exit_code == 0, said.output
    assert (tmp_path / "context" / "Dockerfile").is_file()


def test_a_docker_whose_server_is_away_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only({"docker": "exit 1", "buildah": "exit 0"}, tmp_path, monkeypatch)
    assert find_engine() == "buildah"
    with pytest.raises(ImageError, match="its server does not answer"):
        find_engine("docker")


def test_docker_is_called_and_its_image_named(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = small.tar({"opt/edgecompress/a.py": b"", "bundle/x": b"", "sbom.cdx.json": b"{}"})
    layers = [small.tar(small.system("arm64")), ours]
    built = small.docker(layers, small.config(layers, "arm64", User="1"))
    (tmp_path / "built").write_bytes(small.tar(built))
    script = (
        f'for word in "$@"; do echo "$word" >> "{tmp_path}/said"; done\n'
        f'[ "$1" = save ] && exec {shutil.which("cp")} "{tmp_path}/built" "$3"\n'
        'while [ $# -gt 0 ]; do [ "$1" = --iidfile ] && echo sha256:1234 > "$2"; shift; done\n'
        "exit 0"
    )
    only({"docker": script}, tmp_path, monkeypatch)
    said = image(bundle, "--tag", "a b; c", "--platform", "linux/arm64", "--base", "x@sha256:1")
    assert said.exit_code == 0, said.output
    assert re.fullmatch("a b; c linux/arm64 sha256:[0-9a-f]{64}", said.output.splitlines()[-1])
    words = (tmp_path / "said").read_text(encoding="utf-8").splitlines()
    assert words[words.index("--tag") + 1] == "a b; c"  # no shell has read it
    assert words[words.index("--platform") + 1] == "linux/arm64"


def test_an_engine_that_fails_is_an_error(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    only({"docker": '[ "$1" = version ] || exit 3'}, tmp_path, monkeypatch)
    said = image(bundle, "--base", "x@sha256:1")
    assert isinstance(said.exception, ImageError)
    assert "docker did not build the image (exit code 3)" in str(said.exception)


def test_commands_leave_no_trace_of_builder_and_time() -> None:
    made = build_command("podman", Path("context"), tag="t", platform="linux/arm64")
    assert made[:2] == ["podman", "build"]
    assert {"--identity-label=false", "--timestamp"} < set(made)
    assert made[made.index("--format") + 1] == "docker"
    docker = build_command("docker", Path("context"), tag="t", platform="linux/arm64")
    assert "--timestamp" not in docker
    assert f"SOURCE_DATE_EPOCH={EPOCH}" in docker
