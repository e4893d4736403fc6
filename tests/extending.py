"""The examples of docs/extending.md, taken out of the page."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """Give the page's blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def files() -> dict[str, str]:
    """Give the page's Python files by their names, which stand in their first lines."""
    parts = (code.partition("\n") for code in blocks("python"))
    return {first.removeprefix("# "): rest for first, _, rest in parts}


def module(name: str) -> types.ModuleType:
    """Import one of the files."""
    made = types.ModuleType(name)
    sys.modules[name] = made
    exec(compile(files()[f"{name}.py"], f"{name}.py", "exec"), made.__dict__)
    return made
