"""Pydantic's findings as one sentence with file, line, key and the nearest valid key."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from edgecompress.errors import RecipeError
from edgecompress.words import did_you_mean, meant, shortened
from edgecompress.yamlfile import KeyPath, YamlFile

REQUIRED = "this key is required"
"""What is said of a key that is not there."""


def validated(model: type[Any], document: Any, path: KeyPath, source: YamlFile) -> Any:
    """Validate with pydantic; the first problem becomes a `RecipeError` with its line."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise explain(error, path, source, type_of=model) from None


def explain(
    error: ValidationError, path: KeyPath, source: YamlFile, type_of: type[BaseModel] | None
) -> RecipeError:
    """Say the first validation error in one sentence, with the nearest valid key."""
    problems = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
    problem = problems[0]
    where = (*path, *(part for part in problem["loc"] if not _is_tag(part)))
    if problem["type"] == "extra_forbidden":
        known = _fields_at(type_of, problem["loc"][:-1]) if type_of else []
        return source.error(f"unknown key{meant(str(problem['loc'][-1]), known)}", where)
    if problem["type"] == "missing":
        return source.error(REQUIRED, where)
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = "" if isinstance(given, dict | list) else f", not {repr(given)[:60]}"
    if problem["type"] == "literal_error" and isinstance(given, str):
        shown += did_you_mean(given, re.findall(r"'([^']+)'", problem["ctx"]["expected"]))
    message = shortened(f"{message[:1].lower()}{message[1:]}", 300)
    return source.error(f"{message}{shown}", where)


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and (
        "[" in part or part in {"function-before", "float", "int", "str"}
    )


def _within(annotation: Any) -> list[Any]:
    """Give an annotation and all that stand in its brackets, the outer ones first."""
    found = [annotation]
    for one in found:  # it grows
        found += typing.get_args(one)
    return found


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    current: Any = model
    for part in location:
        info = getattr(current, "model_fields", {}).get(part)
        options = [] if info is None else _within(info.annotation)
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        current = models[0] if models else current
    return [field.alias or name for name, field in getattr(current, "model_fields", {}).items()]
