"""A base image as a file or a folder, read without an engine and trusted in nothing.

Two forms are read, as a tar archive or unpacked: an OCI image layout (``index.json``, ``blobs/``)
and what ``docker save`` writes (``manifest.json``). Layers are taken as they are: each is compared
with its digest, and none is unpacked.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from edgecompress.bundle.names import safe_path
from edgecompress.bundle.strictjson import strict_json
from edgecompress.bundle.tarball import pieces
from edgecompress.errors import ImageError
from edgecompress.images.layer import MOST_BYTES, Layer
from edgecompress.values import Json

_MOST_JSON = 4 << 20
_MOST_LAYERS = 120  # Docker takes 127
_MOST_MEMBERS = 100_000
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_INDEXES = ("application/vnd.oci.image.index.v1+json",
            "application/vnd.docker.distribution.manifest.list.v2+json")  # fmt: skip
_GZIP = b"\x1f\x8b"
_ZSTANDARD = b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True, slots=True)
class Base:
    """What an image is put upon.

    Attributes
    ----------
    config : dict
        The image's configuration, as JSON.
    layers : tuple of Layer
        From the lowest, uncompressed.
    """

    config: Json
    layers: tuple[Layer, ...]


class Bounded:
    """A file for `tarfile`, which takes the length of an extended header from the archive."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        """Give up to `size` bytes, of which there may not be many."""
        if not 0 <= size <= 64 << 20:
            raise tarfile.ReadError("has a header of more than 64 MiB")
        return self._stream.read(size)


def read_base(place: Path, platform: str, folder: Path) -> Base:
    """Read the image for `platform` and write its layers into `folder`.

    Raises
    ------
    ImageError
        When `place` holds no such image, or another one than its digests say.
    """
    try:
        with _store(place) as store:
            config_text, names = _described(store, platform)
            config = _object(config_text, "the configuration")
            diff_ids = _diff_ids(config)
            found = f"{config.get('os')}/{config.get('architecture')}"
            if found != platform:
                raise ImageError(f"is for {found[:60]} and not for {platform}; give another base")
            if len(diff_ids) != len(names):
                raise ImageError(f"has {len(names)} layers and names {len(diff_ids)}")
            layers = [
                _take(store, name, diff_id, folder / f"base-{number}")
                for number, (name, diff_id) in enumerate(zip(names, diff_ids, strict=True))
            ]
    except ImageError as error:
        raise ImageError(f"the base {place}: {error}") from None
    except (OSError, ValueError, tarfile.TarError, EOFError, zlib.error) as error:
        raise ImageError(f"the base {place}: cannot be read as an image ({error})") from None
    return Base(config, tuple(layers))


class _Folder:
    """An image layout that is a folder."""

    def __init__(self, place: Path) -> None:
        self._place = place.resolve()

    def has(self, name: str) -> bool:
        return (self._place / name).is_file()

    def open(self, name: str) -> IO[bytes]:
        path = (self._place / name).resolve()
        if not path.is_relative_to(self._place) or not path.is_file():
            raise ImageError(f"has no file {name}")
        return path.open("rb")


class _Archive:
    """An image in a tar archive."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive
        self._members: dict[str, tarfile.TarInfo] = {}
        for member in archive:
            self._members[member.name.removeprefix("./")] = member
            if len(self._members) > _MOST_MEMBERS:
                raise ImageError("holds more files than an image has")

    def has(self, name: str) -> bool:
        return name in self._members

    def open(self, name: str) -> IO[bytes]:
        member = self._members.get(name)
        if member is not None and member.issym():  # docker's, to the same layer under another name
            parts: list[str] = []
            for part in [*name.split("/")[:-1], *member.linkname.split("/")]:
                parts = parts[:-1] if part == ".." else [*parts, part]
            member = self._members.get("/".join(parts))
        stream = self._archive.extractfile(member) if member and member.isreg() else None
        if stream is None:
            raise ImageError(f"has no file {name}")
        return stream


@contextmanager
def _store(place: Path) -> Iterator[_Folder | _Archive]:
    if place.is_dir():
        yield _Folder(place)
        return
    if not place.is_file():
        raise ImageError("no such file")
    with place.open("rb") as stream:
        if stream.read(2) == _GZIP:
            raise ImageError("is compressed; unpack it with gunzip")
        stream.seek(0)
        with tarfile.open(fileobj=Bounded(stream), mode="r:") as archive:  # type: ignore[call-overload]
            yield _Archive(archive)


def _described(store: _Folder | _Archive, platform: str) -> tuple[bytes, list[str]]:
    """Give the configuration's text and the names of the layers' files."""
    if store.has("index.json"):
        index = _object(_read(store, "index.json"), "index.json")
        manifests = list(_manifests(store, index, platform, depth=3))
        if len(manifests) != 1:
            raise ImageError(f"holds {len(manifests)} images for {platform}, and should hold one")
        manifest = manifests[0]
        names = [_blob(layer) for layer in _list(manifest, "layers")]
        return _checked(store, manifest.get("config")), names
    if not store.has("manifest.json"):
        raise ImageError("is no image: neither index.json nor manifest.json is there")
    entries = strict_json(_read(store, "manifest.json"))
    if not isinstance(entries, list) or len(entries) != 1 or not isinstance(entries[0], dict):
        raise ImageError("manifest.json must describe one image")
    names = _list(entries[0], "Layers")
    config = entries[0].get("Config")
    for name in (config, *names):
        if not isinstance(name, str) or not safe_path(name):
            raise ImageError("manifest.json names a file that is none of the image's")
    return _read(store, str(config)), names


def _manifests(store: _Folder | _Archive, index: Json, platform: str, depth: int) -> Iterator[Json]:
    """Give the manifests for `platform` of an index and of those that it lists."""
    if not depth:
        raise ImageError("has lists of images in lists in lists")
    for entry in _list(index, "manifests"):
        if not isinstance(entry, dict):
            raise ImageError("index.json lists something that is no image")
        given = entry.get("platform")
        if isinstance(given, dict) and f"{given.get('os')}/{given.get('architecture')}" != platform:
            continue  # an attestation's platform is unknown/unknown
        document = _object(_checked(store, entry), "a manifest")
        if entry.get("mediaType") in _INDEXES:
            yield from _manifests(store, document, platform, depth - 1)
        else:
            yield document


def _blob(descriptor: Any) -> str:
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ImageError("names a part by no SHA-256")
    return f"blobs/sha256/{digest[7:]}"


def _checked(store: _Folder | _Archive, descriptor: Any) -> bytes:
    """Read a small part and compare it with its digest."""
    name = _blob(descriptor)
    text = _read(store, name)
    if hashlib.sha256(text).hexdigest() != name.rpartition("/")[2]:
        raise ImageError(f"{name} differs from its digest")
    return text


def _read(store: _Folder | _Archive, name: str) -> bytes:
    with store.open(name) as stream:
        text = stream.read(_MOST_JSON + 1)
    if len(text) > _MOST_JSON:
        raise ImageError(f"{name} is larger than {_MOST_JSON >> 20} MiB")
    return text


def _object(text: bytes, what: str) -> Json:
    document = strict_json(text)
    if not isinstance(document, dict):
        raise ImageError(f"{what} is no JSON object")
    return document


def _list(document: Json, key: str) -> list[Any]:
    found = document.get(key)
    if not isinstance(found, list) or len(found) > _MOST_LAYERS:
        raise ImageError(f"{key} is no list of at most {_MOST_LAYERS}")
    return found


def _diff_ids(config: Json) -> Sequence[str]:
    root = config.get("rootfs")
    found = _list(root, "diff_ids") if isinstance(root, dict) else []
    if not found or not all(isinstance(each, str) and _DIGEST.fullmatch(each) for each in found):
        raise ImageError("its configuration names no layers by SHA-256")
    return found


def _take(store: _Folder | _Archive, name: str, diff_id: str, file: Path) -> Layer:
    """Write a layer uncompressed and compare it with its digest."""
    digest, size = hashlib.sha256(), 0
    with store.open(name) as stored, file.open("xb") as written:
        first = stored.read(4)
        stored.seek(0)
        if first == _ZSTANDARD:
            raise ImageError(
                "has layers in zstandard; copy it with: skopeo copy --dest-compress-format gzip"
            )
        stream = gzip.GzipFile(fileobj=stored) if first[:2] == _GZIP else stored
        for piece in pieces(stream.read):
            digest.update(piece)
            size += written.write(piece)
            if size > MOST_BYTES:
                raise ImageError(f"has a layer of more than {MOST_BYTES} bytes")
    if f"sha256:{digest.hexdigest()}" != diff_id:
        raise ImageError(f"the layer {name} differs from its digest")
    return Layer(file, diff_id, size)
