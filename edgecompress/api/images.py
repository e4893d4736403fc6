"""Container images of a bundle and its runtime."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgecompress.api.arguments import StrPath, several
from edgecompress.api.shown import Section, Shown
from edgecompress.api.signing import verify_with_key
from edgecompress.errors import ArgumentError


@dataclass(frozen=True, slots=True, repr=False)
class BuiltImages(Shown):
    """The images that were built: name, platform and ID of each, and what else was written."""

    images: tuple[tuple[str, str, str], ...]
    note: str = ""

    def sections(self) -> Iterator[Section]:
        """Say it."""
        lines = (" ".join(image) for image in self.images)
        yield Section("", notes=(*lines, *[self.note] * bool(self.note)))


def image(
    bundle: StrPath,
    *,
    tag: str | None = None,
    platform: str | tuple[str, ...] = (),
    engine: Literal["auto", "docker", "podman", "buildah"] | str = "auto",
    base: str | None = None,
    install_base: str | None = None,
    wheels: StrPath | None = None,
    fetch: bool = False,
    context_only: StrPath | None = None,
    output: StrPath | None = None,
    key: StrPath | None = None,
    tell: Callable[[str], None] = warnings.warn,
) -> BuiltImages:
    """Build a container image of `bundle` with docker, podman or buildah.

    The image holds the bundle's core, the base install and the service. It runs without root and
    with a read-only file system:

        docker run --rm --read-only --network none NAME "a text"

    Packages are installed by hash. With `fetch` or `wheels` the build asks no package index.

    With `output` nothing is built: the image is put together from the base, the wheels and the
    bundle, and has the same ID wherever that is done. `docker load`, `podman load` and `skopeo
    copy` take the archive; its packages are listed beside it, in FILE.cdx.json.

    Parameters
    ----------
    bundle : path
        The bundle's directory.
    tag : str, optional
        Name of the image. Left out, it is the bundle's name.
    platform : one or several of {"linux/amd64", "linux/arm64"}, optional
        What it is to run on. Left out, it is what this machine is.
    engine : {"auto", "docker", "podman", "buildah"}
        What builds the image; auto takes the first that works here.
    base : str, optional
        Base image with Python 3.11, best with its digest; with `output` also an archive.
    install_base : str, optional
        Image that has pip, where the base has none.
    wheels : path, optional
        Build from the wheels in this folder.
    fetch : bool
        Fetch all wheels first; the build needs no network.
    context_only : path, optional
        Write the build context to this folder and build nothing.
    output : path, optional
        Put the image together here and write it as an archive that any engine loads.
    key : path, optional
        Public key: refuse a bundle that was not signed with it, before anything of it is used.
    tell : callable
        Given what a person should know and that is no error, such as a base that may change.

    Raises
    ------
    ArgumentError
        When arguments exclude each other.
    ImageError, BundleError
        When the image cannot be built, or the bundle is damaged.
    """
    directory, platforms = Path(bundle), several(platform)
    ready = Path(wheels) if wheels else None
    if fetch and wheels is not None:
        raise ArgumentError("--fetch and --wheels exclude each other; give one")
    if output is not None and (context_only is not None or install_base is not None):
        raise ArgumentError("--output excludes --context-only and --install-base")
    if output is not None and len(platforms) > 1:
        raise ArgumentError("--output writes one platform; give the command once for each")
    from edgecompress.images.context import (
        default_base,
        download_wheels,
        host_platform,
        write_context,
    )
    from edgecompress.images.engines import build, find_engine
    from edgecompress.writing import temporary

    manifest = verify_with_key(directory, key, evidence=False)
    platforms = platforms or (host_platform(),)
    base = base or default_base()
    is_file = output is not None and Path(base).exists()
    # The engine is looked for first: nothing is fetched when there is none.
    builder = None if is_file or context_only is not None else find_engine(engine)
    if "@sha256:" not in base and not base.startswith("localhost/") and not is_file:
        tell(f"{base} may change: `make pin` or --base NAME@sha256:… fixes it")
    with temporary() as folder:
        if fetch or (output is not None and ready is None):
            ready = folder / "fetched"
            ready.mkdir()
            download_wheels(ready, platforms, manifest.task)
        context = Path(context_only) if context_only else folder / "context"
        complete = write_context(directory, context, base=base, wheels=ready, platforms=platforms)
        name = tag or _image_name(manifest.name)
        if output is not None:
            return _assemble(context, base, builder, Path(output), platforms[0], name)
        if ready is not None and not complete:
            tell(f"{ready} lacks wheels of the lock; an index is asked for them")
        if builder is None:
            return BuiltImages((), f"{context}: build it with docker, podman or buildah")
        arguments = {"INSTALL_BASE": install_base} if install_base else {}
        built = []
        for one in platforms:
            own = name
            if len(platforms) > 1:
                own += f"-{one.rpartition('/')[2]}" if ":" in name else f":{one[6:]}"
            made = build(builder, context, tag=own, platform=one, arguments=arguments)
            built.append((own, one, made))
    return BuiltImages(tuple(built))


def _assemble(
    context: Path, base: str, engine: str | None, output: Path, platform: str, tag: str
) -> BuiltImages:
    """Write the archive; a base that is no file is exported by `engine` first."""
    from edgecompress.images.archive import assemble
    from edgecompress.images.engines import save_image

    place = Path(base)
    if engine is not None:
        place = context.parent / "base.tar"
        save_image(engine, base, platform, place)
    made = assemble(context, place, output, platform=platform, tag=tag)
    said = f"{output}: manifest {made.manifest}; packages: {made.sbom}"
    return BuiltImages(((tag, platform, made.image),), said)


def _image_name(name: str) -> str:
    """Make an image's name of a bundle's: lower case, letters, digits and single hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "bundle"
