"""``edgecompress bundle``: verify and show a bundle, make one file of it, unpack one."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecompress.cli._diff import diff
from edgecompress.cli._options import KEY
from edgecompress.cli._output import say, say_json
from edgecompress.cli._signature import sign, verify_with_key

if TYPE_CHECKING:
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

_BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))


@click.group(name="bundle")
def command() -> None:
    """Look after a bundle, the directory that deploys a model."""


command.add_command(diff)
command.add_command(sign)


@command.command(name="verify")
@_BUNDLE
@click.option("--core-only", is_flag=True, help="Leave the evidence out; it may be missing.")
@click.option(
    "--key", type=click.Path(path_type=Path), help="Public key: check the signatures as well."
)
def verify(bundle: Path, core_only: bool, key: Path | None) -> None:
    """Compare every byte of BUNDLE, a directory or a .tar.zst, with its digests.

    Ends with exit code 1 and the name of the file when one was changed, added or lost.
    """
    from edgecompress.bundle import verify_bundle
    from edgecompress.bundle.packing import is_core, opened

    with opened(bundle) as directory:
        # An archive of the core alone is whole; in a directory the evidence may have been lost.
        core_only = core_only or (directory != bundle and is_core(directory))
        if key is None:
            manifest = verify_bundle(directory, evidence=not core_only)
        else:
            manifest = verify_with_key(directory, key, evidence=not core_only)
    checked = "core and evidence" if manifest.evidence and not core_only else "core"
    say(f"{bundle}: whole{'' if key is None else ' and signed'} ({checked})")


@command.command(name="show")
@_BUNDLE
@click.option("--json", "as_json", is_flag=True, help="Write the manifest as it is.")
def show(bundle: Path, as_json: bool) -> None:
    """Say what BUNDLE, a directory or a .tar.zst, holds: task, labels, size, steps, versions.

    The digests of a directory are not checked.
    """
    from edgecompress.bundle import load_manifest
    from edgecompress.bundle.packing import opened

    with opened(bundle) as directory:
        manifest = load_manifest(directory)
        text = manifest.to_json() if as_json else _for_people(directory, manifest)
    (say_json if as_json else say)(text)


@command.command(name="pack")
@_BUNDLE
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
@click.option("--core", is_flag=True, help="Leave the evidence out: what a device needs.")
def pack(bundle: Path, output: Path | None, core: bool) -> None:
    """Verify the directory BUNDLE and write it as one file, NAME.tar.zst.

    Equal bundles give equal files. `tar --zstd -xf` reads them, too.
    """
    from edgecompress.bundle.packing import pack_bundle

    written = pack_bundle(bundle, output, core=core)
    say(f"{written}: {written.stat().st_size / 1e6:.2f} MB ({_part(core)})")


@command.command(name="unpack")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Directory to make.")
@click.option(
    "--max-size",
    type=click.FloatRange(min=0, min_open=True),
    default=4.0,
    show_default=True,
    metavar="GB",
    help="Refuse an archive that holds more.",
)
@KEY
def unpack(file: Path, output: Path | None, max_size: float, key: Path | None) -> None:
    """Unpack the archive FILE, verify it and put it into place, whole or not at all."""
    from edgecompress.bundle.packing import is_core, unpack_bundle

    check = None if key is None else functools.partial(verify_with_key, key=key)
    directory = unpack_bundle(file, output, most_bytes=int(max_size * 1e9), check=check)
    signed = "" if key is None else " and signed"
    say(f"{directory}: whole{signed} ({_part(is_core(directory))})")


def _part(core: bool) -> str:
    return "core" if core else "core and evidence"


def _for_people(directory: Path, manifest: Manifest) -> str:
    files = [path for path in directory.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    session = manifest.session
    lines = [
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
        ("versions", ", ".join(f"{n} {manifest.versions[n]}" for n in _shown(manifest.versions))),
        ("licences", ", ".join(_licences(manifest))),
        ("evidence", "measurements and report beside it" if manifest.evidence else "none"),
    ]
    return "\n".join(f"{name:11} {text}" for name, text in lines if text)


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
