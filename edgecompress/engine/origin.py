"""Where a bundle comes from: the digests of its inputs, the code, the libraries, the licences.

All of it goes into the core, so that nothing here may depend on where or when a run was made: no
path, no name of a machine, no time. Two runs of one recipe on one machine with the same packages
find the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from edgecompress.data import SPLITS, DataConfig
from edgecompress.data.calibration import load_calibration
from edgecompress.engine.recipe import Recipe
from edgecompress.errors import DataError
from edgecompress.onnx_files import onnx_model_files
from edgecompress.provenance import candidate_digest, installed, package_digest
from edgecompress.reading import open_regular
from edgecompress.targets.agent.describe import describe
from edgecompress.tasks import needed_extra
from edgecompress.values import Candidate, Json, OnnxModel, file_digest

PAGE_BYTES = 65_536
"""Of a model's page; its licence stands in the head."""
PLATFORM = ("machine", "isa", "python", "libc")
"""Facts of `describe` that the bytes of a trained or calibrated model may depend on."""

CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "3-Clause BSD License": "BSD-3-Clause",  # as protobuf calls it
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}
"""SPDX identifiers of the licences that packages name in words."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a bundle's core says of where it comes from; each as in its `Manifest`.

    `packages` are the versions of what a bundle needs to run: edgecompress's base install.
    """

    recipe: Json = field(default_factory=dict)
    code: Json = field(default_factory=dict)
    platform: Json = field(default_factory=dict)
    versions: Json = field(default_factory=dict)
    inputs: Json = field(default_factory=dict)
    licences: Json = field(default_factory=dict)
    packages: Json = field(default_factory=dict)


def find_origin(
    recipe: Recipe, examples: dict[str, int], teacher: Candidate | None, winner: Candidate
) -> Origin:
    """Find out where a winner comes from.

    Parameters
    ----------
    recipe : Recipe
        As it ran.
    examples : dict of str to int
        How many examples each split has.
    teacher : Candidate or None
        As chains started from it.
    winner : Candidate
        What the bundle will hold.

    Raises
    ------
    DataError
        When an input has gone since it was read.
    """
    packages = installed(needed_extra(winner.task))
    inputs: Json = {}
    if recipe.data is not None:
        inputs["data"] = {split: _split(recipe.data, split, examples) for split in SPLITS}
    if recipe.fields.teacher is not None and teacher is not None:
        source = recipe.fields.teacher.model
        inputs["teacher"] = {
            "from": _name(source) if source else "new",
            "digest": candidate_digest(teacher),
            "files": input_files(source),
        }
    if recipe.fields.model is not None:
        model = recipe.fields.model
        inputs["model"] = {"from": _name(model), "files": input_files(model)}
    used = (step.parameters.get("calibration") for step in winner.steps)
    sets = [load_calibration(name) for name in sorted({str(name) for name in used if name})]
    if sets:
        inputs["calibration"] = [
            {"name": found.name, "digest": found.digest, "licence": found.licence} for found in sets
        ]
    facts = describe()
    return Origin(
        recipe=recipe.written,
        code={"version": packages.get("edgecompress", "unknown"), "digest": package_digest()},
        platform={name: facts[name] for name in PLATFORM},
        versions=installed("build"),
        inputs=inputs,
        licences=_licences(recipe, packages),
        packages=packages,
    )


def package_licence(name: str) -> str | None:
    """Give an installed package's licence: an SPDX expression where its metadata allow it."""
    try:
        found = metadata(name)
    except PackageNotFoundError:
        return None
    if found["License-Expression"]:
        return str(found["License-Expression"])
    for line in found.get_all("Classifier") or []:
        parts = line.split(" :: ")
        if parts[0] == "License" and parts[-1] in CLASSIFIERS:
            return CLASSIFIERS[parts[-1]]
    text = str(found["License"] or "").strip()
    return CLASSIFIERS.get(text, text) if text and "\n" not in text and len(text) <= 80 else None


def _split(data: DataConfig, split: str, examples: dict[str, int]) -> Json:
    where = next(name for name in SPLITS if name == split)
    drawn = data.drawn(where)
    return {
        "digest": data.digest(where),
        "examples": examples.get(split, 0),
        "files": [
            {"name": name, "sha256": file_digest(file)} for name, file in data.named_files(where)
        ],
        **({"drawn": drawn} if drawn is not None else {}),
    }


def _name(model: str) -> str:
    """Give a model's folder or file without the way to it; a hub id as it is."""
    return Path(model).name if Path(model).exists() else model


def input_files(model: str | None) -> list[Json]:
    """Digests of a model's own files on this machine; none for a hub id."""
    place = Path(model) if model else None
    if place is None or not place.exists():
        return []
    if place.is_file():
        root, files = place.parent, list(onnx_model_files(place))
    elif (place / "candidate.json").is_file():
        found = Candidate.load(place).model
        if isinstance(found, OnnxModel):
            root, files = place, list(onnx_model_files(found.path))
        else:
            root, files = place, sorted(found.directory.iterdir())
    else:
        root, files = place, sorted(path for path in place.iterdir() if path.is_file())
    try:
        return [
            {"name": file.relative_to(root).as_posix(), "sha256": file_digest(file)}
            for file in files
        ]
    except OSError as error:
        raise DataError(
            f"cannot be read any more ({error.strerror})", file=Path(error.filename or place)
        ) from None


def _licences(recipe: Recipe, packages: Json) -> Json:
    """Licences as the recipe says, else as the data's reader or the model's own page does."""
    found: Json = {str(name): text for name, text in recipe.fields.licences.items()}
    own = recipe.data.licence if recipe.data else ""
    if own:
        found.setdefault("data", own)
    source = recipe.fields.model or (recipe.fields.teacher and recipe.fields.teacher.model)
    stated = _stated(Path(source)) if source else None
    if stated:
        found.setdefault("model", stated)
    known = {name: package_licence(name) for name in packages}
    found["packages"] = {name: licence for name, licence in known.items() if licence}
    return found


def _stated(model: Path) -> str | None:
    """Read ``license:`` from the head of a model's README.md, as hubs write it."""
    page = (model if model.is_dir() else model.parent) / "README.md"
    if not page.is_file():
        return None
    with open_regular(page) as stream:
        begin = stream.read(PAGE_BYTES).decode("utf-8", "replace")
    head = re.match(r"---\n(.*?)\n---", begin, re.S)
    line = head and re.search(r"^licen[sc]e:\s*[\"']?([\w.+-]+)", head[1], re.M)
    return line[1] if line else None
