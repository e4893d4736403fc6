"""Models of several graphs that belong together: stages and observers go part by part.

A part is worked on as a model of its own, without a task or a tokenizer: what a decoder is given is
not what a person gives. So no stage knows of parts. A part's inputs are files, or made up, or what
the whole gives to it when it is asked the examples (`quantization.observe.part_data`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgecompress.context import Context
from edgecompress.errors import StageError
from edgecompress.onnx_files import onnx_model_files
from edgecompress.values import Candidate, Json, Measurement, OnnxModel


def _part(candidate: Candidate | None, name: str) -> Candidate | None:
    """Give a part of a candidate as a candidate; None where it has no such part."""
    model = candidate.model if candidate is not None else None
    if candidate is None or not isinstance(model, OnnxModel) or name not in model.graphs:
        return None
    return Candidate(model.graphs[name], steps=candidate.steps)


def several(candidate: Candidate) -> bool:
    """Tell whether a candidate's model has several parts."""
    return isinstance(candidate.model, OnnxModel) and bool(candidate.model.parts)


def applied_by_part(
    stage: Any, candidate: Candidate, context: Context, recorded: Json | None = None
) -> Candidate:
    """Apply a transform to each part of a model; what it decides is kept by part.

    Parameters
    ----------
    stage : Transform
        One that takes ONNX models.
    candidate : Candidate
        Of several parts.
    context : Context
    recorded : dict, optional
        What was decided when this model was first made.

    Raises
    ------
    StageError
        When it fails for a part, naming it, or there is no such part as it asks for.
    """
    asked = getattr(stage, "part", None)
    check_part(asked, candidate)
    made: dict[str, OnnxModel] = {}
    decided: Json = {}
    measured: Json = {}
    before = (recorded or {}).get("parts", {})
    for name, one, inner in _each(candidate, context):
        if asked not in (None, name):
            made[name] = _copied(one, context.folder / "model" / name)
            continue
        inner.folder.mkdir(parents=True)
        inner.scratch.mkdir(parents=True, exist_ok=True)
        with _naming(name):
            found = stage.for_part(name).apply(one, inner, before.get(name))
        model = found.model
        place = context.folder / "model" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(model.directory, place)
        made[name] = replace(model, path=place / model.path.name)
        decided[name] = found.steps[-1].decisions
        if found.steps[-1].measured:
            measured[name] = found.steps[-1].measured
    shutil.rmtree(context.folder / "parts")
    return candidate.with_model(
        OnnxModel.of(made), measured={"parts": measured} if measured else None, parts=decided
    )


def check_part(asked: str | None, candidate: Candidate) -> None:
    """Refuse a part that a model does not have.

    Raises
    ------
    StageError
        Naming those that it has.
    """
    model = candidate.model
    parts = [name for name, _ in model.parts] if isinstance(model, OnnxModel) else []
    if asked is not None and asked not in parts:
        known = ", ".join(parts) if parts else "it is one graph; leave `part` out"
        raise StageError(f"the model has no part {asked!r} ({known})")


def _copied(part: Candidate, place: Path) -> OnnxModel:
    """Copy a part that stays as it is."""
    model = part.model
    if not isinstance(model, OnnxModel):
        raise StageError("a part is an ONNX model")
    for file in onnx_model_files(model.path):
        target = place / file.relative_to(model.path.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    return replace(model, path=place / model.path.name)


SLICE = "part:"
"""How the slice of a measurement of one part begins."""


def part_of(found: Measurement) -> str | None:
    """Give the part that a measurement is of; None where it is of a whole model."""
    at = found.slice if found.slice is not None and found.slice.startswith(SLICE) else None
    return at.removeprefix(SLICE) if at is not None else None


def observed_by_part(
    observer: Any, candidate: Candidate, context: Context
) -> tuple[Measurement, ...]:
    """Measure each part of a model; a measurement's slice says of which part it is.

    Raises
    ------
    StageError
        When a part cannot be measured, naming it.
    """
    found: list[Measurement] = []
    for name, one, inner in _each(candidate, context):
        with _naming(name):
            measured = observer.for_part(name).observe(one, inner)
        for each in measured:
            part = f"{SLICE}{name}" if each.slice is None else f"{each.slice} of {name}"
            found.append(replace(each, slice=part))
    return tuple(found)


def _each(candidate: Candidate, context: Context) -> Iterator[tuple[str, Candidate, Context]]:
    """Give each part as a model of its own, and what a stage is given that works on it."""
    for name, part in candidate.model.parts if isinstance(candidate.model, OnnxModel) else ():
        inner = replace(
            context,
            folder=context.folder / "parts" / name,
            scratch=context.scratch / name,
            reference=_part(context.reference, name),
            whole=(candidate, name),
        )
        yield name, Candidate(part, steps=candidate.steps), inner


@contextmanager
def _naming(name: str) -> Iterator[None]:
    """Say in an error of which part it is."""
    try:
        yield
    except StageError as error:
        raise StageError(f"{name}: {error}") from None


def by_part(found: Mapping[str, Any]) -> dict[str, Json]:
    """Give what a step decided (or measured) by its part; by the empty name where it has none."""
    parts = found.get("parts")
    return dict(parts) if isinstance(parts, dict) else {"": dict(found)}
