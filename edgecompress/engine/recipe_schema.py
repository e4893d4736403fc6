"""The JSON Schema of a recipe, stages included, which editors check a file against."""

from __future__ import annotations

from collections.abc import Sequence

from edgecompress.data import data_schema
from edgecompress.engine.chains import MEASURED
from edgecompress.engine.recipe import RecipeFields
from edgecompress.stage import Observer, Stage, Transform, stage_class, stage_modules
from edgecompress.values import Json

SWEPT: Json = {
    "anyOf": [
        {
            "type": "object",
            "description": "A fork: one branch per value.",
            "properties": {"each": {"type": "array", "minItems": 1}},
            "required": ["each"],
            "additionalProperties": False,
        },
        {"type": "string", "pattern": r"^\{[A-Za-z_]\w*\}$", "description": "From the matrix."},
    ]
}
"""What may stand in the place of a stage's field beside a value of its own type."""


def recipe_schema() -> Json:
    """JSON Schema of a recipe, stages included, for editors."""
    schema = RecipeFields.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    filled = SWEPT["anyOf"][-1]
    listed: dict[type[Stage], list[Json]] = {Transform: [], Observer: []}
    for name in sorted(set(stage_modules()) - set(MEASURED)):
        found = stage_class(name)
        body = found.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(body.pop("$defs", {}))
        body["title"] = name
        for key, one in body.get("properties", {}).items():
            body["properties"][key] = {"anyOf": [one, {"$ref": "#/$defs/swept"}]}
        fields = {"anyOf": [body, filled, {"type": "null"}]}
        choice = {"type": "object", "properties": {name: fields},
                  "required": [name], "additionalProperties": False}  # fmt: skip
        listed[Transform if issubclass(found, Transform) else Observer].append(choice)
    branch = {
        "anyOf": [{"$ref": "#/$defs/stage"}, {"type": "array", "items": {"$ref": "#/$defs/stage"}}]
    }
    fork = {
        "type": "object",
        "properties": {
            "any": {"anyOf": [{"type": "array", "items": branch, "minItems": 1}, filled]}
        },
        "required": ["any"],
        "additionalProperties": False,
    }
    definitions["stage"] = {"anyOf": [_names(listed[Transform]), *listed[Transform], fork]}
    definitions["observer"] = {"anyOf": [_names(listed[Observer]), *listed[Observer]]}
    definitions["swept"] = SWEPT
    schema["properties"]["matrix"] = {
        "type": "object",
        "description": "Axes (a list of values each, or a mapping of named values to what they "
        "bring) and constants, filled in at {name}: one run per combination. An axis called "
        "seed, threads, task, model or minimize sets that field.",
    }
    data, more = data_schema(filled)
    definitions.update(more)
    said = schema["properties"]["data"].get("description", "")
    schema["properties"]["data"] = {"anyOf": [data, filled, {"type": "null"}], "description": said}
    schema["properties"]["teacher"] = {"anyOf": [schema["properties"]["teacher"], filled]}
    schema["properties"]["stages"]["items"] = {"$ref": "#/$defs/stage"}
    schema["properties"]["observers"]["items"] = {"$ref": "#/$defs/observer"}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "edgecompress recipe"
    return schema


def _names(choices: Sequence[Json]) -> Json:
    """Say that a stage may be named alone, without fields."""
    return {"enum": [name for choice in choices for name in choice["required"]]}
