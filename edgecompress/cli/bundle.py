"""``edgecompress bundle``: verify a bundle, or show what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgecompress.cli._diff import diff
from edgecompress.cli._signature import sign, verify_with_key

if TYPE_CHECKING:
    from edgecompress.manifest import Manifest
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

_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path))


@click.group(name="bundle")
def command() -> None:
    """Look after a bundle, the directory that deploys a model."""


command.add_command(diff)
command.add_command(sign)


@command.command(name="verify")
@_DIRECTORY
@click.option("--core-only", is_flag=True, help="Leave the evidence out; it may be missing.")
@click.option(
    "--key", type=click.Path(path_type=Path), help="Public key: check the signatures as well."
)
def verify(directory: Path, core_only: bool, key: Path | None) -> None:
    """Compare every byte of DIRECTORY with its digests.

    Ends with exit code 1 and the name of the file when one was changed, added or lost.
    """
    from edgecompress.bundle import verify_bundle

    if key is None:
        manifest = verify_bundle(directory, evidence=not core_only)
    else:
        manifest = verify_with_key(directory, key, evidence=not core_only)
    checked = "core and evidence" if manifest.evidence and not core_only else "core"
    click.echo(f"{directory}: whole{'' if key is None else ' and signed'} ({checked})")


@command.command(name="show")
@_DIRECTORY
@click.option("--json", "as_json", is_flag=True, help="Write the manifest as it is.")
def show(directory: Path, as_json: bool) -> None:
    """Say what DIRECTORY holds: task, labels, size, steps, versions. Digests are not checked."""
    from edgecompress.bundle import load_manifest

    manifest = load_manifest(directory)
    click.echo(manifest.to_json() if as_json else _for_people(directory, manifest), nl=not as_json)


def _for_people(directory: Path, manifest: Manifest) -> str:
    files = [path for path in directory.rglob("*") if path.is_file()]
    total = sum(path.stat().st_size for path in files)
    session = manifest.session
    lines = [
        ("name", manifest.name),
        ("task", manifest.task or "unknown"),
        ("labels", f"{len(manifest.labels)}: {_some(manifest.labels)}"),
        ("size", f"{total / 1e6:.2f} MB in {len(files)} files"),
        ("steps", " → ".join(step.stage for step in manifest.steps) or "none"),
        ("session", f"graph optimization {session.graph_optimization_level}"),
        ("without", ", ".join(session.disabled_optimizers)),
        ("settings", ", ".join(f"{key}={value}" for key, value in session.config_entries)),
        ("code", _code(manifest)),
        ("versions", ", ".join(f"{n} {manifest.versions[n]}" for n in _shown(manifest.versions))),
        ("licences", ", ".join(_licences(manifest))),
        ("evidence", "measurements and report beside it" if manifest.evidence else "none"),
    ]
    return "\n".join(f"{name:9} {text}" for name, text in lines if text)


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
