"""Targets by name: the file ``targets.yaml``, and what a name or URL means.

A fleet file maps names to URLs, or to a URL with settings::

    pi4: ssh://pi@raspberrypi.local
    pi5: {url: "ssh://pi@192.168.1.7:2222", key: ~/.ssh/id_ed25519, samples: 200}
    a72: emulated://cortex-a72

It is looked for beside the recipe, in the working directory, and in the user's configuration
folder of edgecompress; the first that is there counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from edgecompress.errors import RecipeError
from edgecompress.reading import at_home
from edgecompress.targets.kinds import forms, kind_of, kinds
from edgecompress.targets.spec import TargetSpec
from edgecompress.validation import validated
from edgecompress.values import Json
from edgecompress.words import did_you_mean
from edgecompress.yamlfile import YamlFile, read_yaml

FILE = "targets.yaml"


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
        kind = kind_of(name)
        if kind is not None:
            return kind(name=name, url=name)
        known = self._known(name)
        near = did_you_mean(name, known, known)
        place = f"in {self.file}" if self.file else f"in {FILE}, and there is no such file here"
        raise RecipeError(
            f"unknown target {name!r}{near} (a target is {forms()}, or a name {place})"
        )

    def _known(self, name: str) -> dict[str, tuple[str, ...]]:
        """Give the targets that `name` may have been meant for, each with what it is without URL.

        ``cortex-a72`` lacks what its URL begins with, ``emulate://cortex-a72`` has it wrong.
        """
        found: dict[str, tuple[str, ...]] = dict.fromkeys(self.targets, ())
        begin = re.match(r"\w+:/+", name)
        rest = name[begin.end() :] if begin else name
        for kind, one in kinds().items():
            found |= {url: (url.rpartition("://")[2],) for url in one.urls()}
            if "://" in one.form and (begin or ("@" in name and "@" in one.form)):
                found[f"{kind}://{rest}"] = () if begin else (rest,)
        return found


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
    if kind_of(name) is not None:
        raise source.error("a name in the fleet must not look like a URL", (name,))
    fields = {"url": entry} if isinstance(entry, str) else entry
    if not isinstance(fields, dict):
        raise source.error("give a URL, or a mapping with `url`", (name,))
    url = fields.get("url")
    kind = kind_of(str(url))
    if kind is None:
        said = f"the URL is {forms()}, not {url!r}" if "url" in fields else "this key is required"
        raise source.error(said, (name, "url"))
    found: TargetSpec = validated(kind, {**fields, "name": name}, (name,), source)
    paths = {key: value for key, value in found if isinstance(value, Path)}
    return found.model_copy(update={k: _placed(path, file.parent) for k, path in paths.items()})


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
        if os.path.isfile(folder / FILE):  # noqa: PTH113 - a folder of another's is no error
            return load_fleet(folder / FILE)
    return Fleet()


def named_specs(fleet: Fleet, names: tuple[str, ...]) -> list[TargetSpec]:
    """Give the targets of these names, or all of the fleet; nothing is connected to.

    Raises
    ------
    RecipeError
        When there is no target of a name, or none at all.
    """
    specs = [fleet.find(name) for name in dict.fromkeys(names or tuple(fleet.targets))]
    if not specs:
        raise RecipeError("name a target, or write a targets.yaml that names some")
    for spec in specs:
        try:
            spec.open()  # sees that the URL means something
        except RecipeError as error:
            named = spec.name in fleet.targets and fleet.file
            raise RecipeError(
                error.message, file=named or None, key=spec.name if named else ""
            ) from None
    return specs


def fleet_schema() -> Json:
    """JSON Schema of a fleet file, with the settings of every kind, for editors."""
    definitions: Json = {}
    entries: list[Json] = []
    for name, kind in kinds().items():
        body = kind.model_json_schema(ref_template="#/$defs/{model}")
        definitions |= body.pop("$defs", {})
        body["title"] = name
        body["required"].remove("name")
        del body["properties"]["name"]
        body["properties"]["url"] |= {"pattern": kind.pattern(), "examples": [kind.form]}
        entries += [{"type": "string", "pattern": kind.pattern()}, body]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgecompress fleet",
        "type": "object",
        "additionalProperties": {"anyOf": entries},
        "$defs": definitions,
    }
