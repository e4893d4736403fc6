"""``edgecompress image BUNDLE``: put a bundle and its runtime into a container image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgecompress.cli._options import KEY
from edgecompress.cli._output import say
from edgecompress.cli._single import usage_errors

_PLATFORMS = ("linux/amd64", "linux/arm64")


@click.command(name="image")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--tag", help="Name of the image; default: the bundle's name.")
@click.option(
    "--platform", type=click.Choice(_PLATFORMS), multiple=True,
    help="What it is to run on; may be given twice. Default: this machine's.",
)  # fmt: skip
@click.option(
    "--engine", type=click.Choice(["auto", "docker", "podman", "buildah"]), default="auto",
    show_default=True, help="What builds it; auto takes the first that works.",
)  # fmt: skip
@click.option(
    "--base",
    help="Base image with Python 3.11, best with its digest; with --output also an archive.",
)
@click.option("--install-base", help="Image that has pip, where the base has none.")
@click.option(
    "--wheels", type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Build from the wheels in this folder.",
)  # fmt: skip
@click.option("--fetch", is_flag=True, help="Fetch all wheels first; the build needs no network.")
@click.option(
    "--context-only", type=click.Path(path_type=Path), metavar="DIR",
    help="Write the build context to DIR and build nothing.",
)  # fmt: skip
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
    help="Put the image together here and write it as an archive that any engine loads.",
)  # fmt: skip
@KEY
def command(**options: Any) -> None:
    """Build a container image of BUNDLE with docker, podman or buildah.

    The image holds the bundle's core, the base install and the service. It runs without root and
    with a read-only file system:

        docker run --rm --read-only --network none NAME "a text"

    Packages are installed by hash. With --fetch or --wheels the build asks no package index.

    With --output nothing is built: the image is put together from the base, the wheels and the
    bundle, and has the same ID wherever that is done. `docker load`, `podman load` and `skopeo
    copy` take the archive; its packages are listed beside it, in FILE.cdx.json.
    """
    from edgecompress.api.imaging import image

    with usage_errors():
        built = image(**options, tell=lambda text: click.echo(text, err=True))
    say(str(built))
