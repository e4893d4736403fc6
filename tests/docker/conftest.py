"""A container store of the tests' own, and small Debian bases made without a registry."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from onnxruntime.quantization import QuantType, quantize_dynamic

import edgecompress
from edgecompress.bundle import write_bundle
from edgecompress.images.context import download_wheels, write_context
from edgecompress.images.engines import build
from edgecompress.values import Candidate, OnnxModel

NEEDS = ("buildah", "podman", "runc", "mmdebstrap")
"""Debian packages, each with a program of its name."""
ROOT = Path(__file__).parent.parent.parent
BASE = "localhost/base-{}"

Run = Callable[..., str]


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Give a function that runs an engine's command in a store of its own, with both bases."""
    for package in NEEDS:
        if shutil.which(package) is None:
            pytest.skip(f"needs the Debian package {package}")
    if os.geteuid() != 0:
        pytest.skip("needs root: without user namespaces only root can build an image")
    folder = tmp_path_factory.mktemp("containers")
    has_overlay = "overlay" in Path("/proc/filesystems").read_text(encoding="ascii")
    settings = f'[storage]\ndriver = "{"overlay" if has_overlay else "vfs"}"\n'
    settings += f'graphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    (folder / "storage.conf").write_text(settings, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(folder / "storage.conf"))
        patch.setenv("BUILDAH_ISOLATION", "chroot")  # no namespaces and no cgroups are needed
        for architecture in ("amd64", "arm64"):
            name, platform = BASE.format(architecture), f"linux/{architecture}"
            script = [sys.executable, str(ROOT / "docker" / "debian.py"), name]
            engine(*script, "--platform", platform, "--engine", "buildah")
        yield engine
        engine("buildah", "umount", "--all")
        engine("buildah", "rm", "--all")
        engine("buildah", "rmi", "--all", "--force")
        subprocess.run(["umount", "--lazy", folder / "graph" / "overlay"], capture_output=True)


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Start a Docker engine of the tests' own, with a base; give a function that runs a command."""
    for package, program in (("docker.io", "dockerd"), ("docker-compose", "docker-compose")):
        if shutil.which(program) is None:
            pytest.skip(f"needs the Debian package {package}")
    if os.geteuid() != 0:
        pytest.skip("needs root: only root can start a Docker engine")
    # A socket's path may have 107 bytes; pytest's folders are longer.
    with (
        tempfile.TemporaryDirectory(prefix="docker-") as name,
        pytest.MonkeyPatch.context() as patch,
    ):
        folder = Path(name)
        address = f"unix://{folder}/socket"
        patch.setenv("DOCKER_HOST", address)
        (folder / "bin").mkdir()
        # The client of the same package: it has BuildKit, and needs no plug-in for it.
        (folder / "bin" / "docker").symlink_to("/usr/bin/docker")
        patch.setenv("PATH", f"{folder}/bin{os.pathsep}{os.environ['PATH']}")
        command = ["dockerd", "--host", address, "--data-root", f"{folder}/data"]
        command += ["--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/pid"]
        command += ["--iptables=false", "--ip6tables=false"]
        with (
            (folder / "log").open("w", encoding="utf-8") as log,
            subprocess.Popen(command, stdout=log, stderr=log) as server,
        ):
            try:
                waited = time.monotonic() + 120
                while subprocess.run(["docker", "info"], capture_output=True).returncode:
                    said = (folder / "log").read_text(encoding="utf-8")
                    assert server.poll() is None, f"dockerd ended: {said[-2000:]}"
                    assert time.monotonic() < waited, f"dockerd does not answer: {said[-2000:]}"
                    time.sleep(0.2)
                script = [sys.executable, str(ROOT / "docker" / "debian.py"), BASE.format("amd64")]
                engine(*script, "--platform", "linux/amd64", "--engine", "docker")
                yield engine
            finally:
                server.terminate()
                server.wait(60)


def engine(*command: str) -> str:
    """Run a command and give what it wrote; what it complained of is shown when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All wheels of the lock, for both platforms."""
    folder = tmp_path_factory.mktemp("wheels")
    download_wheels(folder, ("linux/amd64", "linux/arm64"))
    return folder


@pytest.fixture(scope="session")
def bundle(tagger: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tagger in int8 with weights of 7 bits, whose answers are the same on every processor."""
    assert isinstance(tagger.model, OnnxModel)
    folder = tmp_path_factory.mktemp("portable")
    quantize_dynamic(
        tagger.model.path, folder / "int8.onnx", weight_type=QuantType.QInt8, reduce_range=True
    )
    candidate = replace(tagger, model=replace(tagger.model, path=folder / "int8.onnx"))
    recipe = {"name": "tiny", "seed": 7}
    versions = {"edgecompress": edgecompress.__version__}
    write_bundle(folder / "bundle", candidate, recipe, versions, report_html="<p>")
    return folder / "bundle"


IMAGES = {"first": "amd64", "second": "amd64", "board": "arm64"}
"""Names of the build contexts, and what they are for."""


@pytest.fixture(scope="session")
def contexts(
    bundle: Path, wheels: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """The build context of each image, each in a folder of its own."""
    found = {}
    for name, architecture in IMAGES.items():
        found[name] = tmp_path_factory.mktemp(name) / "context"
        base, platforms = BASE.format(architecture), [f"linux/{architecture}"]
        # Complete: the build asks no index.
        assert write_context(bundle, found[name], base=base, wheels=wheels, platforms=platforms)
    return found


@pytest.fixture(scope="session")
def image(store: Run, contexts: dict[str, Path]) -> Callable[[str], str]:
    """Give a function that builds one of `IMAGES` when it is first asked for, and gives its ID."""

    @functools.cache
    def make(name: str) -> str:
        platform = f"linux/{IMAGES[name]}"
        arguments = {"INSTALL_BASE": BASE.format("amd64")}
        tag = f"localhost/{name}"
        return build("buildah", contexts[name], tag=tag, platform=platform, arguments=arguments)

    return make


@pytest.fixture(scope="session")
def inspect(store: Run) -> Callable[[str], dict]:
    """Give an image's description as Docker's format has it."""
    return lambda image: json.loads(store("buildah", "inspect", "--type", "image", image))["Docker"]
