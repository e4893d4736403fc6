"""The runtime image: built twice, and asked on amd64 and, emulated, on arm64. No registry."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import edgecompress
from edgecompress.errors import TargetError
from edgecompress.targets.emulated.setup import Prepared, ready

pytestmark = [
    pytest.mark.debian("buildah"),
    pytest.mark.debian("podman"),
    pytest.mark.debian("runc"),
    pytest.mark.debian("mmdebstrap"),
]

TEXTS = ("Muhammadu Buhari a Abuja", "Ikeja", "", "je " * 20)
BASE = "localhost/base-{}"
IMAGES = {"first": "amd64", "board": "arm64"}
LIMIT = 180_000_000
"""Bytes that the layers above the base may have, uncompressed."""
# runc may not raise limits above the caller's in every CI; these are below all of them.
PODMAN = (
    "podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs", "run", "--rm", "--interactive",
    "--no-healthcheck", "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
    "--read-only", "--network", "none",
)  # fmt: skip

Image = Callable[[str], str]
Inspect = Callable[[str], dict]
Run = Callable[..., str]


@pytest.fixture(scope="session")
def answers(bundle: Path) -> list[dict]:
    """What the bundle answers on this host."""
    said = [answer.to_json() for answer in edgecompress.load(bundle, threads=1).predict(TEXTS)]
    assert [len(each["entities"]) for each in said] == [2, 1, 0, 0]
    return said


def same(lines: str, answers: list[dict]) -> None:
    """Compare answers: all equal, scores up to the last bits of exp()."""
    given = [json.loads(line) for line in lines.splitlines()]
    scores = [[each.pop("score") for each in one["entities"]] for one in given]
    expected = json.loads(json.dumps(answers))
    should = [[each.pop("score") for each in one["entities"]] for one in expected]
    assert given == expected
    for one, other in zip(scores, should, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def ask(image: str, *arguments: str, given: str = "", before: tuple[str, ...] = ()) -> str:
    done = subprocess.run(
        [*PODMAN, *before, image, *arguments], input=given, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_two_builds_make_the_same_image(image: Image, store: Run) -> None:
    assert image("first") == image("second")
    listed = json.loads(store("buildah", "images", "--json", "localhost/second"))
    assert image("second").startswith(f"sha256:{listed[0]['id']}")


def test_it_answers_as_the_bundle_on_the_host(image: Image, answers: list[dict]) -> None:
    built = image("first")
    same(ask(built, "--json", given="\n".join(TEXTS) + "\n"), answers)
    same(ask(built, "--json", TEXTS[0]), answers[:1])


def test_its_settings(image: Image, inspect: Inspect) -> None:
    built = image("first")
    found = inspect(built)
    settings = found["config"]
    assert settings["User"] == "65532:65532"
    assert found["architecture"] == "amd64"
    # The health check is what an engine would run, in the running container.
    words = settings["Healthcheck"]["Test"]
    assert words[0] == "CMD"
    program, *arguments = words[1:]
    assert ask(built, *arguments, before=("--entrypoint", program)).startswith("health")


def test_it_is_nobody_and_writes_nothing(image: Image) -> None:
    built = image("first")
    code = (
        "import os\nprint(os.getuid(), os.getgid())\n"
        "for path in ('/', '/bundle', '/opt/edgecompress', '/tmp'):\n"
        "    print(path, os.access(path, os.W_OK))\n"
    )
    said = ask(built, "-c", code, before=("--entrypoint", "python3", "--read-only-tmpfs=false"))
    lines = said.splitlines()
    assert lines[0] == "65532 65532"
    assert {line.split()[1] for line in lines[1:]} == {"False"}


@pytest.mark.parametrize("name", ["first", "board"])
def test_its_layers_are_small(
    name: str, image: Image, store: Run, record_property: Callable[..., None]
) -> None:
    image(name)
    base = BASE.format(IMAGES[name])
    sizes = [
        int(json.loads(store("podman", "image", "inspect", each))[0]["Size"])
        for each in (f"localhost/{name}", base)
    ]
    record_property("bytes_above_base", sizes[0] - sizes[1])
    assert 50_000_000 < sizes[0] - sizes[1] < LIMIT


def test_on_arm64_it_answers_the_same(
    image: Image, answers: list[dict], inspect: Inspect, store: Run
) -> None:
    try:
        processor = ready("cortex-a72")
    except TargetError as error:
        pytest.skip(f"needs the Debian package qemu-user: {error}")
    built = image("board")
    settings = inspect(built)
    assert settings["architecture"] == "arm64"
    root = Path(store("buildah", "mount", store("buildah", "from", "--pull-never", built)))
    add_processor(root, processor)
    environment = [f"{name}={value}" for name, _, value in split(settings["config"]["Env"])]
    user, _, group = settings["config"]["User"].partition(":")
    program, *arguments = settings["config"]["Entrypoint"]
    # QEMU lays the image's root over the host's: all paths of the command are the image's.
    command = ["env", "-i", "PATH=/usr/bin", *processor_command(processor, root)]
    command += [part for setting in environment for part in ("-E", setting)]
    command += [str(root / "usr/bin" / program), *arguments, "--threads", "1", "--json"]
    done = subprocess.run(
        command,
        input="\n".join(TEXTS) + "\n",
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        user=int(user),
        group=int(group),
        extra_groups=(),
    )
    assert done.returncode == 0, done.stderr
    same(done.stdout, answers)


def split(settings: list[str]) -> list[tuple[str, str, str]]:
    return [setting.partition("=") for setting in settings]


def processor_command(processor: Prepared, root: Path) -> list[str]:
    return [*processor.qemu, "-cpu", processor.cpu.model, "-L", str(root)]


def add_processor(root: Path, processor: Prepared) -> None:
    """Put the emulated processor's own /proc/cpuinfo and /sys into the container's root."""
    for name in ("proc/cpuinfo", *(f"sys/devices/system/cpu/{n}" for n in ("possible", "online"))):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((processor.view / name).read_bytes())
    for folder in (root, *root.parents):  # the user of the image must reach what lies in it
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o711)
