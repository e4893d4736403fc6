"""Layers and bases: written in one way, read with no trust. No engine."""

from __future__ import annotations

import os
import random
import tarfile
import zipfile
from pathlib import Path

import pytest
import small_images as small

from edgecompress.errors import ImageError
from edgecompress.images.base import Base, read_base
from edgecompress.images.contents import look
from edgecompress.images.layer import (
    SITE,
    Layer,
    folder_members,
    text_member,
    wheel_members,
    wheel_metadata,
    write_layer,
)
from edgecompress.images.wheel import EPOCH


def read(place: Path, tmp_path: Path, platform: str = "linux/amd64") -> Base:
    into = tmp_path / f"into-{len(list(tmp_path.glob('into-*')))}"
    into.mkdir()
    return read_base(place, platform, into)


def test_a_layer_is_the_same_bytes_whatever_the_wheel_looks_like(tmp_path: Path) -> None:
    files = {"a/b.py": b"1", "a-1.dist-info/METADATA": b"Name: a\n", "a/lib.so": b"\x7fELF" * 999}
    first = small.wheel(tmp_path / "first.whl", files, mode=0o775)
    other = tmp_path / "other.whl"
    with zipfile.ZipFile(other, "w") as archive:  # another order, other times, not compressed
        for name, content in reversed(files.items()):
            member = zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10))
            member.external_attr = 0o100755 << 16
            archive.writestr(member, content)
    second = zipfile.ZipFile(other)
    with first, second:
        layers = [
            write_layer(tmp_path / f"{number}.tar", wheel_members([wheel]))
            for number, wheel in enumerate((first, second))
        ]
    assert layers[0].digest == layers[1].digest == small.digest(layers[0].file.read_bytes())
    with tarfile.open(layers[0].file) as archive:
        members = {member.name: member for member in archive}
    assert list(members) == [
        "opt", SITE, f"{SITE}/a", f"{SITE}/a/b.py", f"{SITE}/a/lib.so", f"{SITE}/a-1.dist-info",
        f"{SITE}/a-1.dist-info/METADATA",
    ]  # fmt: skip
    assert {(each.mtime, each.uid, each.gid, each.mode) for each in members.values()} == {
        (EPOCH, 0, 0, 0o755)
    }


def test_folders_of_the_base_are_left_as_they_are(tmp_path: Path) -> None:
    layer = write_layer(tmp_path / "x.tar", {"opt/edgecompress/a": text_member("a")}, ["opt"])
    with tarfile.open(layer.file) as archive:
        assert archive.getnames() == ["opt/edgecompress", "opt/edgecompress/a"]


def test_parts_of_a_wheel_go_where_pip_puts_them(tmp_path: Path) -> None:
    parts = ("purelib/p.py", "platlib/q.so", "data/share/d", "scripts/s", "headers/h.h")
    files = {f"a-1.data/{name}": b"" for name in parts}
    files |= {"numpy/tests/test.py": b"", "numpy/core/tests/x/y.py": b"", "numpy/tests.py": b""}
    with small.wheel(tmp_path / "a.whl", files) as wheel:
        found = {name.removeprefix(f"{SITE}/") for name in wheel_members([wheel])}
    assert found == {"p.py", "q.so", "share/d", "numpy/tests.py"}


@pytest.mark.parametrize(
    "name", ["../x", "a/../../x", "/etc/passwd", "a\\..\\x", "a-1.data/purelib/../../../x", "a//b",
             "a-1.data/other/x", "a\n", "C:/x"],
)  # fmt: skip
def test_a_wheel_does_not_leave_its_folder(name: str, tmp_path: Path) -> None:
    with (
        small.wheel(tmp_path / "a.whl", {name: b""}) as wheel,
        pytest.raises(ImageError, match=r"a\.whl: holds .*(stay in its folder|no place)"),
    ):
        wheel_members([wheel])


def test_links_and_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "link.whl", "w") as archive:
        member = zipfile.ZipInfo("a")
        member.external_attr = 0o120777 << 16
        archive.writestr(member, "/etc/passwd")
    with (
        zipfile.ZipFile(tmp_path / "link.whl") as wheel,
        pytest.raises(ImageError, match="does not stay in its folder"),
    ):
        wheel_members([wheel])
    with (
        small.wheel(tmp_path / "a.whl", {"x": b"1"}) as one,
        small.wheel(tmp_path / "b.whl", {"x": b"2"}) as other,
        pytest.raises(ImageError, match=r"b\.whl: holds x, which is there already"),
    ):
        wheel_members([one, other])
    with pytest.raises(ImageError, match="is a file, and a folder of other files"):
        write_layer(tmp_path / "x", {"a": text_member(""), "a/b": text_member("")})


def test_a_damaged_wheel_is_named(tmp_path: Path) -> None:
    small.wheel(tmp_path / "a.whl", {"x": os.urandom(5000)}).close()
    content = bytearray((tmp_path / "a.whl").read_bytes())
    content[2000] ^= 1
    (tmp_path / "a.whl").write_bytes(content)
    with (
        zipfile.ZipFile(tmp_path / "a.whl") as wheel,
        pytest.raises(ImageError, match=r"a\.whl: x cannot be read"),
    ):
        write_layer(tmp_path / "layer", wheel_members([wheel]))
    with (
        small.wheel(tmp_path / "b.whl", {"x": b""}) as wheel,
        pytest.raises(ImageError, match="no wheel with one METADATA"),
    ):
        wheel_metadata(wheel)


LAYERS = [
    small.tar(small.system()), small.tar({"etc/x": b"1"}), small.tar({"etc/x": b"1"}),
]  # fmt: skip
ABOUT = small.config(LAYERS, Env=["PATH=/bin", "HOME=/root"])


def forms(tmp_path: Path) -> dict[str, Path]:
    """Write one base in every form."""
    packed = small.oci(LAYERS, ABOUT, packed=True)
    files = {"docker.tar": small.docker(LAYERS, ABOUT), "oci.tar": small.oci(LAYERS, ABOUT),
             "packed.tar": packed}  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(small.tar(content))
    folder = small.unpack(packed, tmp_path / "folder")
    return {**{name: tmp_path / name for name in files}, "folder": folder}


def test_a_base_is_the_same_in_every_form(tmp_path: Path) -> None:
    for place in forms(tmp_path).values():
        base = read(place, tmp_path)
        assert [layer.digest for layer in base.layers] == [small.digest(each) for each in LAYERS]
        assert [layer.file.read_bytes() for layer in base.layers] == LAYERS
        assert base.config["config"]["Env"] == ["PATH=/bin", "HOME=/root"]


def test_of_a_list_the_platform_is_taken(tmp_path: Path) -> None:
    index, files = [], {}
    for architecture in ("amd64", "arm64"):
        layer = small.tar(small.system(architecture))
        one = small.oci([layer], small.config([layer], architecture))
        entry = small.json.loads(one.pop("index.json"))["manifests"][0]
        index.append(entry | {"platform": {"os": "linux", "architecture": architecture}})
        files |= one
    index.append(index[0] | {"platform": {"os": "unknown", "architecture": "unknown"}})
    files["index.json"] = small.json.dumps({"manifests": index}).encode()
    place = small.unpack(files, tmp_path / "both")
    assert read(place, tmp_path, "linux/arm64").config["architecture"] == "arm64"
    with pytest.raises(ImageError, match="holds 0 images for linux/riscv64"):
        read(place, tmp_path, "linux/riscv64")


def test_a_base_of_another_platform_is_refused(tmp_path: Path) -> None:
    for place in forms(tmp_path).values():
        with pytest.raises(ImageError, match="is for linux/amd64 and not for linux/arm64"):
            read(place, tmp_path, "linux/arm64")


def test_a_layer_that_was_changed_is_refused(tmp_path: Path) -> None:
    for packed in (False, True):
        files = small.oci(LAYERS, ABOUT, packed=packed)
        for inside in [each for each in files if each.startswith("blobs/")]:
            damaged = files | {inside: files[inside][:-1] + bytes([files[inside][-1] ^ 1])}
            (tmp_path / "x.tar").write_bytes(small.tar(damaged))
            with pytest.raises(ImageError, match=r"x\.tar: .*(differs|cannot be read)"):
                read(tmp_path / "x.tar", tmp_path)


def test_no_name_leads_out_of_a_base(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(LAYERS[0])
    about = small.config(LAYERS[:1])
    for name in ("../secret", str(secret), "a/../../secret", "link", "fifo"):
        folder = tmp_path / f"base-{len(list(tmp_path.glob('base-*')))}"
        manifest = [{"Config": "c.json", "Layers": [name]}]
        small.unpack(
            {"c.json": about, "manifest.json": small.json.dumps(manifest).encode()}, folder
        )
        (folder / "link").symlink_to(secret)
        os.mkfifo(folder / "fifo")
        with pytest.raises(ImageError, match=r"none of the image's|has no file"):
            read(folder, tmp_path)
    files = small.docker(LAYERS[:1], about) | {"0/layer.tar": small.link("../../../secret")}
    (tmp_path / "x.tar").write_bytes(small.tar(files))
    with pytest.raises(ImageError, match="has no file"):
        read(tmp_path / "x.tar", tmp_path)
    files["0/layer.tar"] = small.link("layer.tar")  # to itself
    (tmp_path / "x.tar").write_bytes(small.tar(files))
    with pytest.raises(ImageError, match="has no file"):
        read(tmp_path / "x.tar", tmp_path)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "cannot be read as an image"),
        (b"\x1f\x8b", "is compressed; unpack it with gunzip"),
        (small.tar({"a": b""}), "neither index.json nor manifest.json"),
        (small.tar({"manifest.json": b"[" * 100_000}), "cannot be read as an image"),
        (small.tar({"manifest.json": b"[{}, {}]"}), "must describe one image"),
        (small.tar({"manifest.json": b" " * (5 << 20)}), "larger than 4 MiB"),
        (small.tar({"index.json": b'{"manifests": 3}'}), "manifests is no list"),
        (small.tar({"index.json": b'{"manifests": [{"digest": "../x"}]}'}), "by no SHA-256"),
    ],
)
def test_what_is_no_image_is_refused(content: bytes, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(ImageError, match=complaint) as said:
        read(tmp_path / "x.tar", tmp_path)
    assert "x.tar" in str(said.value)
    with pytest.raises(ImageError, match="no such file"):
        read(tmp_path / "none", tmp_path)


def test_damaged_bases_are_refused_in_a_sentence(tmp_path: Path) -> None:
    """1,000 archives with a few bytes changed or cut: read as they were, or refused."""
    chance = random.Random(5)
    whole = [file.read_bytes() for file in forms(tmp_path).values() if file.is_file()]
    refused = 0
    for number in range(1000):
        content = bytearray(whole[number % len(whole)])
        for _ in range(chance.choice((1, 3, 30))):
            content[chance.randrange(len(content))] = chance.randrange(256)
        if number % 7 == 0:
            del content[chance.randrange(len(content)) :]
        (tmp_path / "x.tar").write_bytes(content)
        into = tmp_path / f"n{number}"
        into.mkdir()
        try:
            base = read_base(tmp_path / "x.tar", "linux/amd64", into)
            look(base.layers, ["opt"])
        except ImageError as error:
            assert "x.tar" in str(error)
            refused += 1
    assert refused > 500


def test_upper_layers_replace_and_hide_what_is_below(tmp_path: Path) -> None:
    metadata = "usr/local/lib/python3.11/site-packages/{}-1.dist-info/METADATA"
    layers = [
        {**small.system(), metadata.format("a"): b"Name: a\nVersion: 1\n"},
        {"var/lib/dpkg/status": b"Package: new\nVersion: 2\n", "usr/bin/.wh.python3.11": b""},
        {"usr/local/lib/python3.11/site-packages/.wh..wh..opq": b"",
         metadata.format("b"): b"Name: b\nVersion: 1\n"},
        {"usr/lib/.wh.os-release": b""},
    ]  # fmt: skip
    found = []
    for number, files in enumerate(layers):
        (tmp_path / "l").write_bytes(small.tar({f"./{name}": files[name] for name in files}))
        found.append(stored(tmp_path / "l", tmp_path / str(number)))
    first = look(found[:1], ["opt"])
    assert first.has_python
    assert set(first.files) == {
        "usr/lib/os-release", "var/lib/dpkg/status", metadata.format("a"),
    }  # fmt: skip
    last = look(found, ["opt"])
    assert not last.has_python
    assert set(last.files) == {"var/lib/dpkg/status", metadata.format("b")}
    assert last.files["var/lib/dpkg/status"].startswith(b"Package: new")


def stored(made: Path, file: Path) -> Layer:
    made.rename(file)
    return Layer(file, "sha256:", file.stat().st_size)


def test_a_bundle_of_files_is_taken_whole(tmp_path: Path) -> None:
    small.unpack({"m/a": b"1", "m/b/c": b"2"}, tmp_path)
    (tmp_path / "m" / "a").chmod(0o600)
    found = folder_members(tmp_path / "m", "bundle")
    layer = write_layer(tmp_path / "l", found)
    with tarfile.open(layer.file) as archive:
        assert {each.name: oct(each.mode) for each in archive} == {
            "bundle": "0o755", "bundle/a": "0o644", "bundle/b": "0o755", "bundle/b/c": "0o644",
        }  # fmt: skip
