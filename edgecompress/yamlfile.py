"""A YAML document with the line of every key, and settings laid over it from the command line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from edgecompress.errors import RecipeError

MAX_NODES = 20_000
"""More than any recipe needs; aliases of aliases would otherwise grow without end."""

KeyPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class YamlFile:
    """A parsed document, its file, and the line (from 1) of each key by its path."""

    document: Any
    file: Path | None
    lines: dict[KeyPath, int]

    def line(self, path: KeyPath) -> int | None:
        """Line of the key at `path`, or of the nearest key above it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def error(self, message: str, path: KeyPath) -> RecipeError:
        """Make the error that names file, line and key."""
        return RecipeError(message, file=self.file, line=self.line(path), key=dotted(path))


def dotted(path: KeyPath) -> str:
    """Write a path as people do: ``stages[1].distil.epochs``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read_yaml(file: Path) -> YamlFile:
    """Read and parse a file.

    Raises
    ------
    RecipeError
        When it is missing, not UTF-8, not YAML, has a key twice or is absurdly large.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise RecipeError("there is no such file", file=file) from None
    except IsADirectoryError:
        raise RecipeError("this is a directory; name the recipe's file", file=file) from None
    except UnicodeDecodeError:
        raise RecipeError("this is not UTF-8 text", file=file) from None
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror})", file=file) from None
    return parse_yaml(text, file)


def parse_yaml(text: str, file: Path | None = None) -> YamlFile:
    """Parse `text`; see `read_yaml` for the errors."""
    loader = yaml.SafeLoader
    try:
        root = yaml.compose(text, Loader=loader)
        lines: dict[KeyPath, int] = {}
        if root is not None:
            _walk(root, (), lines, file)
        document = yaml.load(text, Loader=loader)  # noqa: S506  (a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise RecipeError(f"not valid YAML: {error.problem}", file=file, line=line) from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        message = str(error).splitlines()[0] if str(error) else "nested too deeply"
        raise RecipeError(f"not valid YAML: {message}", file=file) from None
    return YamlFile(document, file, lines)


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: Path | None) -> None:
    if len(lines) > MAX_NODES:
        raise RecipeError(f"the file has more than {MAX_NODES} entries", file=file)
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise RecipeError("a key must be plain text", file=file, line=line)
            if key.value in seen:
                raise RecipeError("the key stands twice", file=file, line=line, key=str(key.value))
            seen.add(key.value)
            lines[(*path, key.value)] = line
            _walk(value, (*path, key.value), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, file)


def apply_settings(document: Any, settings: Sequence[str]) -> Any:
    """Lay ``key=value`` settings over a document, in order, and give the new document.

    A key is a dotted path; list positions are ``[n]``. Values are YAML. Below ``stages`` the name
    of a stage sets the field wherever that stage stands: ``stages.distil.epochs=2``.

    Raises
    ------
    RecipeError
        When a setting is no ``key=value``, or a list position does not exist.
    """
    import copy

    result = copy.deepcopy(document)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"--set wants KEY=VALUE, not {setting!r}")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            raise RecipeError("the value is not valid YAML", key=f"--set {key}") from None
        words = re.findall(r"\[(\d+)\]|([^.\[\]]+)", key.strip())
        parts: list[str | int] = [int(index) if index else name for index, name in words]
        if not isinstance(result, dict):
            raise RecipeError("a recipe is a mapping of keys")
        if len(parts) > 1 and parts[0] == "stages" and isinstance(parts[1], str):
            if not _set_in_stages(result.get("stages"), parts[1:], value):
                raise RecipeError("no stage of this name in the recipe", key=f"--set {key}")
        else:
            _set(result, parts, value, key)
    return result


def _set(node: Any, parts: list[str | int], value: Any, key: str) -> None:
    while True:
        if isinstance(node, list):
            index = parts[0]
            if not isinstance(index, int) or index >= len(node):
                raise RecipeError(f"there is no entry {index!r} here", key=f"--set {key}")
            if len(parts) == 1:
                node[index] = value
                return
            if isinstance(node[index], str):  # a bare stage name gets its first field
                node[index] = {node[index]: {}}
            node, parts = node[index], parts[1:]
            continue
        if not isinstance(node, dict):
            raise RecipeError("the path leads below a plain value", key=f"--set {key}")
        name, length = _longest_key(node, parts)
        if length == len(parts):
            node[name] = value
            return
        if not isinstance(node.get(name), dict | list):
            node[name] = {}
        node, parts = node[name], parts[length:]


def _longest_key(node: dict[str, Any], parts: list[str | int]) -> tuple[str, int]:
    """Names of stages and budgets hold dots, so the longest key that is there wins."""
    for length in range(len(parts), 0, -1):
        name = ".".join(str(part) for part in parts[:length])
        if name in node:
            return name, length
    return str(parts[0]), 1


def _set_in_stages(node: Any, parts: list[str | int], value: Any) -> int:
    """Set a stage's field wherever the stage stands below `node`; give how often."""
    hits = 0
    if isinstance(node, list):
        for index, item in enumerate(node):
            for length in range(len(parts) - 1, 0, -1):
                name = ".".join(str(part) for part in parts[:length])
                if item == name:
                    node[index] = item = {name: {}}
                if isinstance(item, dict) and name in item:
                    if not isinstance(item[name], dict):
                        item[name] = {}
                    _set(item[name], parts[length:], value, ".".join(map(str, parts)))
                    hits += 1
                    break
            else:
                hits += _set_in_stages(item, parts, value)
    elif isinstance(node, dict):
        hits += sum(_set_in_stages(child, parts, value) for child in node.values())
    return hits
