"""Which names files may have in a bundle: such that it can lie on any system, in any archive."""

from __future__ import annotations

import unicodedata
from pathlib import PureWindowsPath

MOST_FILES = 1000
MOST_NAME_BYTES = 240  # with an archive's folder before it, what ustar's headers hold


def safe_path(name: str) -> bool:
    """Whether `name` is a plain POSIX path that stays below its folder on every system."""
    parts = name.split("/")
    return (
        bool(name)
        and name.isprintable()
        and "\\" not in name
        and not PureWindowsPath(name).drive
        and not any(part in ("", ".", "..") for part in parts)
    )


class Names:
    """The names of a bundle's files, taken one by one."""

    def __init__(self) -> None:
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def add(self, name: str) -> None:
        """Take one more name.

        Raises
        ------
        ValueError
            Saying what is wrong: it leaves the folder, is too long, is written in another way
            than Unicode's NFC, or is the same as an earlier one where capitals do not count.
        """
        shown = repr(name if len(name) <= 100 else f"{name[:100]}…")
        if not safe_path(name):
            raise ValueError(f"the file name {shown} cannot be in a bundle")
        if len(name.encode()) > MOST_NAME_BYTES:
            raise ValueError(
                f"the file name {shown} is too long; a bundle takes {MOST_NAME_BYTES} bytes"
            )
        if unicodedata.normalize("NFC", name) != name:
            raise ValueError(f"the file name {shown} is not in Unicode's normal form NFC")
        if len(self._files) >= MOST_FILES:
            raise ValueError(f"more than {MOST_FILES} files; a bundle has fewer")
        folded = _folded(name)
        if folded in self._files or folded in self._folders:
            other = self._files.get(folded) or self._folders[folded]
            raise ValueError(f"the file names {shown} and {other!r} are one on some systems")
        self._files[folded] = name
        parts = name.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            folder = "/".join(parts[:count])
            key = _folded(folder)
            if key in self._files or self._folders.setdefault(key, folder) != folder:
                other = self._files.get(key) or self._folders[key]
                raise ValueError(f"the file names {shown} and {other!r} are one on some systems")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())
