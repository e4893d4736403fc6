"""The builder image: how large it is, how long it takes to build, and that it runs a recipe.

Run ``python benchmarks/builder_image.py``. Wheels are fetched by hash first, so that the build
itself needs no network; torch's CPU build comes from where pip is told to look (docker/README.md).
Without ``--base`` a Debian base is made with mmdebstrap. The image then runs a small recipe, from
training a teacher to the bundle, in a container, and the bundle is verified here. Times depend on
the machine and on what else it does; they are shown, and nothing is decided by them.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from edgecompress.bundle import verify_bundle
from edgecompress.images.context import host_platform
from edgecompress.images.engines import ENGINES, find_engine

ROOT = Path(__file__).resolve().parent.parent
TAG = "localhost/edgecompress-builder"
BASE = "localhost/edgecompress-base"
RECIPE = """\
name: tiny
task: text-classification
teacher:
  new: {layers: 2, hidden_size: 32, heads: 2, intermediate_size: 64, vocabulary: 400}
  finetune: {epochs: 1, learning_rate: 3.0e-3, batch_size: 32}
data: {format: cldr, locales: [sw, fr, en], max_strings: 300, min_strings: 100}
seed: 3
stages: [export, quantize.dynamic]
profile: {min_duration_ms: 50, warmup_ms: 10, min_count: 40, cold_starts: 1}
budget: {accuracy: {max_drop: 0.9}}
minimize: size
"""
WHEELS, SOURCE = "--only-binary=:all:", "--no-binary=:all:"
LOCKS = {"tools": WHEELS, "builder": WHEELS, "source": SOURCE}
"""What each lock holds: wheels, or source."""


def run(*command: str) -> str:
    """Run a program and give what it wrote; its complaints are shown as they come."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long something took."""
    start = time.monotonic()
    yield
    click.echo(f"{what}: {time.monotonic() - start:.0f} s")


def fetch(folder: Path) -> None:
    """Download all that the builder's locks name; what is there already is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, kind in LOCKS.items():
        options = ["--require-hashes", "--no-deps", kind, "--find-links", str(folder)]
        lock = ["--dest", str(folder), "-r", str(ROOT / "docker" / f"{name}.lock")]
        run(sys.executable, "-m", "pip", "download", "-q", *options, *lock)


def layers(engine: str, image: str) -> int:
    """Give the bytes of all layers of an image, uncompressed."""
    if engine == "buildah":
        listed = json.loads(run(engine, "images", "--json", image))
        size: str = listed[0]["size"]
        number, unit = size.split()
        return int(float(number) * {"KB": 1e3, "MB": 1e6, "GB": 1e9}[unit])
    return int(json.loads(run(engine, "image", "inspect", image))[0]["Size"])


def build(engine: str, base: str, wheels: Path) -> None:
    """Build the image with `wheels` mounted and no index."""
    command = [engine, "build", "--tag", TAG, "--build-arg", f"BASE={base}"]
    command += ["--build-arg", "PIP_NO_INDEX=1", "--file", str(ROOT / "docker/builder.Dockerfile")]
    if engine == "docker":  # takes no volumes: the folder that the Dockerfile copies is filled
        for wheel in wheels.iterdir():
            shutil.copy2(wheel, ROOT / "docker" / "wheels")
    else:
        command += ["--format", "docker", "--volume", f"{wheels}:/wheels:ro"]
    run(*command, str(ROOT))


def run_recipe(engine: str, folder: Path) -> None:
    """Run `RECIPE` in a container as the folder's owner; results go into the folder."""
    (folder / "tiny.yaml").write_text(RECIPE, encoding="utf-8")
    words = ["run", "tiny.yaml", "-o", "out", "--store", "store"]
    volume, user = f"{folder}:/data", f"{os.getuid()}:{os.getgid()}"
    if engine == "buildah":
        container = run(engine, "from", "--pull-never", TAG)
        place = ["--user", user, "--volume", volume, "--workingdir", "/data", container]
        run(engine, "run", *place, "--", "edgecompress", *words)
        run(engine, "rm", container)
    else:
        run(engine, "run", "--rm", "--network", "none", "--user", user, "-v", volume, TAG, *words)


@click.command()
@click.option("--engine", type=click.Choice(["auto", *ENGINES]), default="auto")
@click.option("--base", help="Base image; default: a Debian made here with mmdebstrap.")
@click.option("--wheels", type=click.Path(path_type=Path), help="Folder to keep wheels in.")
def main(engine: str, base: str | None, wheels: Path | None) -> None:
    """Build the builder image, and run a recipe in it."""
    engine = find_engine(engine)
    with tempfile.TemporaryDirectory() as folder:
        wheels = wheels or Path(folder) / "wheels"
        with timed("fetching by hash"):
            fetch(wheels)
        if base is None:
            base = BASE
            with timed("a Debian base"):
                script = [sys.executable, str(ROOT / "docker" / "debian.py"), base]
                run(*script, "--engine", engine)
        with timed(f"building with {engine}"):
            build(engine, base, wheels)
        whole, below = layers(engine, TAG), layers(engine, base)
        click.echo(f"layers above the base: {(whole - below) / 1e6:.0f} MB")
        click.echo(f"base: {below / 1e6:.0f} MB, {host_platform()}")
        place = Path(folder) / "data"
        place.mkdir()
        with timed("a small recipe, from nothing to a bundle"):
            run_recipe(engine, place)
        manifest = verify_bundle(place / "out" / "bundle")
        click.echo(f"bundle: {' → '.join(step.stage for step in manifest.steps)}, whole")


if __name__ == "__main__":
    main()
