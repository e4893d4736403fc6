"""What the layers of a base hold, found without unpacking them: a few files and paths."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field

from edgecompress.errors import ImageError
from edgecompress.images.base import Bounded
from edgecompress.images.layer import Layer
from edgecompress.images.sbom import source_name

_MOST_FILE = 64 << 20
_MOST_FILES = 20_000
_HIDDEN = ".wh."  # the OCI image specification calls it a whiteout
_OPAQUE = ".wh..wh..opq"
_PYTHON = re.compile(r"usr/(?:local/)?bin/python3\.11")


@dataclass(slots=True)
class Contents:
    """What an image's file system shows in the end.

    Attributes
    ----------
    files : dict of str to bytes
        The files that say which packages there are, by their path.
    paths : set of str
        Those of the paths that were asked for, and the files of `files`.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)

    @property
    def has_python(self) -> bool:
        """Whether there is a Python 3.11."""
        return any(_PYTHON.fullmatch(path) for path in self.paths)

    def hide(self, path: str, *, itself: bool = True) -> None:
        """Take away `path` and all that lies below it."""
        gone = {name for name in self.paths if name.startswith(f"{path}/" if path else "")}
        gone |= {path} if itself else set()
        self.paths -= gone
        for name in gone & self.files.keys():
            del self.files[name]


def look(layers: Iterable[Layer], wanted: Iterable[str]) -> Contents:
    """Read the layers from the lowest.

    Parameters
    ----------
    layers : iterable of Layer
    wanted : iterable of str
        Paths of which it is to be said whether they are there.

    Raises
    ------
    ImageError
        When a layer is no tar archive, or a file in it is larger than any such file.
    """
    found, asked = Contents(), set(wanted)
    for layer in layers:
        try:
            with (
                layer.file.open("rb") as stream,
                tarfile.open(fileobj=Bounded(stream), mode="r:") as archive,  # type: ignore[call-overload]
            ):
                _read_layer(archive, found, asked)
        except (OSError, ValueError, tarfile.TarError) as error:
            raise ImageError(f"the base's layer {layer.digest}: cannot be read ({error})") from None
    return found


def _read_layer(archive: tarfile.TarFile, found: Contents, asked: set[str]) -> None:
    added: dict[str, bytes | None] = {}
    while (member := archive.next()) is not None:
        archive.members = []  # type: ignore[attr-defined]  # else all of them stay in memory
        path = member.name.removeprefix("./").strip("/")
        folder, _, name = path.rpartition("/")
        if name == _OPAQUE:
            found.hide(folder, itself=False)
        elif name.startswith(_HIDDEN):
            found.hide(f"{folder}/{name.removeprefix(_HIDDEN)}".strip("/"))
        elif source_name(path) is not None and member.isreg():
            if member.size > _MOST_FILE or len(found.files) + len(added) > _MOST_FILES:
                raise ImageError(f"the base's {path} is larger than such a file is")
            content = archive.extractfile(member)
            added[path] = content.read() if content is not None else b""
        elif path in asked or _PYTHON.fullmatch(path):
            added[path] = None
    # A layer hides what lies below it, and nothing of its own.
    found.paths |= added.keys()
    found.files |= {path: content for path, content in added.items() if content is not None}
