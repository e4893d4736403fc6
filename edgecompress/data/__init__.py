"""Labelled examples from files: one reader per format, found by the file's name.

A recipe's ``data`` names a ``format`` and what that format's class wants: `data_config` makes it.
Adding a format is adding one file that defines one `DataConfig`, or an entry point that names one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from edgecompress.data.base import SPLITS, DataConfig, Split, check_labels
from edgecompress.data.files import FileData
from edgecompress.discovery import found_classes
from edgecompress.errors import DataError
from edgecompress.values import Json
from edgecompress.words import meant

__all__ = [
    "GROUP",
    "SPLITS",
    "DataConfig",
    "FileData",
    "Split",
    "check_labels",
    "data_class",
    "data_config",
    "data_formats",
    "data_schema",
]

GROUP = "edgecompress.data"
"""The entry points by which others add formats."""


@functools.cache
def _classes() -> dict[str, type[DataConfig]]:
    def name_of(one: type[DataConfig]) -> str:
        return str(one.model_fields["format"].default)

    return found_classes(__name__, __path__, DataConfig, GROUP, name_of)  # type: ignore[type-abstract]


def data_formats() -> tuple[str, ...]:
    """Names of all formats, sorted."""
    return tuple(sorted(_classes()))


def data_class(name: object) -> type[DataConfig]:
    """Find the class that describes and reads the format `name`.

    Raises
    ------
    DataError
        When there is none; the text names the nearest one, or all.
    """
    found = _classes().get(name) if isinstance(name, str) else None
    if found is None:
        called = {one: kind.also_called for one, kind in _classes().items()}
        raise DataError(f"unknown data format {name!r}{meant(str(name), called, called)}")
    return found


def data_schema(other: Json) -> tuple[Json, Json]:
    """Make the JSON Schema of a recipe's ``data``: with each format its own keys.

    Parameters
    ----------
    other : dict
        Schema of what may stand in the place of any value.

    Returns
    -------
    schema, definitions : dict
        The definitions belong under ``$defs``. A format that is not installed here passes as it is.
    """
    definitions: Json = {}
    cases: list[Json] = []
    for name in data_formats():
        body = data_class(name).model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(body.pop("$defs", {}))
        fields = body["properties"]
        fields.update({key: {"anyOf": [one, other]} for key, one in fields.items()})
        fields["format"] = {"const": name}
        definitions[f"data.{name}"] = body | {"title": name}
        own = {"properties": {"format": {"const": name}}, "required": ["format"]}
        cases.append({"if": own, "then": {"$ref": f"#/$defs/data.{name}"}})
    form = {"anyOf": [{"enum": list(data_formats())}, {"type": "string"}]}
    schema = {
        "type": "object",
        "properties": {"format": form | {"description": "What the files are."}},
        "required": ["format"],
        "allOf": cases,
    }
    return schema, definitions


def data_config(document: Mapping[str, Any]) -> DataConfig:
    """Make the description of the data from a recipe's ``data``; no file is opened.

    Raises
    ------
    DataError
        When `format` is missing or unknown.
    pydantic.ValidationError
        When a key is unknown or a value is wrong.
    """
    if "format" not in document:
        raise DataError(f"data needs a format; there are {', '.join(data_formats())}")
    return data_class(document["format"]).model_validate(dict(document))
