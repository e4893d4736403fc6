"""A recipe: YAML, read strictly, whose forks expand into chains of stages.

Nothing here imports torch or onnxruntime, so that `edgecompress check` answers at once.
"""

from __future__ import annotations

import difflib
import itertools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from edgecompress.data import DataConfig, data_config
from edgecompress.errors import DataError, RecipeError
from edgecompress.stage import Stage, Transform, stage_class, stage_modules
from edgecompress.training.new_teacher import NewTeacher
from edgecompress.values import METRICS, Candidate, Json, Limit, OnnxModel, TorchModel
from edgecompress.yamlfile import KeyPath, YamlFile, apply_settings, dotted, read_yaml

MAX_CANDIDATES = 500
"""More is a mistake in the forks, not a plan: at ten seconds each it is over an hour."""

UNITS = {
    "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30,
    "us": 1e-3, "ms": 1.0, "s": 1e3, "x": 1.0, "%": 1e-2,
}  # fmt: skip
"""Suffixes of a bound, in the units of `Measurement`: bytes, milliseconds, ratios, fractions."""


def parse_quantity(value: Any) -> Any:
    """Turn ``10MB``, ``5ms``, ``3x`` or ``1%`` into a number; numbers pass through."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([-+]?[0-9.]+(?:[eE][-+]?\d+)?)\s*([a-zA-Z%]+)\s*", value)
        if match and match[2].lower() in UNITS:
            return float(match[1]) * UNITS[match[2].lower()]
        if match:
            raise ValueError(f"unknown unit {match[2]!r}; known: B, kB, MB, GB, us, ms, s, x, %")
    return value


Quantity = Annotated[float, BeforeValidator(parse_quantity), Field(allow_inf_nan=False)]


class Strict(BaseModel):
    """Frozen; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TeacherSpec(Strict):
    """Where the teacher comes from: an existing model, or a new one made from the data."""

    model: str | None = None
    """Directory or hub id of a Hugging Face model with its tokenizer."""
    new: NewTeacher | None = None
    """A small transformer of a fixed shape, trained from nothing with its own tokenizer."""
    finetune: dict[str, Any] | None = None
    """Fields of the `finetune` stage; left out: the teacher is ready."""
    trust: Literal["pickle"] | None = None
    """`pickle` permits a pytorch_model.bin, read with weights_only."""


class LimitSpec(Strict):
    """Bounds on one metric; give at least one."""

    max: Quantity | None = None
    """Largest value allowed (5ms, 10MB, 0.02)."""
    min: Quantity | None = None
    """Smallest value allowed."""
    max_drop: Quantity | None = None
    """Largest allowed loss: the teacher's value minus the candidate's."""
    max_ratio: Quantity | None = None
    """Largest allowed candidate / teacher."""
    min_ratio: Quantity | None = None
    """Smallest allowed candidate / teacher."""


class RecipeFields(Strict):
    """The keys of a recipe, apart from `stages` and `data`, which are read by their own rules."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=80)
    """Letters, digits, `.`, `_` and `-`; names the bundle."""
    task: str | None = None
    """token-classification or text-classification; left out only for a foreign ONNX file."""
    teacher: TeacherSpec | None = None
    """The model to compress, in PyTorch."""
    model: str | None = None
    """What chains start from instead of the teacher: an ONNX file, a candidate's or a bundle's
    directory, or a Hugging Face directory."""
    data: dict[str, Any] | None = None
    """The data files; its keys depend on `format`."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Every random choice derives from it."""
    stages: list[Any] = Field(default_factory=list)
    """Stages in order; `any:` forks into branches."""
    profile: dict[str, Any] = Field(default_factory=dict)
    """Fields of the `profile` stage: threads, durations, counts."""
    targets: list[str] = Field(default_factory=lambda: ["local"], min_length=1)
    """Where candidates are measured."""
    budget: dict[str, LimitSpec] = Field(default_factory=dict)
    """Bounds by metric, or metric@target."""
    minimize: str = "size"
    """The metric by which the winner is chosen among those within the budget."""


@dataclass(frozen=True, slots=True)
class StageUse:
    """A stage at a place in a recipe."""

    name: str
    stage: Transform
    path: KeyPath

    @property
    def label(self) -> str:
        """Name and non-default fields, for tables: ``distil(epochs=6)``."""
        fields = self.stage.model_dump(mode="json", exclude_unset=True)
        inside = ", ".join(f"{key}={_short(value)}" for key, value in fields.items())
        return f"{self.name}({inside})" if inside else self.name


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 24 else text[:21] + "…"


Chain = tuple[StageUse, ...]


@dataclass(frozen=True, slots=True)
class Recipe:
    """A checked recipe."""

    fields: RecipeFields
    data: DataConfig | None
    chains: tuple[Chain, ...]
    budget: tuple[Limit, ...]
    document: Json
    file: Path | None = None
    source: YamlFile = field(repr=False, default=YamlFile({}, None, {}))

    @property
    def names(self) -> tuple[str, ...]:
        """A short unique name per chain, made of what differs between chains."""
        return chain_names(self.chains)


def load_recipe(file: Path, settings: Sequence[str] = (), *, complete: bool = True) -> Recipe:
    """Read a recipe, lay `settings` over it and check its keys, types and order of stages.

    Parameters
    ----------
    file : Path
        The YAML file; relative paths in it are relative to its folder.
    settings : sequence of str
        ``key=value``; paths given here are relative to the working directory.
    complete : bool
        False for a single stage run from the command line: the chain may end in PyTorch.

    Raises
    ------
    RecipeError, DataError
        At the first thing that is wrong.
    """
    parsed = read_yaml(file)
    if not isinstance(parsed.document, dict):
        raise RecipeError("a recipe is a mapping of keys", file=file, line=1)
    base = _absolute_paths(parsed.document, file.parent)
    document = _absolute_paths(apply_settings(base, settings), Path.cwd())
    return build_recipe(YamlFile(document, file, parsed.lines), complete=complete)


def build_recipe(source: YamlFile, *, complete: bool = True) -> Recipe:
    """Check a parsed document and give the recipe; see `load_recipe`."""
    document = source.document
    fields = validated(RecipeFields, document, (), source)
    if fields.teacher is None and fields.model is None:
        raise source.error("name a teacher, or a model to work on", ())
    if fields.teacher and (fields.teacher.model is None) == (fields.teacher.new is None):
        raise source.error("give either model or new", ("teacher",))
    if fields.teacher and fields.task is None:
        raise source.error("a teacher needs a task", ("task",))
    if fields.task is not None:
        from edgecompress.tasks import task

        try:
            task(fields.task)
        except DataError as error:
            raise source.error(error.message, ("task",)) from None
    data = None
    if fields.data is not None:
        try:
            data = data_config(fields.data)
        except ValidationError as error:
            raise explain(error, ("data",), source, type_of=None) from None
        except DataError as error:
            raise source.error(error.message, ("data",)) from None
    chains = expand(fields.stages, ("stages",), source)
    for chain in chains:
        check_order(chain, fields, source, complete=complete)
    if fields.teacher and (fields.teacher.new or fields.teacher.finetune) and data is None:
        raise source.error("training the teacher needs data", ("data",))
    budget = tuple(_limit(key, spec, fields, source) for key, spec in fields.budget.items())
    metric, at, target = fields.minimize.partition("@")
    _known_metric(metric, source, ("minimize",))
    if at:
        _known_target(target, fields, source, ("minimize",))
    return Recipe(fields, data, chains, budget, document, source.file, source)


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
        return source.error(f"unknown key{nearest(str(problem['loc'][-1]), known)}", where)
    if problem["type"] == "missing":
        return source.error("this key is required", where)
    message = problem["msg"].removeprefix("Value error, ")
    shown = repr(problem.get("input"))
    return source.error(f"{message[:1].lower()}{message[1:]}, not {shown[:60]}", where)


def _is_tag(part: int | str) -> bool:
    return isinstance(part, str) and ("[" in part or part in {"function-before", "float", "int", "str"})


def _fields_at(model: type[BaseModel], location: Iterable[int | str]) -> list[str]:
    import typing

    current: Any = model
    for part in location:
        info = getattr(current, "model_fields", {}).get(part)
        options = [] if info is None else [info.annotation, *typing.get_args(info.annotation)]
        options += [a for o in options for a in typing.get_args(o)]
        models = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        current = models[0] if models else current
    return list(getattr(current, "model_fields", {}))


def nearest(word: str, known: Iterable[str]) -> str:
    """Say «; did you mean 'x'?», or list what is known."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(known)}" if known else ""


def expand(items: Any, path: KeyPath, source: YamlFile) -> tuple[Chain, ...]:
    """Expand a list of stages and forks into all chains, in the order of the file."""
    if not isinstance(items, list):
        raise source.error("stages are a list", path)
    choices: list[list[Chain]] = []
    total = 1
    for index, item in enumerate(items):
        here = (*path, index)
        choices.append(_expand_item(item, here, source))
        total *= len(choices[-1])
        if total > MAX_CANDIDATES:
            raise source.error(f"the forks give more than {MAX_CANDIDATES} candidates", here)
    return tuple(
        tuple(itertools.chain.from_iterable(parts)) for parts in itertools.product(*choices)
    )


def _expand_item(item: Any, path: KeyPath, source: YamlFile) -> list[Chain]:
    if isinstance(item, dict) and set(item) == {"any"}:
        branches = item["any"]
        if not isinstance(branches, list) or not branches:
            raise source.error("a fork is a list of branches", (*path, "any"))
        chains: list[Chain] = []
        for index, branch in enumerate(branches):
            here = (*path, "any", index)
            chains += expand(branch if isinstance(branch, list) else [branch], here, source)
        return chains
    return [(_stage_use(item, path, source),)]


def _stage_use(item: Any, path: KeyPath, source: YamlFile) -> StageUse:
    if isinstance(item, str):
        name, parameters = item, {}
    elif isinstance(item, dict) and len(item) == 1:
        name, parameters = next(iter(item.items()))
        path = (*path, name)
    else:
        raise source.error("a stage is a name, or one name with its fields (name: {…})", path)
    found = find_stage(str(name), source, path)
    if not issubclass(found, Transform):
        raise source.error("this stage measures; measuring is done after every chain", path)
    stage = validated(found, {} if parameters is None else parameters, path, source)
    return StageUse(str(name), stage, path)


def find_stage(name: str, source: YamlFile, path: KeyPath) -> type[Stage]:
    """Find a stage's class; an unknown name gets the nearest right one."""
    if name not in stage_modules():
        raise source.error(f"unknown stage {name!r}{nearest(name, stage_modules())}", path)
    return stage_class(name)


def check_order(chain: Chain, fields: RecipeFields, source: YamlFile, *, complete: bool) -> None:
    """Check that each stage accepts what the one before yields, and has what it reads."""
    kinds = {TorchModel: "a PyTorch model", OnnxModel: "an ONNX model"}
    current: type[Any] = OnnxModel if starts_as_onnx(fields.model) else TorchModel
    quantized = ""
    for use in chain:
        if current not in use.stage.accepts:
            advice = (
                "put export before it" if current is TorchModel else "put it before the export"
            )
            raise source.error(
                f"{use.name} cannot work on {kinds[current]}, which is what it gets here; {advice}",
                use.path,
            )
        if use.stage.needs_data and fields.data is None:
            raise source.error(f"{use.name} reads examples; the recipe names no data", use.path)
        if use.stage.needs_teacher and fields.teacher is None:
            raise source.error(f"{use.name} needs a teacher", use.path)
        if use.name.startswith("quantize."):
            if quantized:
                raise source.error(f"the model is already quantized by {quantized}", use.path)
            quantized = use.name
        current = use.stage.yields
    if complete and current is not OnnxModel:
        last = chain[-1].path if chain else ("stages",)
        raise source.error("this chain ends in PyTorch; end it with export or a quantization", last)


def starts_as_onnx(model: str | None) -> bool:
    """Whether `model` of a recipe is an ONNX model: a file, a bundle, or a candidate of that kind."""
    if model is None:
        return False
    path = Path(model)
    if (path / "candidate.json").is_file():
        return isinstance(Candidate.load(path).model, OnnxModel)
    return path.suffix == ".onnx" or (path / "manifest.json").is_file()


def _limit(key: str, spec: LimitSpec, fields: RecipeFields, source: YamlFile) -> Limit:
    metric, _, target = key.partition("@")
    path: KeyPath = ("budget", key)
    _known_metric(metric, source, path)
    if target:
        _known_target(target, fields, source, path)
    values = spec.model_dump()
    if all(value is None for value in values.values()):
        raise source.error("give a bound: max, min, max_drop, max_ratio or min_ratio", path)
    return Limit(metric, target or None, **values)


def _known_metric(name: str, source: YamlFile, path: KeyPath) -> None:
    if name not in METRICS:
        raise source.error(f"unknown metric {name!r}{nearest(name, METRICS)}", path)


def _known_target(name: str, fields: RecipeFields, source: YamlFile, path: KeyPath) -> None:
    if name not in fields.targets:
        raise source.error(f"no target {name!r} in targets{nearest(name, fields.targets)}", path)


def _absolute_paths(document: Any, base: Path) -> Any:
    """Make the recipe's relative paths absolute against `base`, where something lies there."""
    import copy

    result = copy.deepcopy(document)
    if not isinstance(result, dict):
        return result
    for parent, key in ((result.get("teacher"), "model"), (result.get("data"), "root"), (result, "model")):
        value = parent.get(key) if isinstance(parent, dict) else None
        if isinstance(value, str) and value and not Path(value).is_absolute():
            # A relative data root is always a path; a model may also be a hub id.
            if (base / value).exists() or (key == "root" and value.startswith(".")):
                parent[key] = str((base / value).resolve())
    return result


def chain_names(chains: Sequence[Chain]) -> tuple[str, ...]:
    """Short unique names: the stages' names joined, the fields that differ added."""
    plain = ["+".join(use.name for use in chain) or "as-is" for chain in chains]
    names = []
    for index, chain in enumerate(chains):
        twins = [other for i, other in enumerate(chains) if plain[i] == plain[index]]
        parts = []
        for place, use in enumerate(chain):
            mine = use.stage.model_dump(mode="json")
            differing = [
                f"{key}={_short(value)}"
                for key, value in mine.items()
                if any(twin[place].stage.model_dump(mode="json")[key] != value for twin in twins)
            ]
            parts.append(use.name + (f"({','.join(differing)})" if differing else ""))
        names.append("+".join(parts) or "as-is")
    counts: dict[str, int] = {}
    unique = []
    for name in names:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return tuple(unique)


def recipe_schema() -> Json:
    """JSON Schema of a recipe, stages included, for editors."""
    schema = RecipeFields.model_json_schema()
    definitions = schema.setdefault("$defs", {})
    choices: list[Json] = []
    names: list[str] = []
    for name in sorted(stage_modules()):
        found = stage_class(name)
        if not issubclass(found, Transform):
            continue
        body = found.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(body.pop("$defs", {}))
        body["title"] = name
        choices.append({"type": "object", "properties": {name: {"anyOf": [body, {"type": "null"}]}},
                        "required": [name], "additionalProperties": False})  # fmt: skip
        names.append(name)
    branch = {"anyOf": [{"$ref": "#/$defs/stage"}, {"type": "array", "items": {"$ref": "#/$defs/stage"}}]}
    fork = {"type": "object", "properties": {"any": {"type": "array", "items": branch, "minItems": 1}},
            "required": ["any"], "additionalProperties": False}  # fmt: skip
    definitions["stage"] = {"anyOf": [{"enum": names}, *choices, fork]}
    schema["properties"]["stages"]["items"] = {"$ref": "#/$defs/stage"}
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "edgecompress recipe"
    return schema


__all__ = ["Recipe", "build_recipe", "chain_names", "dotted", "load_recipe", "recipe_schema"]
