"""Whether a folder is this user's alone: what is executed from it must not be another's.

Standard library only.
"""

from __future__ import annotations

import errno
import functools
import grp
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

_MOST_LINKS = 40  # as the kernel follows


def distrust(folder: Path) -> str | None:
    """Say why another user could put a file into `folder`; None where nobody but root could.

    Every directory and link on the way to it must belong to this user or root. Others may write
    neither into `folder` nor into a directory above it, except for those whose entries only their
    owners may rename (the sticky bit, as ``/tmp`` has it).

    Raises
    ------
    OSError
        When the folder is not there.
    """
    folder = folder.absolute()
    for place in _way(folder):
        info = place.lstat()
        trusted = {0, os.geteuid()} if place == folder else _trusted()
        if info.st_uid not in trusted:
            return f"{place} belongs to another user"
        if stat.S_ISLNK(info.st_mode):
            continue
        sticky = bool(info.st_mode & stat.S_ISVTX) and place != folder
        if _others_may_write(info) and not sticky:
            return f"{place} can be written by other users"
    return None


def own_folder(folder: Path) -> str | None:
    """Make `folder`, or take it where it is this user's alone, and close it to all others.

    Returns
    -------
    str or None
        Why it must not be used.

    Raises
    ------
    OSError
        When it cannot be made.
    """
    for place in reversed([folder, *folder.absolute().parents]):
        if not place.exists():
            place.mkdir(mode=0o700, exist_ok=True)
    reason = distrust(folder)
    if reason is None and folder.stat().st_uid == os.geteuid() and folder.stat().st_mode & 0o077:
        folder.chmod(0o700)
    return reason


def _way(path: Path) -> Iterator[Path]:
    """Give every directory and link that decides where `path` leads, from the root on."""
    place, parts, links = Path(path.anchor), list(path.parts[1:]), 0
    yield place
    while parts:
        part = parts.pop(0)
        if part == "..":
            place = place.parent
            continue
        place = place / part
        yield place
        if place.is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
            to = place.readlink()
            place = Path(to.anchor) if to.is_absolute() else place.parent
            parts = [*(to.parts[1:] if to.is_absolute() else to.parts), *parts]


def _others_may_write(info: os.stat_result) -> bool:
    if info.st_mode & stat.S_IWOTH:
        return True
    return bool(info.st_mode & stat.S_IWGRP) and not _own_group(info.st_gid)


@functools.cache
def _own_group(group: int) -> bool:
    """Whether a group is root's, or that of this user alone, which bears the user's name."""
    try:
        return group == 0 or grp.getgrgid(group).gr_name == pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return False


@functools.cache
def _trusted() -> frozenset[int]:
    """User numbers that may own what lies above a folder that we execute from: root's and ours.

    In a container without root's rights, root's files may show the number that stands for users
    who have none there.
    """
    found = {0, os.geteuid()}
    try:
        mapped = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
        if mapped[:3] != ["0", "0", "4294967295"]:
            found.add(int(Path("/proc/sys/kernel/overflowuid").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass  # no Linux: there are no such containers
    return frozenset(found)
