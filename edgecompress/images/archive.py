"""A bundle's image put together here, without an engine and without running anything.

Layers have fixed times, owners and order, and the configuration says what the image is and not when
it was made. So the same bundle, lock, version and base give the same image ID wherever and whenever
the archive is made, and any engine that loads it has that ID.
"""

from __future__ import annotations

import tarfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import ImageError
from edgecompress.images.base import Base, read_base
from edgecompress.images.contents import Contents, look
from edgecompress.images.context import PLATFORMS, read_context_lock, wheels_for
from edgecompress.images.layer import (
    SITE,
    Layer,
    folder_members,
    open_wheel,
    text_member,
    wheel_members,
    wheel_metadata,
    write_layer,
)
from edgecompress.images.oci import image_config, write_archive
from edgecompress.images.sbom import SBOM_FILE, Package, render_image_sbom, source_name
from edgecompress.values import Json, file_digest
from edgecompress.writing import put, writing

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_S = 10**9  # a health check's times are in nanoseconds
ENVIRONMENT = {
    "HOME": "/nonexistent",
    "HF_HUB_OFFLINE": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONPATH": f"/{SITE}",
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
}
SETTINGS: Json = {
    "User": "65532:65532",
    "Entrypoint": ["python3", "-m", "edgecompress", "predict", "/bundle"],
    "Healthcheck": {
        "Test": ["CMD", "python3", "-m", "edgecompress.runtime.health", "/bundle"],
        "Interval": 300 * _S,
        "Timeout": 60 * _S,
        "StartPeriod": 10 * _S,
    },
}  # fmt: skip
"""As docker/runtime.Dockerfile has it; a test compares the two."""
_INHERITED = {
    "Env": list, "ExposedPorts": dict, "Labels": dict, "Shell": list, "StopSignal": str,
    "Volumes": dict, "WorkingDir": str,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Assembled:
    """An image as an archive.

    Attributes
    ----------
    image : str
        ``sha256:…`` of the configuration: the image ID of docker, podman and buildah.
    manifest : str
        ``sha256:…`` of the manifest: what containerd and registries call the image by.
    sbom : Path
        The list of its packages, beside the archive.
    """

    image: str
    manifest: str
    sbom: Path


def assemble(context: Path, base: Path, output: Path, *, platform: str, tag: str) -> Assembled:
    """Put the image of a build context together, and write it whole or not at all.

    Parameters
    ----------
    context : Path
        As `write_context` makes it, with all wheels.
    base : Path
        An OCI image layout or an archive of `docker save`, as a file or a folder.
    output : Path
        The archive. The list of packages gets its name with ``.cdx.json`` behind it.
    platform : str
        One of `PLATFORMS`.
    tag : str
        The name that engines give the image when they load it; no part of the image.

    Raises
    ------
    ImageError
        When a wheel is missing, or the base or a wheel is not fit.
    """
    try:
        _check_replaced(output)
        with writing(output, "--output") as folder:
            return _assemble(folder, context, base, output, platform, tag)
    except OSError as error:
        where = error.filename or output
        raise ImageError(
            f"{output}: cannot be written ({where}: {error.strerror or error})"
        ) from None


def _check_replaced(output: Path) -> None:
    if not (output.is_symlink() or output.exists()):
        return
    replaceable = not output.is_symlink() and output.is_file() and tarfile.is_tarfile(output)
    if replaceable:
        with tarfile.open(output, "r:") as archive:
            replaceable = any(member.name == "oci-layout" for member in archive)
    if not replaceable:
        raise ImageError(f"{output}: exists and is no image archive; name another --output")


def _assemble(
    folder: Path, context: Path, base: Path, output: Path, platform: str, tag: str
) -> Assembled:
    below = read_base(base, platform, folder)
    contents = look(below.layers, [SITE.partition("/")[0]])
    if not contents.has_python:
        raise ImageError(f"the base {base}: has no Python 3.11 in /usr/bin or /usr/local/bin")
    layers, sbom = _layers(context, platform, contents, folder)
    config = image_config(below.config, _settings(below), below.layers, layers)
    made = folder / "image.tar"
    image, manifest = write_archive(made, config, [*below.layers, *layers], tag)
    beside = output.with_name(f"{output.name}.cdx.json")
    (folder / "sbom").write_text(sbom, encoding="utf-8")
    put(folder / "sbom", beside)
    put(made, output)
    return Assembled(image, manifest, beside)


def _layers(
    context: Path, platform: str, contents: Contents, folder: Path
) -> tuple[list[Layer], str]:
    """Write our layers: packages, the bundle, the list of packages; and give that list."""
    lock = read_context_lock(context)
    found = wheels_for(PLATFORMS[platform], lock, context / "wheels")
    if missing := sorted(lock.keys() - found.keys()):
        raise ImageError(
            f"there is no wheel of {', '.join(missing[:3])} for {platform}; leave --wheels out to "
            "fetch what the lock names, or give a folder that holds it all"
        )
    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_wheel(file)) for name, file in found.items()}
        packages = [
            Package.of(wheel_metadata(wheel), file_digest(found[name]))
            for name, wheel in opened.items()
        ]
        above = write_layer(folder / "packages", wheel_members(opened.values()), contents.paths)
    base = {source_name(path) or path: text for path, text in contents.files.items()}
    sbom = render_image_sbom(context / "bundle", packages, base)
    bundle = write_layer(folder / "bundle", folder_members(context / "bundle", "bundle"))
    listed = write_layer(folder / "list", {SBOM_FILE: text_member(sbom)})
    return [above, bundle, listed], sbom


def _settings(base: Base) -> Json:
    """Give the image's settings: what a Dockerfile's last stage would inherit, and ours."""
    given = base.config.get("config")
    old: Json = given if isinstance(given, dict) else {}
    settings = {
        key: old[key]
        for key, kind in _INHERITED.items()
        if isinstance(old.get(key), kind) and old[key]
    }
    environment = [text for text in settings.get("Env", []) if isinstance(text, str)]
    if not any(text.startswith("PATH=") for text in environment):
        environment.insert(0, _PATH)  # as every builder does
    kept = [text for text in environment if text.partition("=")[0] not in ENVIRONMENT]
    settings["Env"] = [*kept, *(f"{name}={value}" for name, value in ENVIRONMENT.items())]
    return settings | SETTINGS
