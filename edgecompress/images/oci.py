"""An image as one archive, written by us: the same bytes for the same image.

::

    index.json, oci-layout   an OCI image layout: podman, skopeo, containerd
    manifest.json            the same image as `docker save` describes one: every Docker
    blobs/sha256/…           the configuration, the manifest and the layers, uncompressed

The configuration says what the image is and not when or by whom it was made.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgecompress.bundle.tarball import file_pieces, write_tar
from edgecompress.images.layer import Layer
from edgecompress.images.wheel import EPOCH
from edgecompress.values import Json

_CREATED = datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
_PLATFORM = ("architecture", "os", "variant")
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


def image_config(
    given: Json, settings: Json, below: Sequence[Layer], above: Sequence[Layer]
) -> Json:
    """Give an image's configuration (OCI image specification 1.1, and Docker's health check).

    Parameters
    ----------
    given : dict
        A configuration of which the platform is taken.
    settings : dict
        Environment, user, entry point and so on.
    below, above : sequence of Layer
        The base's layers and ours. Of the base's history nothing is taken: it has times, and an
        imported base is the same base when it is imported again.
    """
    system = {key: given[key] for key in _PLATFORM if isinstance(given.get(key), str)}
    texts = [*("the base" for _ in below), *("edgecompress image" for _ in above)]
    return {key: value for key, value in system.items() if value} | {
        "created": _CREATED,
        "config": settings,
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in (*below, *above)]},
        "history": [{"created": _CREATED, "created_by": text} for text in texts],
    }


def write_archive(file: Path, config: Json, layers: Sequence[Layer], tag: str) -> tuple[str, str]:
    """Write an image, and give the digests of its configuration and of its manifest.

    Parameters
    ----------
    file : Path
        Must not be there yet.
    config : dict
        As `image_config` gives it.
    layers : sequence of Layer
        Those that the configuration names.
    tag : str
        The name that an engine gives the image when it loads it; no part of the image.

    Returns
    -------
    tuple of str
        ``sha256:…`` of the configuration, which is the image ID, and of the manifest.
    """
    described = _json(config)
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": _descriptor(_CONFIG, described),
            "layers": [
                {"mediaType": _LAYER, "digest": layer.digest, "size": layer.size}
                for layer in layers
            ],
        }
    )
    name = tag if ":" in tag.rpartition("/")[2] else f"{tag}:latest"
    entry = _descriptor(_MANIFEST, manifest) | {
        "platform": {key: config[key] for key in _PLATFORM if key in config},
        "annotations": {
            "io.containerd.image.name": name,
            "org.opencontainers.image.ref.name": name,
        },
    }
    docker = {
        "Config": _blob(_digest(described)),
        "RepoTags": [name],
        "Layers": [_blob(layer.digest) for layer in layers],
    }
    texts = {
        "index.json": _json({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [entry]}),
        "manifest.json": _json([docker]),
        "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
        _blob(_digest(described)): described,
        _blob(_digest(manifest)): manifest,
    }
    _write(file, texts, {_blob(layer.digest): layer for layer in layers})
    return _digest(described), _digest(manifest)


def _write(file: Path, texts: dict[str, bytes], blobs: dict[str, Layer]) -> None:
    sizes = {inside: len(text) for inside, text in texts.items()}
    sizes |= {inside: layer.size for inside, layer in blobs.items()}

    def content(inside: str) -> Iterable[bytes]:
        return file_pieces(blobs[inside].file) if inside in blobs else [texts[inside]]

    with file.open("xb") as stream:
        stream.writelines(write_tar(sizes, content, EPOCH))
        stream.flush()
        os.fsync(stream.fileno())


def _descriptor(kind: str, content: bytes) -> Json:
    return {"mediaType": kind, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _blob(digest: str) -> str:
    return f"blobs/sha256/{digest.partition(':')[2]}"


def _json(document: Any) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
