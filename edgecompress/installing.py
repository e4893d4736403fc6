"""What to type so that a package is there: that depends on how edgecompress itself came here.

``pip install 'edgecompress[build]'`` asks an index for a package that it may not have. What works
is to name the checkout, the wheel or the address that this installation was made from. Standard
library only.
"""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

_NAME = "edgecompress"


def pip_install(*words: str) -> str:
    """Write the command that installs into this Python, whichever ``pip`` the shell would find.

    Parameters
    ----------
    *words : str
        Requirements and options, not quoted.
    """
    python = Path(sys.executable)
    start = [sys.executable, "-m", "pip", "install"]
    if find_spec("pip") is None and shutil.which("uv"):
        start = ["uv", "pip", "install", "--python", sys.executable]
    elif Path(shutil.which("pip") or "").parent == python.parent:
        start = ["pip", "install"]
    return shlex.join([*start, *words])


def install_extra(extra: str) -> str:
    """Say how this installation gets one of its extras, as the end of a sentence.

    Parameters
    ----------
    extra : str
        Its name, such as ``build``.

    Returns
    -------
    str
        A command that works as it stands; for a copy that was made to answer only, where to get
        another one.
    """
    checkout = _checkout()
    if checkout is not None:
        # An extra that needs other versions than the rest has constraints of its own.
        named = (checkout / f"constraints-{extra}.txt", checkout / "constraints.txt")
        fixed = next((file for file in named if file.is_file()), None)
        options = ["--constraint", str(fixed)] if fixed else []
        return f"run: {pip_install(*options, '--editable', f'{checkout}[{extra}]')}"
    found = _installed()
    if found is None or extra not in (found.metadata.get_all("Provides-Extra") or ()):
        image = (
            ", or build the image that has it: docker build -f docker/builder.Dockerfile ."
            if extra == "build"
            else ""
        )
        return (
            "this copy of edgecompress was made for answering only, as container images hold it; "
            f"in the folder of edgecompress's source run: pip install '.[{extra}]'{image}"
        )
    return f"run: {pip_install(_origin(found, extra))}"


def _checkout() -> Path | None:
    """Give the folder of the source, where the code that runs lies in it."""
    folder = Path(__file__).parents[1]
    try:
        project = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return folder if f'\nname = "{_NAME}"\n' in project else None


def _installed() -> Distribution | None:
    try:
        return distribution(_NAME)
    except PackageNotFoundError:
        return None


def _origin(found: Distribution, extra: str) -> str:
    """Give the requirement that names what was installed (PEP 610), with an extra of it.

    The bare name works as well: pip then reads in the installed package what the extra needs, and
    asks no index for edgecompress. It is left where nothing was recorded, or the file is gone.
    """
    named = f"{_NAME}[{extra}]"
    try:
        recorded = json.loads(found.read_text("direct_url.json") or "{}")
        url = str(recorded.get("url", ""))
        vcs = recorded.get("vcs_info")
        if vcs:
            return f"{named} @ {vcs['vcs']}+{url}@{vcs['commit_id']}"
        parts = urlsplit(url)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return named
    if parts.scheme == "file":
        place = Path(url2pathname(parts.path))
        return f"{place}[{extra}]" if place.exists() else named
    return f"{named} @ {url}" if parts.scheme in ("http", "https") else named
