"""Whether the inputs of a recipe are those that a bundle was made from, by their digests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.bundle.manifest import Manifest
from edgecompress.data.calibration import load_calibration
from edgecompress.engine.chains import Chain
from edgecompress.engine.origin import input_files
from edgecompress.engine.recipe import Recipe
from edgecompress.errors import BundleError, DataError
from edgecompress.reading import first_line
from edgecompress.values import Json, file_digest


@dataclass(frozen=True, slots=True)
class Inputs:
    """Where a bundle's inputs lie now; what is left out is as the recipe says."""

    data_root: Path | None = None
    teacher: str | None = None
    model: str | None = None
    settings: tuple[str, ...] = ()

    def given(self) -> frozenset[str]:
        """Name what a person said the place of: ``teacher``, ``model``, ``data``."""
        keys = {text.partition("=")[0].strip().removesuffix(".model") for text in self.settings}
        keys |= {"data"} if keys & {"data.root", "data.hub"} else set()
        named = {"teacher": self.teacher, "model": self.model, "data": self.data_root}
        return frozenset(role for role, place in named.items() if place or role in keys)


NOTHING_SAID = Inputs()

Digests = list[tuple[str, str]]
"""Names of files or sets, each with its digest."""


@dataclass(frozen=True, slots=True)
class _Recorded:
    """What a manifest says of the inputs: splits with their files, models, calibration sets."""

    splits: dict[str, tuple[str, Digests]]
    models: dict[str, Digests]
    sets: Digests


def check_inputs(recipe: Recipe, chain: Chain, manifest: Manifest) -> None:
    """Refuse inputs that are not those that the bundle was made from.

    Raises
    ------
    DataError
        Naming the file, and its digests then and now.
    BundleError
        When the manifest says of its inputs what no manifest does.
    """
    known = _recorded(manifest.inputs)
    if recipe.data is not None:
        for split, entry in known.splits.items():
            _check_split(recipe, split, *entry)
    sources = {
        "teacher": recipe.fields.teacher and recipe.fields.teacher.model,
        "model": recipe.fields.model,
    }
    for role, source in sources.items():
        if source and known.models[role]:
            _check_model(role, source, dict(known.models[role]))
    used = (getattr(use.stage, "calibration", None) for use in chain)
    sets = {found.name: found.digest for name in used if name for found in [load_calibration(name)]}
    for name, digest in known.sets:
        now = sets.get(name, "none of that name")
        if now != digest:
            raise DataError(
                f"the calibration set {name!r} is another one: its digest was {digest} and is "
                f"{now}; name the file with --set stages.STAGE.calibration=FILE"
            )


def _recorded(known: Json) -> _Recorded:
    """Read what a manifest says of the inputs; it may come from a stranger."""
    try:
        splits = {
            split: (str(entry.get("digest")), _pairs(entry.get("files", []), "sha256"))
            for split, entry in known.get("data", {}).items()
        }
        models = {
            role: _pairs(known.get(role, {}).get("files", []), "sha256")
            for role in ("teacher", "model")
        }
        sets = _pairs(known.get("calibration", []), "digest")
        if unknown := splits.keys() - {"train", "validation", "test"}:
            raise ValueError(f"there is no split {min(unknown)!r}")
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise BundleError(f"inputs: not as edgecompress writes it ({first_line(error)})") from None
    return _Recorded(splits, models, sets)


def _pairs(entries: list[Json], digest: str) -> Digests:
    return [(str(one["name"]), str(one[digest])) for one in entries]


def left_to_the_bundle(recipe: Recipe, inputs: Inputs) -> tuple[str, ...]:
    """Give the ids of the hub that the bundle alone names, and that would be fetched.

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
    found = [
        str(source)
        for role, source in sources.items()
        if source and role not in given and not Path(source).exists()
    ]
    hub = getattr(recipe.data, "hub", None)
    return tuple(dict.fromkeys(found + ([str(hub)] if hub and "data" not in given else [])))


def _check_split(recipe: Recipe, split: Any, digest: str, recorded: Digests) -> None:
    data = recipe.data
    if data is None:
        return
    files = data.files(split) if recorded else ()
    for file, (_, then) in zip(files, recorded, strict=False):
        if not file.is_file():
            raise DataError("is missing; say where the data lie with --data-root DIR", file=file)
        _same(file, then, "--data-root")
    now = data.digest(split)
    if now != digest:
        raise DataError(
            f"the {split} split is not the one that the bundle was made from: its digest was "
            f"{digest} and is {now}; give the same data, or make another bundle with "
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
