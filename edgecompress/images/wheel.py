"""Our own wheel, made of the files that are installed: the same bytes on any machine.

It needs no build tool and no network, so an image can be made from a board's base install too.
Members are stored, not compressed: compressed bytes differ between versions of zlib.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import edgecompress
from edgecompress import __version__
from edgecompress.resources import INSIDE, resource_folder

EPOCH = 315532800
"""1 January 1980 in seconds: the oldest time that a ZIP archive can hold."""
RESOURCES = ("calibration/*", "docker/runtime*", "models/*")
"""What stands beside the package in a checkout and inside it once installed."""
_WHEEL = "Wheel-Version: 1.0\nGenerator: edgecompress\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_SCRIPTS = "[console_scripts]\nedgecompress = edgecompress.cli.main:main\n"


def write_own_wheel(folder: Path) -> tuple[Path, str]:
    """Write the wheel into `folder`.

    Returns
    -------
    Path
        The wheel.
    str
        The requirement that names it, ``edgecompress==…``.
    """
    about = f"edgecompress-{__version__}.dist-info"
    metadata = (
        f"Metadata-Version: 2.4\nName: edgecompress\nVersion: {__version__}\n"
        "License-Expression: Apache-2.0\nRequires-Python: >=3.11\n"
    )
    members = dict(_package_files())
    members |= {
        f"{about}/METADATA": metadata.encode(),
        f"{about}/WHEEL": _WHEEL.encode(),
        f"{about}/entry_points.txt": _SCRIPTS.encode(),
    }
    lines = [f"{name},sha256={_digest(text)},{len(text)}" for name, text in members.items()]
    members[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,", ""]).encode()
    file = folder / f"edgecompress-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            member = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            member.external_attr = 0o100644 << 16
            member.create_system = 3  # Unix, wherever it is made
            archive.writestr(member, content)
    return file, f"edgecompress=={__version__}"


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Give every file of the package and its resources in the order of their names."""
    package = Path(edgecompress.__file__).parent
    found = {path.relative_to(package).as_posix(): path for path in package.rglob("*")}
    for folder, _, pattern in (each.partition("/") for each in RESOURCES):
        inside = INSIDE.get(folder, folder)
        found |= {f"{inside}/{path.name}": path for path in resource_folder(folder).glob(pattern)}
    for name, path in sorted(found.items()):
        hidden = any(part.startswith((".", "__pycache__")) for part in name.split("/"))
        if path.is_file() and not hidden:
            yield f"edgecompress/{name}", path.read_bytes()


def _digest(content: bytes) -> str:
    """Hash as RECORD has it: URL-safe base64 without padding."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
