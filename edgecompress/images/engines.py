"""What builds images: docker, podman or buildah. Commands are lists; no shell reads them.

podman and buildah write a health check in Docker's format only. What a builder adds of its own is
taken out again afterwards (`edgecompress.images.settle`): the same files make the same image ID.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from edgecompress.errors import ImageError
from edgecompress.images.context import CONTEXT_FILE, host_platform
from edgecompress.images.settle import settle
from edgecompress.images.wheel import EPOCH
from edgecompress.writing import temporary

ENGINES = ("docker", "podman", "buildah")
"""In the order in which they are looked for."""


def find_engine(wanted: str = "auto") -> str:
    """Find a program that builds images: `wanted`, or the first that is there and answers.

    Raises
    ------
    ImageError
        When there is none.
    """
    for name in ENGINES if wanted == "auto" else (wanted,):
        if shutil.which(name) is None:
            continue
        # docker may be a client alone; the others need no server.
        if name != "docker" or _answers([name, "version", "--format", "{{.Server.Version}}"]):
            return name
        if wanted == "docker":
            raise ImageError(
                "docker is installed, but its server does not answer; start it, or choose "
                "--engine podman or buildah"
            )
    if wanted == "auto":
        raise ImageError(
            "no docker, podman or buildah works here; install one, or write the build context "
            "with --context-only and build it elsewhere"
        )
    raise ImageError(f"{wanted} is not installed; install it or choose another --engine")


def _answers(command: list[str]) -> bool:
    try:
        done = subprocess.run(command, capture_output=True, check=False, timeout=30)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def build_command(
    engine: str,
    context: Path,
    *,
    tag: str,
    platform: str,
    arguments: dict[str, str] | None = None,
    id_file: Path | None = None,
) -> list[str]:
    """Give the command that builds `context`.

    Parameters
    ----------
    engine : str
        One of `ENGINES`.
    context : Path
        What `edgecompress.images.write_context` made.
    tag, platform : str
    arguments : dict of str to str, optional
        Build arguments such as ``INSTALL_BASE``.
    id_file : Path, optional
        Where the engine is to write the image's ID.
    """
    command = [engine, "build", "--platform", platform, "--tag", tag]
    # Docker's classic builder sets no TARGETPLATFORM and no TARGETARCH.
    given = {"PLATFORM": platform, "TARGETARCH": platform.rpartition("/")[2]}
    given |= {"SOURCE_DATE_EPOCH": str(EPOCH), **(arguments or {})}
    if engine != "docker":
        command += ["--format", "docker", "--timestamp", str(EPOCH), "--identity-label=false"]
        given = {"BUILDPLATFORM": host_platform(), **given}
    for name, value in sorted(given.items()):
        command += ["--build-arg", f"{name}={value}"]
    if id_file is not None:
        command += ["--iidfile", str(id_file)]
    return [*command, "--file", str(context / CONTEXT_FILE), str(context)]


def build(
    engine: str,
    context: Path,
    *,
    tag: str,
    platform: str,
    arguments: dict[str, str] | None = None,
) -> str:
    """Build `context` and give the image's ID; what the engine says goes to this process's output.

    Raises
    ------
    ImageError
        When the engine fails.
    """
    with temporary() as folder:
        id_file = folder / "id"
        command = build_command(
            engine, context, tag=tag, platform=platform, arguments=arguments, id_file=id_file
        )
        if code := subprocess.run(command, check=False).returncode:
            raise ImageError(
                f"{engine} did not build the image (exit code {code}); what it wrote above says why"
            )
        found = id_file.read_text(encoding="utf-8").strip()
        saved, settled = folder / "built.tar", folder / "settled.tar"
        save_image(engine, found, platform, saved)
        image = settle(saved, platform, settled, tag)
        saved.unlink()
        load_image(engine, settled, image, tag)
        if image != found:
            # Docker's classic builder keeps its image as long as another one is built upon it.
            subprocess.run([engine, "rmi", found], capture_output=True, check=False)
        return image


def load_image(engine: str, archive: Path, image: str, tag: str) -> None:
    """Load an image; its name is then `tag`, by this engine's own rules for short names."""
    load = {
        "docker": [engine, "load", "--quiet", "--input", str(archive)],
        "podman": [engine, "pull", "--quiet", f"docker-archive:{archive}"],
        "buildah": [engine, "pull", "--quiet", f"docker-archive:{archive}"],
    }[engine]
    _run(load)
    if engine != "docker":  # which takes the name from the archive
        _run([engine, "tag", image.partition(":")[2], tag])


def save_image(engine: str, name: str, platform: str, file: Path) -> None:
    """Write a local image as an archive; one that is not there is pulled first.

    Raises
    ------
    ImageError
        When the engine cannot have the image.
    """
    save = {
        "docker": [engine, "save", "--output", str(file), name],
        "podman": [engine, "save", "--quiet", "--format", "docker-archive", "--output", str(file),
                   name],
        "buildah": [engine, "push", "--quiet", name, f"docker-archive:{file}"],
    }[engine]  # fmt: skip
    look = ["inspect", "--type", "image"] if engine == "buildah" else ["image", "inspect"]
    if not _answers([engine, *look, name]):
        if name.startswith("localhost/"):
            raise ImageError(
                f"{engine} has no image {name}; make it first, or give a file as --base"
            )
        _run([engine, "pull", "--quiet", "--platform", platform, name])
    _run(save)


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        raise ImageError(f"{' '.join(command[:2])} failed: {said}")
