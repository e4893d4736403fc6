"""Whether the inputs of a recipe are those that a bundle was made from, by their digests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.bundle.manifest import Manifest
from edgecompress.chains import Chain
from edgecompress.data.calibration import load_calibration
from edgecompress.errors import DataError
from edgecompress.origin import input_files
from edgecompress.recipe import Recipe
from edgecompress.values import Json, file_digest


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where a bundle's inputs lie now; what is left out is as the recipe says."""

    data_root: Path | None = None
    teacher: str | None = None
    model: str | None = None
    settings: tuple[str, ...] = ()

    def given(self) -> frozenset[str]:
        """Name the models that a person said the place of: ``teacher``, ``model``."""
        keys = {text.partition("=")[0].strip().removesuffix(".model") for text in self.settings}
        named = {"teacher": self.teacher, "model": self.model}
        return frozenset(role for role, place in named.items() if place or role in keys)


NOTHING_SAID = Inputs()


def check_inputs(recipe: Recipe, chain: Chain, manifest: Manifest) -> None:
    """Refuse inputs that are not those that the bundle was made from.

    Raises
    ------
    DataError
        Naming the file, and its digests then and now.
    """
    known = manifest.inputs
    if recipe.data is not None:
        for split, entry in known.get("data", {}).items():
            _check_split(recipe, split, entry)
    sources = {
        "teacher": recipe.fields.teacher and recipe.fields.teacher.model,
        "model": recipe.fields.model,
    }
    for role, source in sources.items():
        files = known.get(role, {}).get("files", [])
        if source and files:
            _check_model(role, source, {one["name"]: one["sha256"] for one in files})
    used = (getattr(use.stage, "calibration", None) for use in chain)
    sets = {found.name: found.digest for name in used if name for found in [load_calibration(name)]}
    for entry in known.get("calibration", []):
        now = sets.get(entry["name"], "none of that name")
        if now != entry["digest"]:
            raise DataError(
                f"the calibration set {entry['name']!r} is another one: its digest was "
                f"{entry['digest']} and is {now}; name the file with "
                "--set stages.STAGE.calibration=FILE"
            )


def left_to_the_bundle(recipe: Recipe, inputs: Inputs) -> tuple[str, ...]:
    """Give the ids of a hub's models that the bundle alone names, and that would be fetched.

    Parameters
    ----------
    recipe : Recipe
        The bundle's, with the places that a person named.
    inputs : Inputs
        What a person said.
    """
    given = inputs.given()
    fields = recipe.fields
    sources = {"teacher": fields.teacher and fields.teacher.model, "model": fields.model}
    return tuple(
        dict.fromkeys(
            str(source)
            for role, source in sources.items()
            if source and role not in given and not Path(source).exists()
        )
    )


def _check_split(recipe: Recipe, split: Any, entry: Json) -> None:
    data = recipe.data
    if data is None:
        return
    files = data.files(split) if entry.get("files") else ()
    for file, one in zip(files, entry.get("files", []), strict=False):
        if not file.is_file():
            raise DataError("is missing; say where the data lie with --data-root DIR", file=file)
        _same(file, one["sha256"], "--data-root")
    now = data.digest(split)
    if now != entry.get("digest"):
        raise DataError(
            f"the {split} split is not the one that the bundle was made from: its digest was "
            f"{entry.get('digest')} and is {now}; give the same data, or make another bundle with "
            "`edgecompress run`"
        )


def _check_model(role: str, source: str, files: dict[str, str]) -> None:
    place = Path(source)
    if not place.exists():
        raise DataError(
            f"the bundle's {role} was {source!r} on disk; say where it lies now with --{role}"
        )
    root = (place if place.is_dir() else place.parent).resolve()
    here = {str(one["name"]) for one in input_files(source)}
    for name, digest in files.items():
        if name not in here:
            raise DataError(f"is missing from the {role}; the bundle was made with it, "
                            f"SHA-256 {digest}", file=root / name)  # fmt: skip
        _same(root / name, digest, f"--{role}")
    for name in sorted(here - files.keys()):
        raise DataError(
            f"lies with the {role} and did not when the bundle was made; move it away",
            file=root / name,
        )


def _same(file: Path, digest: str, option: str) -> None:
    now = file_digest(file)
    if now != digest:
        raise DataError(
            f"is not the file that the bundle was made from: its SHA-256 was {digest} and is "
            f"{now}; name the right place with {option}, or make another bundle with "
            "`edgecompress run`",
            file=file,
        )
