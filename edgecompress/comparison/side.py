"""What is read of one bundle to compare it: manifest, files of the core, measurements beside it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgecompress.bundle import load_manifest, verify_bundle
from edgecompress.bundle.digests import (
    CORE_LIST,
    CORE_SIGNATURE,
    EVIDENCE,
    bundle_files,
    is_evidence,
    list_lines,
)
from edgecompress.bundle.manifest import Manifest
from edgecompress.bundle.strictjson import MOST_BYTES, strict_json
from edgecompress.errors import BundleError
from edgecompress.reading import read_bytes
from edgecompress.values import Json, Measurement, file_digest

_MOST_VALUES = 3_000_000
"""Of measurements, with every reading of a large run: a few hundred MB of Python's objects."""


@dataclass(frozen=True, slots=True)
class Side:
    """What is read of one bundle.

    Attributes
    ----------
    place : str
        Its directory, as it was named.
    manifest : Manifest
    files : dict of str to (int, str)
        Bytes and SHA-256 of each file of the core.
    measurements : tuple of Measurement
        Of its model; empty without evidence.
    environment : dict
        The machine that ran the recipe, and its targets; empty without evidence.
    """

    place: str
    manifest: Manifest
    files: Mapping[str, tuple[int, str]]
    measurements: tuple[Measurement, ...] = ()
    environment: Json = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 of the list of the core's digests: `edgecompress.bundle.digests.core_digest`.

        Of the files as they are, so that it holds for a bundle that was not verified, too.
        """
        return hashlib.sha256(list_lines({n: d for n, (_, d) in self.files.items()})).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of the core."""
        return sum(size for size, _ in self.files.values())


def read_side(directory: Path, *, verify: bool = True, place: Path | None = None) -> Side:
    """Read what is compared of a bundle.

    Parameters
    ----------
    directory : Path
    verify : bool
        Whether to compare core and evidence with their digests first.
    place : Path, optional
        What a person calls it: the archive that it was unpacked from.

    Raises
    ------
    BundleError
        When the bundle is damaged, or its measurements are not as edgecompress writes them.
    """
    beside = directory / EVIDENCE
    if verify:
        manifest = verify_bundle(directory, evidence=beside.exists())
    else:
        manifest = load_manifest(directory)
    files = {
        name: ((directory / name).stat().st_size, file_digest(directory / name))
        for name in sorted(bundle_files(directory))
        if not is_evidence(name) and name not in (CORE_LIST, CORE_SIGNATURE)
    }
    measured, environment = _evidence(beside / "measurements.json")
    return Side(str(place or directory), manifest, files, measured, environment)


def _evidence(file: Path) -> tuple[tuple[Measurement, ...], Json]:
    """Read the measurements of the model that was chosen, without trusting the file."""
    if not file.exists():
        return (), {}
    try:
        document = strict_json(read_bytes(file, MOST_BYTES), most_values=_MOST_VALUES)
        rows = [row for row in document["rows"] if row["name"] == document["winner"]]
        environment = document["environment"]
        measured = tuple(_measurement(one) for row in rows for one in row["measurements"])
        if not isinstance(environment, dict):
            raise TypeError("environment is no mapping")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{file}: not measurements of this format ({error})") from None
    except OSError as error:
        raise BundleError(f"{file}: cannot be read ({error.strerror or error})") from None
    return measured, environment


def _measurement(document: Json) -> Measurement:
    known = {name: document[name] for name in Measurement.__dataclass_fields__ if name in document}
    value = known["value"]
    interval = known.get("interval")
    for name in ("metric", "unit", "target", "split", "slice", "invalid"):
        text = known.get(name)
        if not (isinstance(text, str) or (text is None and name not in ("metric", "unit"))):
            raise TypeError(f"{name} is no text")
    one = Measurement(**{**known, "value": math.nan if value is None else float(value)})
    return replace(one, interval=(float(interval[0]), float(interval[1])) if interval else None)
