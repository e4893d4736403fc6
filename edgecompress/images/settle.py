"""The image that an engine built, without the traces of its builder and of the time.

Builders add what the image's files do not say: docker the times of the folders above them and of
the build, podman and buildah a random container name; and each cuts and orders layers in its own
way. Here the image is exported, its upper layers are written anew, and the engine loads the result
in its place. So the same files make the same image ID, with every engine and builder.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from edgecompress.bundle.tarball import pieces
from edgecompress.errors import ImageError
from edgecompress.images.base import Base, Bounded, read_base
from edgecompress.images.contents import look
from edgecompress.images.layer import SITE, Member, write_layer
from edgecompress.images.oci import image_config, write_archive
from edgecompress.images.sbom import SBOM_FILE
from edgecompress.values import Json

_KEPT = ("Cmd", "Entrypoint", "Env", "ExposedPorts", "Healthcheck", "Labels", "Shell", "StopSignal",
         "User", "Volumes", "WorkingDir")  # fmt: skip
_OURS = (SITE, "bundle", SBOM_FILE)
"""What the Dockerfile puts upon the base, each in a layer of its own."""


def settle(archive: Path, platform: str, output: Path, tag: str) -> str:
    """Write an exported image anew.

    Parameters
    ----------
    archive : Path
        What `docker save` or its like wrote of the image that was built.
    platform : str
    output : Path
        The archive to write.
    tag : str

    Returns
    -------
    str
        The new image ID, ``sha256:…``.

    Raises
    ------
    ImageError
        When the image is not as the Dockerfile makes it.
    """
    folder = output.parent
    built = read_base(archive, platform, folder)
    with ExitStack() as stack:
        count = len(built.layers)
        opened: list[tarfile.TarFile] = []
        while count:
            file = stack.enter_context(built.layers[count - 1].file.open("rb"))
            layer = stack.enter_context(tarfile.open(fileobj=Bounded(file), mode="r:"))  # type: ignore[call-overload]
            if not all(_is_ours(path, member) for path, member in _members(layer)):
                break
            opened.append(layer)
            count -= 1
        below = built.layers[:count]
        members = dict(_files(reversed(opened)))
        outside = look(below, [SITE.partition("/")[0]]).paths
        above = [
            write_layer(
                folder / f"settled-{number}",
                {path: member for path, member in members.items() if _below(path, ours)},
                outside,
            )
            for number, ours in enumerate(_OURS)
        ]
    config = image_config(built.config, _settings(built), below, above)
    return write_archive(output, config, [*below, *above], tag)[0]


def _members(layer: tarfile.TarFile) -> Iterator[tuple[str, tarfile.TarInfo]]:
    for member in layer:
        yield member.name.removeprefix("./").strip("/"), member


def _is_ours(path: str, member: tarfile.TarInfo) -> bool:
    """Whether the Dockerfile's last stage put it there; a folder above what it put is no more."""
    if member.isdir() and (path in ("", ".") or SITE.startswith(f"{path}/")):
        return True
    return (member.isdir() or member.isreg()) and any(_below(path, ours) for ours in _OURS)


def _below(path: str, ours: str) -> bool:
    return path == ours or path.startswith(f"{ours}/")


def _files(layers: Iterable[tarfile.TarFile]) -> Iterator[tuple[str, Member]]:
    for layer in layers:
        for path, member in _members(layer):
            if member.isreg():
                content = partial(_content, layer, member)
                yield path, Member(member.size, content, bool(member.mode & 0o111))


def _content(layer: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    stream = layer.extractfile(member)
    if stream is None:
        raise ImageError(f"{member.name}: is no file")
    yield from pieces(stream.read)


def _settings(built: Base) -> Json:
    given = built.config.get("config")
    old: Json = given if isinstance(given, dict) else {}
    settings = {key: old[key] for key in _KEPT if old.get(key)}
    if settings.get("WorkingDir") == "/":  # podman and buildah write down what is understood
        del settings["WorkingDir"]
    return settings
