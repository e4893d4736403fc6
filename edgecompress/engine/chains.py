"""Stages of a recipe, forks and all, as chains; and whether a chain's order can work."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgecompress.engine.learned_ranges import check_learned_ranges
from edgecompress.errors import StageError
from edgecompress.stage import Kind, Observer, Stage, Transform, stage_class, stage_modules
from edgecompress.tasks import task
from edgecompress.validation import validated
from edgecompress.values import OnnxModel, TorchModel
from edgecompress.words import meant
from edgecompress.yamlfile import KeyPath, YamlFile

MAX_CANDIDATES = 500
"""More is a mistake in the forks, not a plan: at ten seconds each it is over an hour."""
MAX_STAGES = 100
"""Of one chain; the longest that anybody has needed had about ten."""
MEASURED = ("size", "profile", "evaluate")
"""Observers that every run has."""
NO_DATA = "give --train FILE and --validation FILE, or --recipe RECIPE"
"""What to do where there is no recipe to put data files into."""


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
class Given:
    """What a recipe gives its stages beside the candidate."""

    data: bool
    teacher: bool


def expand(items: Any, path: KeyPath, source: YamlFile) -> tuple[Chain, ...]:
    """Expand a list of stages and forks into all chains, in the order of the file."""
    if not isinstance(items, list):
        raise source.error("stages are a list", path)
    if len(items) > MAX_STAGES:
        raise source.error(f"there are {len(items)} stages; {MAX_STAGES} are the most", path)
    choices: list[list[Chain]] = []
    total = 1
    for index, item in enumerate(items):
        here = (*path, index)
        choices.append(_expand_item(item, here, source))
        total *= len(choices[-1])
        _check_number(total, here, source)
    return tuple(
        tuple(itertools.chain.from_iterable(parts)) for parts in itertools.product(*choices)
    )


def _check_number(candidates: int, path: KeyPath, source: YamlFile) -> None:
    """Refuse forks that multiply beyond any plan, before the candidates are built."""
    if candidates > MAX_CANDIDATES:
        raise source.error(f"the forks give more than {MAX_CANDIDATES} candidates", path)


def _expand_item(item: Any, path: KeyPath, source: YamlFile) -> list[Chain]:
    if isinstance(item, dict) and set(item) == {"any"}:
        branches = item["any"]
        if not isinstance(branches, list) or not branches:
            raise source.error("a fork is a list of branches", (*path, "any"))
        chains: list[Chain] = []
        for index, branch in enumerate(branches):
            here = (*path, "any", index)
            chains += expand(branch if isinstance(branch, list) else [branch], here, source)
            _check_number(len(chains), here, source)
        return chains
    return [(stage_use(*_named(one, path, source), source),) for one in _each(item, path, source)]


def _each(item: Any, path: KeyPath, source: YamlFile) -> list[Any]:
    """Give one item per value of a field's ``{each: [...]}``; of several fields, all combinations.

    ``prune.magnitude: {sparsity: {each: [0.5, 0.9]}}`` is a fork of two branches.
    """
    fields = next(iter(item.values())) if isinstance(item, dict) and len(item) == 1 else None
    if not isinstance(fields, dict):
        return [item]
    name = next(iter(item))
    swept = {k: v["each"] for k, v in fields.items() if isinstance(v, dict) and set(v) == {"each"}}
    for key, values in swept.items():
        if not isinstance(values, list) or not values:
            raise source.error("each wants a list of values", (*path, name, key, "each"))
    _check_number(math.prod(len(values) for values in swept.values()), (*path, name), source)
    return [
        {name: {**fields, **dict(zip(swept, values, strict=True))}}
        for values in itertools.product(*swept.values())
    ]


def stage_use(name: str, fields: Any, path: KeyPath, source: YamlFile) -> StageUse:
    """Make a stage of its fields, which stand at `path`; an unknown name gets the nearest one."""
    stage = _made(name, fields, path, source)
    if not isinstance(stage, Transform):
        raise source.error("this stage measures; name it under `observers`", path)
    return StageUse(name, stage, path)


def observers_of(items: Sequence[Any], source: YamlFile) -> tuple[Observer, ...]:
    """Make what a recipe's `observers` name."""
    found = []
    for index, item in enumerate(items):
        name, fields, path = _named(item, ("observers", index), source)
        stage = _made(name, fields, path, source)
        if not isinstance(stage, Observer):
            raise source.error("this stage makes a model; name it under `stages`", path)
        if name in MEASURED:
            raise source.error(f"{name} measures every model as it is; leave it out", path)
        found.append(stage)
    return tuple(found)


def _named(item: Any, path: KeyPath, source: YamlFile) -> tuple[str, Any, KeyPath]:
    """Give the stage's name and fields of an entry of a list, and where the fields stand."""
    if isinstance(item, str):
        return item, {}, path
    if isinstance(item, dict) and len(item) == 1:
        name, fields = next(iter(item.items()))
        return str(name), fields, (*path, name)
    raise source.error("a stage is a name, or one name with its fields (name: {…})", path)


def _made(name: str, fields: Any, path: KeyPath, source: YamlFile) -> Stage:
    return validated(find_stage(name, source, path), {} if fields is None else fields, path, source)


def find_stage(name: str, source: YamlFile, path: KeyPath) -> type[Stage]:
    """Find a stage's class; an unknown name gets the nearest right one."""
    if name not in stage_modules():
        known = also_called("")
        raise source.error(f"unknown stage {name!r}{meant(name, known, known)}", path)
    return stage_class(name)


def also_called(prefix: str) -> dict[str, tuple[str, ...]]:
    """Give the stages that begin with `prefix`, without it, each with what else it is called."""
    found = {}
    for name in stage_modules():
        if name.startswith(prefix):
            try:
                others = stage_class(name).also_called
            except (ImportError, StageError):  # another's; it is said where it is used
                others = ()
            found[name.removeprefix(prefix)] = (name, *others)
    return found


def check_order(
    chain: Chain, start: Kind, given: Given, source: YamlFile, *, complete: bool
) -> None:
    """Check that each stage accepts what the one before yields, and has what it reads."""
    kinds = {TorchModel: "a PyTorch model", OnnxModel: "an ONNX model"}
    current = start
    quantized: dict[str | None, str] = {}
    for use in chain:
        if current not in use.stage.accepts:
            advice = "put export before it" if current is TorchModel else "put it before the export"
            if start is OnnxModel:
                advice = "it needs a checkpoint in PyTorch"
            if source.file is None:  # one stage from the command line
                to_onnx = "make an ONNX model of it first by `edgecompress export`"
                advice = to_onnx if current is TorchModel else "give the PyTorch model"
            if use.name == "export":
                raise source.error("the model is ONNX: it is exported already", use.path)
            raise source.error(
                f"{use.name} cannot work on {kinds[current]}, which is what it gets here; {advice}",
                use.path,
            )
        if use.stage.reads_examples() and not given.data:
            either = ", or --data PATH" if use.name.startswith("quantize.") else ""
            missing = "the recipe names no data" if source.file else f"{NO_DATA}{either}"
            raise source.error(f"{use.name} reads examples; {missing}", use.path)
        if use.stage.needs_teacher and not given.teacher:
            raise source.error(f"{use.name} needs a teacher", use.path)
        if use.name.startswith("quantize."):
            part = getattr(use.stage, "part", None)
            before = [
                name for one, name in quantized.items() if part is None or one in (None, part)
            ]
            if before:
                raise source.error(f"the model is already quantized by {before[-1]}", use.path)
            if not use.stage.leaves_quantizing():
                quantized[part] = use.name
        current = use.stage.yields
    check_learned_ranges(chain, source, complete=complete)
    if complete and current is not OnnxModel:
        last = chain[-1].path if chain else ("stages",)
        raise source.error("this chain ends in PyTorch; end it with export or a quantization", last)


def check_joined(chain: Chain, source: YamlFile) -> None:
    """Check that of a model that is exported in parts one graph is made."""
    if all(use.stage.by_part for use in chain):
        last = chain[-1].path if chain else ("stages",)
        raise source.error(
            "models of this task are exported as several graphs, and this chain leaves them apart; "
            "end it with join",
            last,
        )


def export_chain(kind: str | None) -> Chain:
    """Give the fp32 export of a task's models: `export` with its defaults, and `join` for parts."""
    names = ("export", *(("join",) if kind is not None and task(kind).in_parts else ()))
    stages = [stage_class(name)() for name in names]
    return tuple(
        StageUse(name, stage, ())
        for name, stage in zip(names, stages, strict=True)
        if isinstance(stage, Transform)
    )


def lossless_part(chain: Chain) -> Chain:
    """Give the stages of a chain that change no answer: the fp32 reference may have them too.

    The reference is one graph, so that of a model of parts those count that follow `join`.
    """
    joined = [place for place, use in enumerate(chain) if not use.stage.by_part]
    after = chain[joined[-1] + 1 :] if joined else chain
    return tuple(use for use in after if use.stage.lossless and use.name != "export")


def chain_names(chains: Sequence[Chain]) -> tuple[str, ...]:
    """Short unique names: the stages joined by ``+``, with the fields that differ.

    Stages that change no answer (export, fuse) are left out where the names stay apart.
    """
    differing = _differing(chains)
    short = [_names([u for u in chain if not u.stage.lossless], differing) for chain in chains]
    if len(set(short)) < len(chains):
        short = [_names(chain, differing) for chain in chains]
    counts: dict[str, int] = {}
    unique = []
    for name in short:
        counts[name] = counts.get(name, 0) + 1
        unique.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return tuple(unique)


def _differing(chains: Sequence[Chain]) -> dict[str, list[str]]:
    """Give, by the name of a stage, the fields in which its uses are not all alike."""
    seen: dict[str, dict[str, list[Any]]] = {}
    for use in itertools.chain.from_iterable(chains):
        fields = seen.setdefault(use.name, {})
        for key, value in use.stage.model_dump(mode="json").items():
            values = fields.setdefault(key, [])
            if value not in values:
                values.append(value)
    return {
        name: [key for key, values in fields.items() if len(values) > 1]
        for name, fields in seen.items()
    }


def _names(uses: Sequence[StageUse], differing: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for use in uses:
        mine = use.stage.model_dump(mode="json")
        inside = ",".join(f"{key}={_short(mine[key])}" for key in differing[use.name])
        parts.append(f"{use.name}({inside})" if inside else use.name)
    return "+".join(parts) or "fp32"
