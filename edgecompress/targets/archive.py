"""The agent as the one file that travels: a zip that any Python runs, the same bytes every time."""

from __future__ import annotations

import functools
import hashlib
import io
import os
import zipfile
from pathlib import Path

from edgecompress.targets import agent
from edgecompress.writing import replace_file

PACKAGE = "edgecompress/targets/agent"
_MAIN = "from edgecompress.targets.agent.__main__ import main\n\nmain()\n"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold


@functools.cache
def agent_bytes() -> bytes:
    """Give the agent as a zip with a ``__main__.py``; equal source gives equal bytes.

    Above the agent's package lie empty ones, so that its imports read the same here and there.
    """
    source = Path(str(agent.__file__)).parent
    files = {"__main__.py": _MAIN, "edgecompress/__init__.py": "", f"{PACKAGE}/../__init__.py": ""}
    files = {os.path.normpath(name): text for name, text in files.items()}
    for file in sorted(source.glob("*.py")):
        files[f"{PACKAGE}/{file.name}"] = file.read_text(encoding="utf-8")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), text)
    return stream.getvalue()


def agent_digest() -> str:
    """SHA-256 of the agent's file."""
    return hashlib.sha256(agent_bytes()).hexdigest()


def agent_archive() -> Path:
    """Write the agent's file once per user and version, and give its path.

    One that is there is compared with what it must be, byte by byte, and else written again.

    Returns
    -------
    Path
        ``agent-<digest>.pyz`` in the user's cache folder.
    """
    from edgecompress.targets.machine import cache_folder

    file = cache_folder() / f"agent-{agent_digest()[:16]}.pyz"
    try:
        right = not file.is_symlink() and file.read_bytes() == agent_bytes()
    except FileNotFoundError:
        right = False
    if not right:
        replace_file(file, agent_bytes())
    return file
