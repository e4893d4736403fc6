"""Targets by name: the file ``targets.yaml``, and what a name or URL means.

A fleet file maps names to URLs, or to a URL with settings::

    pi4: ssh://pi@raspberrypi.local
    pi5: {url: "ssh://pi@192.168.1.7:2222", key: ~/.ssh/id_ed25519, samples: 200}
    a72: emulated://cortex-a72

It is looked for beside the recipe, in the working directory, and in the user's configuration
folder of edgecompress; the first that is there counts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from edgecompress.errors import RecipeError
from edgecompress.reading import at_home
from edgecompress.validation import nearest, validated
from edgecompress.yamlfile import YamlFile, read_yaml

FILE = "targets.yaml"
_URL = re.compile(r"^(local$|ssh://|emulated://)")


class TargetSpec(BaseModel):
    """Where a target is and how it is used."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    name: str
    """As recipes and measurements write it: the name in the fleet, else the URL."""
    url: str = Field(pattern=_URL.pattern)
    """``local``, ``ssh://user@host:port`` or ``emulated://cortex-a72``."""
    python: str | None = None
    """The board's Python; else the one that `targets prepare` made, else python3."""
    cache: str | None = None
    """The only folder that is written to there; else ``~/.cache/edgecompress``."""
    key: Path | None = None
    """Private key; else those of ~/.ssh/config, the agent and ~/.ssh."""
    known_hosts: Path | None = None
    """Else ~/.ssh/known_hosts."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """Longest wait for a connection."""
    idle_timeout_s: float = Field(default=120.0, gt=0)
    """Longest silence of a connected board."""
    samples: int | None = Field(default=None, ge=1)
    """How many examples it answers to judge its accuracy; left out: all, or 200 where emulated."""
    meter: Path | None = None
    """CSV of an external power meter on this machine: epoch seconds, watts."""
    any_governor: bool = False
    """Accept times taken under a frequency governor other than performance."""


class Fleet(BaseModel):
    """The targets that a file names."""

    model_config = ConfigDict(frozen=True)

    file: Path | None = None
    targets: Mapping[str, TargetSpec] = Field(default_factory=dict)

    def find(self, name: str) -> TargetSpec:
        """Give what `name` means: an entry of the fleet, or a URL as it stands.

        Raises
        ------
        RecipeError
            When it is neither.
        """
        if name in self.targets:
            return self.targets[name]
        if _URL.match(name):
            return TargetSpec(name=name, url=name)
        place = f"in {self.file}" if self.file else f"and there is no {FILE}"
        raise RecipeError(
            f"unknown target {name!r}{nearest(name, self.targets)}: it is no local, ssh://… or "
            f"emulated://…, {place}{' either' if self.file else ''}"
        )


def load_fleet(file: Path) -> Fleet:
    """Read a fleet file.

    Raises
    ------
    RecipeError
        Naming file, line and key of what is wrong.
    """
    source = read_yaml(file)
    if source.document is None:  # empty, or nothing but comments
        return Fleet(file=file)
    if not isinstance(source.document, dict):
        raise RecipeError(
            "a fleet maps names to targets, such as pi4: ssh://pi@raspberrypi.local",
            file=file,
            line=1,
        )
    targets = {}
    for name, entry in source.document.items():
        targets[str(name)] = _spec(str(name), entry, source, file)
    return Fleet(file=file, targets=targets)


def _spec(name: str, entry: Any, source: YamlFile, file: Path) -> TargetSpec:
    if _URL.match(name):
        raise source.error("a name in the fleet must not look like a URL", (name,))
    fields = {"url": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict):
        raise source.error("give a URL, or a mapping with `url`", (name,))
    found = validated(TargetSpec, {**fields, "name": name}, (name,), source)
    places = {
        key: _placed(value, file.parent)
        for key in ("key", "known_hosts", "meter")
        if (value := getattr(found, key)) is not None
    }
    return found.model_copy(update=places)


def _placed(path: Path, base: Path) -> Path:
    path = at_home(path)
    return path if path.is_absolute() else base / path


def find_fleet(*folders: Path) -> Fleet:
    """Read the first fleet file of `folders`, the working directory and the user's configuration.

    Returns
    -------
    Fleet
        An empty one where there is no file.
    """
    import platformdirs

    for folder in (*folders, Path.cwd(), platformdirs.user_config_path("edgecompress")):
        if (folder / FILE).is_file():
            return load_fleet(folder / FILE)
    return Fleet()
