"""What looking after bundles gives, laid out as tables and sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.shown import Section, Shown
from edgecompress.bundle.manifest import Manifest
from edgecompress.values import Json

LIBRARIES = (
    "onnxruntime",
    "tokenizers",
    "numpy",
    "torch",
    "transformers",
    "onnx",
    "optimum",
    "neural-compressor",
)
"""Whose versions `show` names; the manifest has all of them."""


@dataclass(frozen=True, slots=True, repr=False)
class VerifiedBundle(Shown):
    """A bundle that is whole, and whether its evidence and its signatures were checked, too."""

    bundle: str
    manifest: Manifest
    evidence: bool
    signed: bool

    def sections(self) -> Iterator[Section]:
        """Say so."""
        checked = "core and evidence" if self.evidence else "core"
        signed = " and signed" if self.signed else ""
        yield Section("", notes=(f"{self.bundle}: whole{signed} ({checked})",))


@dataclass(frozen=True, slots=True, repr=False)
class PackedBundle(Shown):
    """The archive of a bundle; it stands for its `path`."""

    path: Path
    bytes: int
    core: bool

    def __fspath__(self) -> str:
        return str(self.path)

    def sections(self) -> Iterator[Section]:
        """Say where it is, and how large."""
        text = f"{self.path}: {self.bytes / 1e6:.2f} MB ({_part(self.core)})"
        yield Section("", notes=(text,))


@dataclass(frozen=True, slots=True, repr=False)
class UnpackedBundle(Shown):
    """A bundle that was unpacked; it stands for its `directory`."""

    directory: Path
    core: bool
    signed: bool

    def __fspath__(self) -> str:
        return str(self.directory)

    def sections(self) -> Iterator[Section]:
        """Say where it is."""
        signed = " and signed" if self.signed else ""
        yield Section("", notes=(f"{self.directory}: whole{signed} ({_part(self.core)})",))


@dataclass(frozen=True, slots=True, repr=False)
class SignedBundle(Shown):
    """A bundle that was signed, and the files of its signatures."""

    directory: Path
    files: tuple[str, ...]

    def sections(self) -> Iterator[Section]:
        """Name the files."""
        yield Section("", notes=(f"{self.directory}: signed ({', '.join(self.files)})",))


@dataclass(frozen=True, slots=True, repr=False)
class BundleSummary(Shown):
    """What a bundle holds: its manifest, and `facts` about it for a person."""

    manifest: Manifest
    facts: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, directory: Path, manifest: Manifest) -> BundleSummary:
        """Look at the files of a bundle's directory."""
        files = [path for path in directory.rglob("*") if path.is_file()]
        total = sum(path.stat().st_size for path in files)
        session = manifest.session
        versions = (f"{n} {manifest.versions[n]}" for n in _shown(manifest.versions))
        facts = (
            ("name", manifest.name),
            ("task", manifest.task or "unknown"),
            ("labels", f"{len(manifest.labels)}: {_some(manifest.labels)}"),
            ("core_sha256", _core(directory)),
            ("size", f"{total / 1e6:.2f} MB in {len(files)} files"),
            ("steps", " → ".join(step.stage for step in manifest.steps) or "none"),
            ("session", f"graph optimization {session.graph_optimization_level}"),
            ("without", ", ".join(session.disabled_optimizers)),
            ("settings", ", ".join(f"{key}={value}" for key, value in session.config_entries)),
            ("onnx", _onnx(directory / manifest.model)),
            ("code", _code(manifest)),
            ("versions", ", ".join(versions)),
            ("licences", ", ".join(_licences(manifest))),
            ("evidence", "measurements and report beside it" if manifest.evidence else "none"),
        )
        return cls(manifest, tuple(pair for pair in facts if pair[1]))

    def to_json(self) -> str:
        """Give the manifest as it is."""
        return self.manifest.to_json()

    def sections(self) -> Iterator[Section]:
        """Lay out the facts."""
        yield Section("", lines=self.facts)


def _part(core: bool) -> str:
    return "core" if core else "core and evidence"


def _core(directory: Path) -> str:
    from edgecompress.bundle.digests import core_digest

    try:
        return core_digest(directory)
    except OSError:
        return ""


def _onnx(model: Path) -> str:
    from edgecompress.errors import DataError
    from edgecompress.onnx_files import model_versions

    try:
        ir_version, opset = model_versions(model)
    except (OSError, DataError):
        return "cannot be read; run `edgecompress bundle verify`"
    return f"IR version {ir_version}, opset {opset}"


def _code(manifest: Manifest) -> str:
    version, digest = manifest.code.get("version"), str(manifest.code.get("digest", ""))
    return f"edgecompress {version}, source {digest[:12]}" if version else ""


def _shown(versions: Json) -> list[str]:
    """Give the libraries that the answers depend on; all of them where none is known."""
    main = [name for name in LIBRARIES if name in versions]
    return main or sorted(versions)


def _licences(manifest: Manifest) -> list[str]:
    stated = {name: text for name, text in manifest.licences.items() if name != "packages"}
    return [f"{name}: {text}" for name, text in stated.items()]


def _some(labels: tuple[str, ...], most: int = 12) -> str:
    return ", ".join(labels[:most]) + (", …" if len(labels) > most else "")
