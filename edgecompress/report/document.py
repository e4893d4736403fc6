"""``results.json``: a result as a stable document, written and read back without loss.

The fields are those of `edgecompress.results.RunResult`; docs/results.md explains each. JSON has no
NaN and no infinity: such a number is written as null, and a measurement then says why it is
invalid. Within one format number fields may be added and never change their meaning; a reader
ignores those it does not know.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePath
from typing import Any

from pydantic import TypeAdapter, ValidationError

from edgecompress.errors import DataError
from edgecompress.report.fields import DESCRIPTIONS, NULLABLE
from edgecompress.results import RunResult
from edgecompress.values import Json, Measurement

FORMAT = 1
NOT_FINITE = "the value was not a finite number: measure it again"


def to_json(result: RunResult, *, compact: bool = False) -> str:
    """Write `result` as the text of ``results.json`` (UTF-8, keys in their documented order).

    Parameters
    ----------
    result : RunResult
    compact : bool
        Without blanks and line ends, which are a third of it: for a bundle's evidence.

    Raises
    ------
    DataError
        When the result holds something that JSON cannot, naming where.
    """
    document = _clean(asdict(result), "result")
    for row in document["rows"]:
        _explain(row["measurements"])
    blanks: Json = {"separators": (",", ":")} if compact else {"indent": 1}
    return json.dumps(document, **blanks, ensure_ascii=False, allow_nan=False) + "\n"


def measurements_json(measurements: Sequence[Measurement]) -> str:
    """Write measurements alone, as ``results.json`` holds them.

    Raises
    ------
    DataError
        When one holds something that JSON cannot, naming where.
    """
    document = _documents(measurements)
    return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def measurement_lines(measurements: Sequence[Measurement], **more: str) -> str:
    """Write a line of JSON for each measurement, begun by what `more` says of all of them.

    Raises
    ------
    DataError
        When one holds something that JSON cannot, naming where.
    """
    return "".join(
        json.dumps({**more, **one}, ensure_ascii=False, allow_nan=False) + "\n"
        for one in _documents(measurements)
    )


def _documents(measurements: Sequence[Measurement]) -> list[Json]:
    found: list[Json] = _clean([asdict(one) for one in measurements], "measurements")
    _explain(found)
    return found


def _explain(measurements: Sequence[Json]) -> None:
    """Say of what was not finite that it was not, and drop half an interval."""
    for measurement in measurements:
        interval = measurement["interval"]
        if interval is not None and None in interval:
            measurement["interval"] = None
        if measurement["value"] is None and not measurement["invalid"]:
            measurement["invalid"] = NOT_FINITE


def from_json(text: str) -> RunResult:
    """Read ``results.json`` back.

    A measurement's null value becomes NaN, and a verdict's null miss becomes infinity.

    Raises
    ------
    DataError
        When the text is not JSON, is of a later format, or lacks a field, which is named.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise DataError(f"results.json is not JSON ({error}); run the recipe again") from None
    if not isinstance(document, dict) or not isinstance(document.get("format"), int):
        raise DataError("results.json has no format number; run the recipe again")
    if document["format"] > FORMAT:
        raise DataError(
            f"results.json is of format {document['format']}, newer than this version's {FORMAT}: "
            "upgrade edgecompress"
        )
    _restore(document)
    try:
        return TypeAdapter(RunResult).validate_python(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise DataError(f"results.json is damaged: {where}: {first['msg']}") from None


def json_schema() -> Json:
    """Give the JSON Schema of ``results.json``, every field described and required."""
    schema = TypeAdapter(RunResult).json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    for name, fields in DESCRIPTIONS.items():
        target = schema if name == "RunResult" else definitions[name]
        # The classes' own docstrings speak of Python; the fields below say all a reader needs.
        target.pop("description", None)
        target["required"] = list(target["properties"])
        for field, description in fields.items():
            target["properties"][field]["description"] = description.replace("`", "")
            target["properties"][field].pop("default", None)
            if (name, field) in NULLABLE:
                target["properties"][field].pop("type", None)
                target["properties"][field]["anyOf"] = [{"type": "number"}, {"type": "null"}]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "edgecompress results.json",
    } | {key: value for key, value in schema.items() if key != "title"}


def _clean(value: Any, where: str) -> Any:
    """Turn `value` into what JSON holds: lists, objects, finite numbers."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _clean(one, f"{where}.{key}") for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(one, f"{where}[{index}]") for index, one in enumerate(value)]
    if isinstance(value, PurePath):
        return value.as_posix()
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy scalar
        return _clean(value.item(), where)
    raise DataError(f"{where} holds a {type(value).__name__}, which results.json cannot")


def _restore(document: Json) -> None:
    """Put NaN and infinity back where null stands for them."""
    rows = document.get("rows")
    rows = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    for row in rows:
        _put(row.get("measurements"), "value", math.nan)
        _put(row.get("verdicts"), "miss", math.inf)
    _put([document.get("verdict")], "miss", math.inf)


def _put(objects: object, key: str, value: float) -> None:
    for one in objects if isinstance(objects, list) else []:
        if isinstance(one, dict) and key in one and one[key] is None:
            one[key] = value
