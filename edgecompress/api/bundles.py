"""Looking after bundles: verify, show, pack and unpack them, with the standard library alone."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.arguments import StrPath
from edgecompress.api.shown import Section, Shown
from edgecompress.api.signing import verify_with_key
from edgecompress.bundle.directory import load_manifest
from edgecompress.bundle.manifest import Manifest
from edgecompress.bundle.packing import is_core, opened
from edgecompress.bundle.packing import pack_bundle as pack_directory
from edgecompress.bundle.packing import unpack_bundle as unpack_archive
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


def verify_bundle(
    bundle: StrPath, *, core_only: bool = False, key: StrPath | None = None
) -> VerifiedBundle:
    """Compare every byte of `bundle`, a directory or a .tar.zst, with its digests.

    Parameters
    ----------
    bundle : path
        The bundle's directory, or its .tar.zst.
    core_only : bool
        Leave the evidence out; it may be missing.
    key : path, optional
        Public key: check the signatures as well.

    Raises
    ------
    BundleError
        Naming the file that was changed, added or lost.
    """
    with opened(Path(bundle)) as directory:
        # An archive of the core alone is whole; in a directory the evidence may have been lost.
        core_only = core_only or (directory != Path(bundle) and is_core(directory))
        manifest = verify_with_key(directory, key, evidence=not core_only)
    signed = key is not None
    return VerifiedBundle(str(bundle), manifest, bool(manifest.evidence) and not core_only, signed)


def show_bundle(bundle: StrPath) -> BundleSummary:
    """Say what `bundle`, a directory or a .tar.zst, holds: task, labels, size, steps, versions.

    The digests of a directory are not checked.

    Parameters
    ----------
    bundle : path
        The bundle's directory, or its .tar.zst.

    Raises
    ------
    BundleError
        When it is no bundle.
    """
    with opened(Path(bundle)) as directory:
        return BundleSummary.of(directory, load_manifest(directory))


def pack_bundle(
    bundle: StrPath, output: StrPath | None = None, *, core: bool = False
) -> PackedBundle:
    """Verify the directory `bundle` and write it as one file, NAME.tar.zst.

    Equal bundles give equal files. `tar --zstd -xf` reads them, too.

    Parameters
    ----------
    bundle : path
        The bundle's directory.
    output : path, optional
        File to write.
    core : bool
        Leave the evidence out: what a device needs.

    Raises
    ------
    BundleError
        When the bundle is damaged.
    """
    written = pack_directory(Path(bundle), Path(output) if output else None, core=core)
    return PackedBundle(written, written.stat().st_size, core)


def unpack_bundle(
    file: StrPath,
    output: StrPath | None = None,
    *,
    max_size: float = 4.0,
    key: StrPath | None = None,
) -> UnpackedBundle:
    """Unpack the archive `file`, verify it and put it into place, whole or not at all.

    Parameters
    ----------
    file : path
        The .tar.zst to unpack.
    output : path, optional
        Directory to make.
    max_size : float
        Refuse an archive that holds more gigabytes.
    key : path, optional
        Public key: refuse a bundle that was not signed with it, before anything of it is used.

    Raises
    ------
    BundleError
        When the archive is damaged, too large or not signed.
    """
    check = None if key is None else functools.partial(verify_with_key, key=key)
    place = Path(output) if output else None
    made = unpack_archive(Path(file), place, most_bytes=int(max_size * 1e9), check=check)
    return UnpackedBundle(made, is_core(made), key is not None)
