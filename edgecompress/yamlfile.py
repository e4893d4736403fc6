"""A YAML document with the line of every key, and settings laid over it from the command line."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from edgecompress.errors import DataError, RecipeError
from edgecompress.reading import first_line, read_text
from edgecompress.words import meant, shortened

MAX_NODES = 20_000
"""More than any recipe needs; aliases of aliases would otherwise grow without end."""
MAX_BYTES = 4 * 2**20
"""Of a file; a recipe with as many entries as are allowed has one or two million bytes."""
MAX_STEPS = 60
"""Of a setting's key, and of entries inside one another: some of what reads them is recursive."""

KeyPath = tuple[str | int, ...]
Settings: TypeAlias = "Mapping[str, Any] | Sequence[str]"
"""Values by their keys, or ``key=value`` as the command line has them; see `apply_settings`."""


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
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Loader(yaml.SafeLoader):
    """Builds what JSON can hold and no more: dates stay text, other tags are refused."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - yaml calls it an attribute of the instance
        first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:timestamp"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Count the nodes while they are built: one takes a thousand times its bytes."""
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise RecipeError(f"there are more than {MAX_NODES} entries")
        return super().compose_node(parent, index)


_TAGS = frozenset(
    f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map")
)
_MERGE, _BOOL, _TEXT = (f"tag:yaml.org,2002:{kind}" for kind in ("merge", "bool", "str"))
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_UNUSABLE_TYPED = re.compile("[\0\ud800-\udc7f\udd00-\udfff]")
"""Of what is typed: Python names the bytes of a path that are no UTF-8 by U+DC80 to U+DCFF."""


def read_yaml(file: Path) -> YamlFile:
    """Read and parse a file.

    Raises
    ------
    RecipeError
        When it is missing, not a regular file, not UTF-8, not YAML, has a key twice or is absurdly
        large.
    """
    try:
        text = read_text(file, MAX_BYTES)
    except DataError as error:
        raise RecipeError(error.message, file=error.file, line=error.line) from None
    return parse_yaml(text, file)


def parse_yaml(text: str, file: Path | None = None) -> YamlFile:
    """Parse `text`; see `read_yaml` for the errors."""
    lines: dict[KeyPath, int] = {}
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _walk(root, (), lines, file)
        document = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        problem = shortened(" ".join((error.problem or "").split()), 200)
        raise RecipeError(f"not valid YAML: {problem}", file=file, line=line) from None
    except RecipeError as error:
        raise error if error.file else RecipeError(error.message, file=file) from None
    except RecursionError:
        raise RecipeError("not valid YAML: nested too deeply", file=file) from None
    except (yaml.YAMLError, ValueError) as error:
        raise RecipeError(f"not valid YAML: {first_line(error)}", file=file) from None
    finally:
        if loader is not None:
            loader.dispose()
    return YamlFile(document, file, lines)


def parse_value(text: str, key: str) -> Any:
    """Parse the value of a setting called `key` on the command line, under a recipe's rules."""
    try:
        return parse_yaml(text).document
    except RecipeError as error:
        raise RecipeError(error.message, key=key) from None


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], file: Path | None) -> None:
    """Note the line of every key, and refuse what no recipe can mean; aliases count each time."""
    line = node.start_mark.line + 1
    if len(lines) > MAX_NODES:
        raise RecipeError(f"the file has more than {MAX_NODES} entries", file=file)
    if len(path) > MAX_STEPS:
        raise RecipeError("not valid YAML: nested too deeply", file=file, line=line)
    lines.setdefault(path, line)
    if node.tag not in _TAGS:
        raise RecipeError(
            f"a value of the kind {shortened(node.tag, 60)} cannot stand here; write plain text, "
            "numbers, lists and mappings",
            file=file, line=line, key=dotted(path),
        )  # fmt: skip
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode) or key.tag not in (*_TAGS, _MERGE):
                raise RecipeError("a key must be plain text", file=file, line=line)
            _check_text(key.value, line, file)
            if key.tag == _BOOL:  # `on` is a name here, as it is in YAML 1.2
                key.tag = _TEXT
            if key.value in seen:
                raise RecipeError("the key stands twice", file=file, line=line, key=str(key.value))
            seen.add(key.value)
            lines[(*path, key.value)] = line
            _walk(value, (*path, key.value), lines, file)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            _walk(value, (*path, index), lines, file)
    else:
        _check_text(node.value, line, file)


def _check_text(text: str, line: int, file: Path | None) -> None:
    r"""Refuse what YAML can write (``"\0"``, ``"\ud800"``) and neither files nor texts can hold."""
    found = (_UNUSABLE if file else _UNUSABLE_TYPED).search(text)
    if found is not None:
        raise RecipeError(
            f"holds the character U+{ord(found[0]):04X}, which no text or file name can have",
            file=file,
            line=line,
        )


def setting(key: str, value: Any) -> str:
    """Write ``key=value`` so that `apply_settings` reads the same value back.

    Every character but plain ASCII is written as its number: YAML takes neither JSON's pairs of
    surrogates nor, as they are, the lone ones by which Python names bytes that are no UTF-8.
    """
    import json

    text = json.dumps(_plain(value, key), ensure_ascii=False)
    return f"{key}=" + re.sub(r"[^ -~]", lambda found: f"\\U{ord(found[0]):08x}", text)


def _plain(value: Any, key: str) -> Any:
    """Give a value of Python as a recipe holds it: paths are texts, tuples are lists.

    Raises
    ------
    RecipeError
        When it is something that no recipe can hold.
    """
    import os

    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {name: _plain(one, f"{key}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one, f"{key}[{index}]") for index, one in enumerate(value)]
    if callable(item := getattr(value, "item", None)) and not getattr(value, "shape", ()):
        return item()  # a number of numpy's
    raise RecipeError(
        f"a recipe cannot hold a {type(value).__name__}; give text, numbers, lists and mappings",
        key=key,
    )


def apply_settings(document: Any, settings: Settings, option: str = "--set") -> Any:
    """Lay settings over a document, in order, and give the new document.

    A key is a dotted path; list positions are ``[n]``. Values are YAML. Below ``stages`` the name
    of a stage sets the field wherever that stage stands: ``stages.distil.epochs=2``.

    Parameters
    ----------
    document : mapping
    settings : mapping of str to object, or sequence of str
        Values by their keys, or texts ``key=value``.
    option : str
        What they were given with, for errors.

    Raises
    ------
    RecipeError
        When a setting is no ``key=value``, or a list position does not exist.
    """
    import copy

    result = copy.deepcopy(document)
    for key, value in _pairs(settings, option):
        named = f"{option} {key.strip()}"
        words = re.findall(r"\[(\d+)\]|([^.\[\]]+)", key.strip())
        if not words or len(words) > MAX_STEPS or _UNUSABLE_TYPED.search(key):
            raise RecipeError("this is no key; write a path such as data.root", key=named)
        parts: list[str | int] = [_position(index) if index else name for index, name in words]
        if not isinstance(result, dict):
            raise RecipeError("a recipe is a mapping of keys")
        if len(parts) > 1 and parts[0] == "stages" and isinstance(parts[1], str):
            if not _set_in_stages(result.get("stages"), parts[1:], value, named):
                typed = ".".join(map(str, parts[1:-1])) or str(parts[1])
                near = meant(typed, set(_stages_below(result.get("stages"))))
                raise RecipeError(f"no stage of this name in the recipe{near}", key=named)
        else:
            _set(result, parts, value, named)
    return result


def _pairs(settings: Settings, option: str) -> Iterator[tuple[str, Any]]:
    if isinstance(settings, Mapping):
        yield from ((key, _plain(value, key)) for key, value in settings.items())
        return
    for text in settings:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"{option} wants KEY=VALUE, not {shortened(text, 80)!r}")
        yield key, parse_value(value, f"{option} {key.strip()}")


def _position(index: str) -> int:
    """Read a position in a list; one of more digits than any list has is beyond every end."""
    return int(index) if len(index) < 10 else 10**9


def _set(node: Any, parts: list[str | int], value: Any, key: str) -> None:
    while True:
        if isinstance(node, list):
            index = parts[0]
            if not isinstance(index, int) or index >= len(node):
                raise RecipeError(f"there is no entry {index!r} here", key=key)
            if len(parts) == 1:
                node[index] = value
                return
            if isinstance(node[index], str):  # a bare stage name gets its first field
                node[index] = {node[index]: {}}
            node, parts = node[index], parts[1:]
            continue
        if not isinstance(node, dict):
            raise RecipeError("the path leads below a plain value", key=key)
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


def _stages_below(node: Any) -> Iterator[str]:
    """Give the names of the stages below `node`."""
    for item in node if isinstance(node, list) else ():
        if isinstance(item, str):
            yield item
        elif isinstance(item, dict):
            for name, below in item.items():
                yield from _stages_below(below) if name == "any" else (str(name),)
        else:
            yield from _stages_below(item)


def _set_in_stages(node: Any, parts: list[str | int], value: Any, key: str) -> int:
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
                    _set(item[name], parts[length:], value, key)
                    hits += 1
                    break
            else:
                hits += _set_in_stages(item, parts, value, key)
    elif isinstance(node, dict):
        hits += sum(_set_in_stages(child, parts, value, key) for child in node.values())
    return hits
