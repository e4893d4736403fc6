"""How a good input becomes a hostile one: its tree, its text, its bytes, its place."""

from __future__ import annotations

import copy
import os
import random
import socket
from pathlib import Path
from typing import Any

STRANGE: tuple[Any, ...] = (
    None, True, False, "", " ", 0, -1, 1, 7, 10**9, 2**31, 2**63, 10**30, 10**400, -(10**30),
    0.5, -0.5, 1e308, -1e308, 1e-320, float("inf"), float("-inf"), float("nan"),
    "5", "5ms", "5 parsecs", "1.2.3ms", "nan", "-inf", "1e999s", "a" * 5000, "a b\tc\nd", "%s%n",
    "a\0b", "\ud800", "\udcff.txt", "💥", "é\u0301", "\u202e", "\x1b[31mred", "../../etc/passwd",
    "/", ".", "..", "~nobody-at-all/x", "/dev/zero", "/dev/full", "/proc/self/mem", "a" * 300,
    "x/" * 3000, "{}", "{each}", "{seed}", "{__class__}", "$HOME", "`id`", "local", "ssh://",
    "ssh://u@h:99999", "ssh://[::1", "ssh://u@h:port", "emulated://", "emulated://z80",
    "local@local", [], {}, [[]], [None], [{}], {"": 1}, {"a": {"b": {}}}, [1, "a", None],
    {"each": []}, {"each": 3}, {"each": [1, 2]}, {"any": []}, {"any": [[], {}]}, [[["export"]]],
    ["a"] * 300, list(range(200)), {str(n): n for n in range(200)},
)  # fmt: skip


def strange(chance: random.Random) -> Any:
    """A value that hardly any key wants."""
    return copy.deepcopy(chance.choice(STRANGE))


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of all that stands in a tree, the whole left out."""
    found = [path] if path else []
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        found += places(value, (*path, key))
    return found


def mutated(chance: random.Random, tree: Any, times: int = 1) -> tuple[Any, str]:
    """A copy of a tree with something in it changed, and what."""
    tree = copy.deepcopy(tree)
    told = []
    for _ in range(times):
        everywhere = places(tree)
        if not everywhere:
            return strange(chance), "all replaced"
        path = chance.choice(everywhere)
        parent = tree
        for part in path[:-1]:
            parent = parent[part]
        told.append(_change(chance, parent, path[-1]) + " at " + ".".join(map(str, path))[:80])
    return tree, "; ".join(told)


def _change(chance: random.Random, parent: Any, key: Any) -> str:
    what = chance.choice(
        ("replace", "replace", "replace", "drop", "rename", "wrap", "alien", "nest", "double")
    )
    value = parent[key]
    if what == "replace":
        parent[key] = strange(chance)
    elif what == "drop":
        del parent[key]
    elif what == "wrap":
        parent[key] = chance.choice(([value], {"each": [value, value]}, {"x": value}, [[value]]))
    elif what == "nest":
        for _ in range(chance.choice((3, 60, 400))):
            value = [value]
        parent[key] = value
    elif what == "double" and isinstance(parent, list):
        parent += [copy.deepcopy(value)] * chance.choice((1, 3, 300))
    elif isinstance(parent, dict):
        if what == "rename":
            del parent[key]
        parent[_misspelt(chance, str(key))] = value if what != "alien" else strange(chance)
    else:
        parent.insert(0, strange(chance))
    return what


def _misspelt(chance: random.Random, word: str) -> Any:
    at = chance.randrange(len(word) + 1)
    return chance.choice(
        (word[:at] + word[at + 1 :], word[:at] + "x" + word[at:], word.upper(), word + " ", "",
         f"{word}\0", f"{word}\ud800", "💥", 3, None, True, 1.5, "a" * 3000)
    )  # fmt: skip


def damaged(chance: random.Random, data: bytes) -> tuple[bytes, str]:
    """Bytes with some flipped, cut, put in, doubled, or in another encoding."""
    what = chance.choice(("flip", "flip", "flips", "cut", "insert", "double", "encode", "zero"))
    at = chance.randrange(len(data) + 1)
    if what == "flip" and data:
        at = min(at, len(data) - 1)
        data = data[:at] + bytes([data[at] ^ (1 << chance.randrange(8))]) + data[at + 1 :]
    elif what == "flips" and data:
        changed = bytearray(data)
        for _ in range(chance.randrange(2, 30)):
            changed[chance.randrange(len(changed))] = chance.randrange(256)
        data = bytes(changed)
    elif what == "cut":
        data = chance.choice((data[:at], data[at:], b"", data[: max(len(data) - 1, 0)]))
    elif what == "insert":
        put = chance.choice(
            (b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n\n", b"\t", b"\x85", b"\xed\xa0\x80",
             b"\x1b[2J", b'"', b"'", b"\xe2\x80\xa8", b"A" * 200_000, b"\n" * 50_000)
        )  # fmt: skip
        data = data[:at] + put + data[at:]
    elif what == "double":
        end = chance.randrange(at, len(data) + 1)
        data = data[:end] + data[at:end] * chance.choice((1, 3, 50)) + data[end:]
    elif what == "encode":
        text = data.decode("utf-8", "replace")
        data = text.encode(chance.choice(("utf-16", "utf-32", "latin-1", "utf-7")), "replace")
    elif what == "zero":
        data = data[:at] + bytes(min(len(data) - at, 64)) + data[at + 64 :]
    return data, what


def misplaced(chance: random.Random, file: Path) -> str:
    """Put something in a file's place that is no regular file, or none that can be read."""
    what = chance.choice(
        ("zero", "full", "random", "fifo", "folder", "socket", "loop", "dangling", "missing",
         "empty", "memory", "link")
    )  # fmt: skip
    kept = file.read_bytes() if file.is_file() else b""
    if file.is_file():
        file.unlink()
    devices = {"zero": "/dev/zero", "full": "/dev/full", "random": "/dev/urandom",
               "memory": "/proc/self/mem", "loop": file.name, "dangling": "nowhere"}  # fmt: skip
    if what in devices:
        file.symlink_to(devices[what])
    elif what == "fifo":
        os.mkfifo(file)
    elif what == "folder":
        file.mkdir()
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            before = Path.cwd()
            os.chdir(file.parent)  # the name of a socket is short
            made.bind(file.name)
            os.chdir(before)
    elif what == "empty":
        file.touch()
    elif what == "link":
        real = file.with_name(f"real-{file.name}")
        real.write_bytes(kept)
        file.symlink_to(real.name)
    return what


def spoilt(chance: random.Random, file: Path) -> str:
    """Damage a file that is there, or put something else in its place."""
    if chance.random() < 0.2:
        return misplaced(chance, file)
    data, told = damaged(chance, file.read_bytes())
    file.write_bytes(data)
    return told
