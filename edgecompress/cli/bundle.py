"""``edgecompress bundle``: verify and show a bundle, make one file of it, unpack one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._diff import diff
from edgecompress.cli._options import KEY
from edgecompress.cli._output import say_json
from edgecompress.cli._output import show as show_result

_BUNDLE = click.argument("bundle", type=click.Path(path_type=Path))


@click.group(name="bundle")
def command() -> None:
    """Look after a bundle, the directory that deploys a model."""


command.add_command(diff)


@command.command(name="sign")
@click.argument("directory", type=click.Path(path_type=Path))
@click.option(
    "--key",
    required=True,
    type=click.Path(path_type=Path),
    help="Private Ed25519 key: PEM (openssl genpkey -algorithm ed25519) or OpenSSH's.",
)
@click.option(
    "--password-file",
    type=click.Path(path_type=Path),
    help="File whose first line is the password of an encrypted key.",
)
def sign(**options: Any) -> None:
    """Sign DIRECTORY: verify it, then write signatures beside its lists of digests.

    Signatures are no part of the lists, so a bundle that is signed, or signed again, is the same
    bundle. `edgecompress bundle verify --key PUBLIC DIRECTORY` checks them.
    """
    from edgecompress.api.signing import sign_bundle

    show_result(sign_bundle(**options))


@command.command(name="verify")
@_BUNDLE
@click.option("--core-only", is_flag=True, help="Leave the evidence out; it may be missing.")
@click.option(
    "--key", type=click.Path(path_type=Path), help="Public key: check the signatures as well."
)
def verify(**options: Any) -> None:
    """Compare every byte of BUNDLE, a directory or a .tar.zst, with its digests.

    Ends with exit code 1 and the name of the file when one was changed, added or lost.
    """
    from edgecompress.api.bundles import verify_bundle

    show_result(verify_bundle(**options))


@command.command(name="show")
@_BUNDLE
@click.option("--json", "as_json", is_flag=True, help="Write the manifest as it is.")
def show(bundle: Path, as_json: bool) -> None:
    """Say what BUNDLE, a directory or a .tar.zst, holds: task, labels, size, steps, versions.

    The digests of a directory are not checked.
    """
    from edgecompress.api.bundles import show_bundle

    found = show_bundle(bundle)
    if as_json:
        say_json(found.to_json())
    else:
        show_result(found)


@command.command(name="pack")
@_BUNDLE
@click.option("-o", "--output", type=click.Path(path_type=Path), help="File to write.")
@click.option("--core", is_flag=True, help="Leave the evidence out: what a device needs.")
def pack(**options: Any) -> None:
    """Verify the directory BUNDLE and write it as one file, NAME.tar.zst.

    Equal bundles give equal files. `tar --zstd -xf` reads them, too.
    """
    from edgecompress.api.bundles import pack_bundle

    show_result(pack_bundle(**options))


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
def unpack(**options: Any) -> None:
    """Unpack the archive FILE, verify it and put it into place, whole or not at all."""
    from edgecompress.api.bundles import unpack_bundle

    show_result(unpack_bundle(**options))
