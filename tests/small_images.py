"""Small images and wheels for tests, in every form that a base may have; nothing in them runs."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

STATUS = (
    "Package: libc6\nStatus: install ok installed\nArchitecture: {}\nVersion: 2.36-9+deb12u14\n"
    "Description: many\n lines\n\n"
    "Package: gone\nStatus: deinstall ok config-files\nArchitecture: all\nVersion: 1\n\n"
    "Package: media-types\nStatus: install ok unpacked\nArchitecture: all\nVersion: 1:10.0.0~x\n"
)
PYTHON = {"usr/bin/python3.11": b"#!"}
RELEASE = {"usr/lib/os-release": b'ID=debian\nVERSION_ID="12"\n'}


def tar(files: Mapping[str, bytes | tarfile.TarInfo]) -> bytes:
    """Give a tar archive; a member that is no regular file is given as it is."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            if isinstance(content, tarfile.TarInfo):
                content.name = name
                archive.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def link(target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo()
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def system(architecture: str = "amd64") -> dict[str, bytes]:
    """Files of a base with Python and two packages."""
    status = {"var/lib/dpkg/status": STATUS.format(architecture).encode()}
    return {"opt/.keep": b"", **PYTHON, **RELEASE, **status}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def config(layers: list[bytes], architecture: str = "amd64", **settings: object) -> bytes:
    ids = [digest(layer) for layer in layers]
    document = {"os": "linux", "architecture": architecture, "config": settings}
    document |= {"rootfs": {"type": "layers", "diff_ids": ids}, "created": "2026-01-01T00:00:00Z"}
    return json.dumps(document).encode()


def oci(layers: list[bytes], about: bytes, *, packed: bool = False) -> dict[str, bytes]:
    """Give the files of an OCI image layout, with layers in gzip when `packed`."""
    blobs = [gzip.compress(layer) if packed else layer for layer in layers]
    manifest = json.dumps(
        {"config": {"digest": digest(about)}, "layers": [{"digest": digest(b)} for b in blobs]}
    ).encode()
    index = {"manifests": [{"digest": digest(manifest), "mediaType": "x"}]}
    found = {f"blobs/sha256/{digest(blob)[7:]}": blob for blob in (about, manifest, *blobs)}
    return found | {"index.json": json.dumps(index).encode(), "oci-layout": b"{}"}


def docker(layers: list[bytes], about: bytes) -> dict[str, bytes | tarfile.TarInfo]:
    """Give the files of `docker save`, which stores a layer that comes twice as a link."""
    names, found = [], {}
    for number, layer in enumerate(layers):
        names.append(f"{number}/layer.tar")
        first = layers.index(layer)
        found[names[-1]] = layer if first == number else link(f"../{first}/layer.tar")
    manifest = json.dumps([{"Config": "c.json", "RepoTags": None, "Layers": names}]).encode()
    return {**found, "c.json": about, "manifest.json": manifest}


def unpack(files: Mapping[str, bytes], folder: Path) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def wheel(file: Path, files: Mapping[str, bytes], *, mode: int = 0o644) -> zipfile.ZipFile:
    """Write a wheel and give it opened."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            member = zipfile.ZipInfo(name)
            member.external_attr = (0o100000 | mode) << 16
            archive.writestr(member, content)
    return zipfile.ZipFile(file)
