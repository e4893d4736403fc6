"""``edgecompress image BUNDLE``: put a bundle and its runtime into a container image."""

from __future__ import annotations

import re
from pathlib import Path

import click

from edgecompress.api.signing import verify_with_key
from edgecompress.cli._options import KEY
from edgecompress.cli._output import say

_PLATFORMS = ("linux/amd64", "linux/arm64")


@click.command(name="image")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--tag", help="Name of the image; default: the bundle's name.")
@click.option(
    "--platform", "platforms", type=click.Choice(_PLATFORMS), multiple=True,
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
def command(
    bundle: Path,
    tag: str | None,
    platforms: tuple[str, ...],
    engine: str,
    base: str | None,
    install_base: str | None,
    wheels: Path | None,
    fetch: bool,
    context_only: Path | None,
    output: Path | None,
    key: Path | None,
) -> None:
    """Build a container image of BUNDLE with docker, podman or buildah.

    The image holds the bundle's core, the base install and the service. It runs without root and
    with a read-only file system:

        docker run --rm --read-only --network none NAME "a text"

    Packages are installed by hash. With --fetch or --wheels the build asks no package index.

    With --output nothing is built: the image is put together from the base, the wheels and the
    bundle, and has the same ID wherever that is done. `docker load`, `podman load` and `skopeo
    copy` take the archive; its packages are listed beside it, in FILE.cdx.json.
    """
    if fetch and wheels is not None:
        raise click.UsageError("--fetch and --wheels exclude each other; give one")
    if output is not None and (context_only is not None or install_base is not None):
        raise click.UsageError("--output excludes --context-only and --install-base")
    if output is not None and len(platforms) > 1:
        raise click.UsageError("--output writes one platform; give the command once for each")
    from edgecompress.bundle import verify_bundle
    from edgecompress.images.context import (
        default_base,
        download_wheels,
        host_platform,
        write_context,
    )
    from edgecompress.images.engines import build, find_engine
    from edgecompress.writing import temporary

    if key is None:
        manifest = verify_bundle(bundle, evidence=False)
    else:
        manifest = verify_with_key(bundle, key, evidence=False)
    platforms = platforms or (host_platform(),)
    base = base or default_base()
    is_file = output is not None and Path(base).exists()
    # The engine is looked for first: nothing is fetched when there is none.
    builder = None if is_file or context_only is not None else find_engine(engine)
    if "@sha256:" not in base and not base.startswith("localhost/") and not is_file:
        click.echo(f"{base} may change: `make pin` or --base NAME@sha256:… fixes it", err=True)
    with temporary() as folder:
        if fetch or (output is not None and wheels is None):
            wheels = folder / "fetched"
            wheels.mkdir()
            download_wheels(wheels, platforms)
        context = context_only or folder / "context"
        complete = write_context(bundle, context, base=base, wheels=wheels, platforms=platforms)
        name = tag or _image_name(manifest.name)
        if output is not None:
            _assemble(context, base, builder, output, platforms[0], name)
            return
        if wheels is not None and not complete:
            click.echo(f"{wheels} lacks wheels of the lock; an index is asked for them", err=True)
        if builder is None:
            say(f"{context}: build it with docker, podman or buildah")
            return
        arguments = {"INSTALL_BASE": install_base} if install_base else {}
        for platform in platforms:
            own = name
            if len(platforms) > 1:
                own += f"-{platform.rpartition('/')[2]}" if ":" in name else f":{platform[6:]}"
            image = build(builder, context, tag=own, platform=platform, arguments=arguments)
            say(f"{own} {platform} {image}")


def _assemble(
    context: Path, base: str, engine: str | None, output: Path, platform: str, tag: str
) -> None:
    """Write the archive; a base that is no file is exported by `engine` first."""
    from edgecompress.images.archive import assemble
    from edgecompress.images.engines import save_image

    place = Path(base)
    if engine is not None:
        place = context.parent / "base.tar"
        save_image(engine, base, platform, place)
    made = assemble(context, place, output, platform=platform, tag=tag)
    say(f"{tag} {platform} {made.image}")
    say(f"{output}: manifest {made.manifest}; packages: {made.sbom}")


def _image_name(name: str) -> str:
    """Make an image's name of a bundle's: lower case, letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "bundle"
