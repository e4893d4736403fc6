"""The runtime image: asked on amd64 and, emulated, on arm64. No registry."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgecompress
from edgecompress.targets.emulated.cpus import cpuinfo, find_cpu

pytestmark = [
    pytest.mark.debian("buildah"),
    pytest.mark.debian("podman"),
    pytest.mark.debian("runc"),
    pytest.mark.debian("mmdebstrap"),
    pytest.mark.debian("qemu-user-static"),
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


@pytest.fixture(scope="session")
def within(image: Image, inspect: Inspect) -> dict[str, Any]:
    """What one container finds in itself: without overlay each new one is a copy of the image."""
    settings = inspect(image("first"))["config"]
    code = (
        "import json, os, subprocess, sys, time, urllib.request\n"
        f"settings, text = json.loads({json.dumps(settings)!r}), {TEXTS[0]!r}\n"
        "def run(words):\n"
        "    return subprocess.run(words, capture_output=True, text=True).stdout\n"
        "paths = ('/', '/bundle', '/opt/edgecompress', '/tmp')\n"
        "found = {'user': [os.getuid(), os.getgid()]}\n"
        "found['written'] = [path for path in paths if os.access(path, os.W_OK)]\n"
        "found['health'] = run(settings['Healthcheck']['Test'][1:])\n"
        "found['answer'] = run([*settings['Entrypoint'], '--json', text])\n"
        "command = [sys.executable, '-m', 'edgecompress', 'serve', '/bundle', '--port', '8000']\n"
        "with subprocess.Popen([*command, '--threads', '1'], stdout=2) as service:\n"
        "    while service.poll() is None:\n"
        "        try:\n"
        "            answer = urllib.request.urlopen('http://127.0.0.1:8000/health')\n"
        "            found['served'] = answer.status\n"
        "            service.terminate()\n"
        "            break\n"
        "        except OSError:\n"
        "            time.sleep(0.2)\n"
        "found['ended'] = service.returncode\n"
        "print(json.dumps(found))\n"
    )
    options = ("--entrypoint", "python3", "--read-only-tmpfs=false")
    found: dict[str, Any] = json.loads(ask(image("first"), "-c", code, before=options))
    return found


def test_it_answers_as_the_bundle_on_the_host(
    image: Image, answers: list[dict], within: dict[str, Any]
) -> None:
    same(ask(image("first"), "--json", given="\n".join(TEXTS) + "\n"), answers)
    same(within["answer"], answers[:1])


def test_its_settings(image: Image, inspect: Inspect, store: Run, within: dict[str, Any]) -> None:
    found = inspect(image("first"))
    listed = json.loads(store("buildah", "images", "--json", "localhost/first"))
    assert image("first").startswith(f"sha256:{listed[0]['id']}")
    settings = found["config"]
    assert settings["User"] == "65532:65532"
    assert found["architecture"] == "amd64"
    # The health check is what an engine would run, in the running container.
    assert settings["Healthcheck"]["Test"][0] == "CMD"
    assert within["health"].strip()


def test_it_is_nobody_and_writes_nothing(within: dict[str, Any]) -> None:
    assert within["user"] == [65532, 65532]
    assert within["written"] == []


def test_it_serves(within: dict[str, Any]) -> None:
    assert (within["served"], within["ended"]) == (200, 0)


@pytest.mark.parametrize("name", ["first", "board"])
def test_its_layers_are_small(
    name: str, image: Image, store: Run, record_testsuite_property: Callable[..., None]
) -> None:
    image(name)
    base = BASE.format(IMAGES[name])
    sizes = [
        int(json.loads(store("podman", "image", "inspect", each))[0]["Size"])
        for each in (f"localhost/{name}", base)
    ]
    record_testsuite_property(f"bytes_above_base_{IMAGES[name]}", sizes[0] - sizes[1])
    assert 50_000_000 < sizes[0] - sizes[1] < LIMIT


def test_on_arm64_it_answers_the_same(
    image: Image, answers: list[dict], inspect: Inspect, store: Run
) -> None:
    emulator = shutil.which("qemu-aarch64-static")
    if emulator is None:
        pytest.skip("needs the Debian package qemu-user-static")
    built = image("board")
    found = inspect(built)
    assert found["architecture"] == "arm64"
    root = Path(store("buildah", "mount", store("buildah", "from", "--pull-never", built)))
    shutil.copy(emulator, root / "qemu")
    add_processor(root)
    settings = found["config"]
    command = ["chroot", "--userspec", settings["User"], str(root), "/qemu", "-cpu", "cortex-a72"]
    program, *arguments = settings["Entrypoint"]
    command += [f"/usr/bin/{program}", *arguments, "--threads", "1", "--json"]
    done = subprocess.run(
        command,
        input="\n".join(TEXTS) + "\n",
        env=dict(setting.split("=", 1) for setting in settings["Env"]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    same(done.stdout, answers)


def add_processor(root: Path) -> None:
    """Say in the container's root what an ARM kernel would; ONNX Runtime reads it."""
    texts = {"proc/cpuinfo": cpuinfo(find_cpu("cortex-a72"))}
    texts |= {f"sys/devices/system/cpu/{name}": "0-3\n" for name in ("possible", "online")}
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="ascii")
