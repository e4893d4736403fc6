"""A bundle's image as one archive that is put together here, without an engine.

::

    index.json, oci-layout   an OCI image layout: podman, skopeo, containerd
    manifest.json            the same image as `docker save` describes one: every Docker
    blobs/sha256/…           the configuration, the manifest and the layers, uncompressed

Layers have fixed times, owners and order, and the configuration says what the image is and not when
it was made. So the same bundle, lock, version and base give the same image ID wherever and whenever
the archive is made, and any engine that loads it has that ID.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgecompress.bundle.tarball import BLOCK, RECORD, header
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
from edgecompress.images.sbom import SBOM_FILE, Package, render_image_sbom, source_name
from edgecompress.images.wheel import EPOCH
from edgecompress.values import Json, file_digest

_CREATED = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
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
        "Test": ["CMD", "python3", "-m", "edgecompress", "predict", "--threads", "1", "/bundle",
                 "health"],
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
_PLATFORM = ("architecture", "os", "variant")
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


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
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{output.name}-", dir=output.parent) as aside:
            return _assemble(Path(aside), context, base, output, platform, tag)
    except OSError as error:
        where = error.filename or output
        raise ImageError(
            f"{output}: cannot be written ({where}: {error.strerror or error})"
        ) from None


def _check_replaced(output: Path) -> None:
    if output.is_symlink() or (
        output.exists() and not (output.is_file() and tarfile.is_tarfile(output))
    ):
        raise ImageError(f"{output}: exists and is no image archive; name another --output")


def _assemble(
    folder: Path, context: Path, base: Path, output: Path, platform: str, tag: str
) -> Assembled:
    below = read_base(base, platform, folder)
    contents = look(below.layers, [SITE.partition("/")[0]])
    if not contents.has_python:
        raise ImageError(f"the base {base}: has no Python 3.11 in /usr/bin or /usr/local/bin")
    layers, sbom = _layers(context, platform, contents, folder)
    config = _json(_config(below, layers))
    manifest = _json(_manifest(config, [*below.layers, *layers]))
    made = folder / "image.tar"
    _write(made, config, manifest, [*below.layers, *layers], tag)
    beside = output.with_name(f"{output.name}.cdx.json")
    (folder / "sbom").write_text(sbom, encoding="utf-8")
    (folder / "sbom").replace(beside)
    made.replace(output)
    return Assembled(_digest(config), _digest(manifest), beside)


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


def _config(base: Base, layers: list[Layer]) -> Json:
    """Give the image's configuration (OCI image specification 1.1, and Docker's health check)."""
    given = base.config.get("config")
    old: Json = given if isinstance(given, dict) else {}
    settings = {
        key: old[key]
        for key, kind in _INHERITED.items()
        if isinstance(old.get(key), kind) and old[key]
    }
    environment = [text for text in settings.get("Env", []) if isinstance(text, str)]
    if not any(text.startswith("PATH=") for text in environment):
        environment.insert(0, _PATH)
    kept = [text for text in environment if text.partition("=")[0] not in ENVIRONMENT]
    settings["Env"] = [*kept, *(f"{name}={value}" for name, value in ENVIRONMENT.items())]
    system = {
        key: base.config[key]
        for key in _PLATFORM
        if isinstance(base.config.get(key), str) and base.config[key]
    }
    all_layers = [*base.layers, *layers]
    # Times of the base are left out: an imported base is the same base when it is imported again.
    history = [{"created": _CREATED, "created_by": "the base"} for _ in base.layers]
    history += [
        {"created": _CREATED, "created_by": f"edgecompress image: {what}"}
        for what in ("packages", "the bundle", "the list of packages")
    ]
    return system | {
        "created": _CREATED,
        "config": settings | SETTINGS,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in all_layers]},
        "history": history,
    }


def _manifest(config: bytes, layers: list[Layer]) -> Json:
    return {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _descriptor(_CONFIG, config),
        "layers": [
            {"mediaType": _LAYER, "digest": layer.digest, "size": layer.size} for layer in layers
        ],
    }


def _write(file: Path, config: bytes, manifest: bytes, layers: list[Layer], tag: str) -> None:
    """Write the archive that is an OCI image layout and Docker's archive at once."""
    name = tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"
    about = json.loads(config)
    entry = _descriptor(_MANIFEST, manifest) | {
        "platform": {key: about[key] for key in _PLATFORM if key in about},
        "annotations": {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name,
        },
    }
    docker = {
        "Config": _blob(_digest(config)),
        "RepoTags": [name],
        "Layers": [_blob(layer.digest) for layer in layers],
    }
    texts = {
        "index.json": _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}),
        "manifest.json": _json([docker]),
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        _blob(_digest(config)): config,
        _blob(_digest(manifest)): manifest,
    }
    blobs = {_blob(layer.digest): layer for layer in layers}
    size = 0
    with file.open("xb") as stream:
        for inside in sorted({*texts, *blobs}):
            layer = blobs.get(inside)
            length = layer.size if layer else len(texts[inside])
            size += stream.write(header(inside, length, time_s=EPOCH))
            for piece in _pieces(layer.file) if layer else [texts[inside]]:
                size += stream.write(piece)
            size += stream.write(bytes(-size % BLOCK))
        stream.write(bytes(-(size + 2 * BLOCK) % RECORD + 2 * BLOCK))
        stream.flush()
        os.fsync(stream.fileno())


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(1 << 20):
            yield piece


def _descriptor(kind: str, content: bytes) -> Json:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.partition(':')[2]}"


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
