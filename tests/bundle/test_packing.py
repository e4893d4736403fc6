"""Archives of bundles: the same bytes each time, read by tar, whole or not at all."""

from __future__ import annotations

import io
import os
import random
import shutil
import subprocess
import sys
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.bundle import verify_bundle
from edgecompress.bundle.digests import EVIDENCE_LIST, is_evidence, list_text, listed_files
from edgecompress.bundle.names import Names
from edgecompress.bundle.packing import opened, pack_bundle, unpack_bundle
from edgecompress.bundle.tarball import header, read_tar, whole_size, write_tar
from edgecompress.cli.bundle import bundle as command
from edgecompress.errors import BundleError, MissingExtraError
from edgecompress.values import Candidate, directory_digests

MakeBundle = Callable[..., Path]


@pytest.fixture
def bundle(classifier: Candidate, make_bundle: MakeBundle) -> Path:
    return make_bundle(classifier, report_html="<p>measured</p>")


def tar_of(archive: Path) -> bytes:
    with archive.open("rb") as stream:
        return zstandard.ZstdDecompressor().stream_reader(stream, read_across_frames=True).read()


def test_there_and_back(bundle: Path, tmp_path: Path) -> None:
    archive = pack_bundle(bundle)
    assert archive == tmp_path / "bundle.tar.zst"
    place = unpack_bundle(archive, tmp_path / "deep" / "down" / "again")
    assert place == tmp_path / "deep" / "down" / "again"
    assert directory_digests(place) == directory_digests(bundle)
    assert verify_bundle(place).evidence
    assert (place.stat().st_mode & 0o777, (place / "model.onnx").stat().st_mode & 0o777) == (
        0o755,
        0o644,
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle", "bundle.tar.zst", "deep",
    ]  # fmt: skip


def test_the_core_alone(bundle: Path, tmp_path: Path) -> None:
    archive = pack_bundle(bundle, core=True)
    assert archive.name == "bundle-core.tar.zst"
    place = unpack_bundle(archive)
    assert place == tmp_path / "bundle-core"
    names = {name for name in directory_digests(bundle) if not name.startswith("evidence")}
    assert set(directory_digests(place)) == names
    verify_bundle(place, evidence=False)
    with pytest.raises(BundleError, match=r"evidence\.sha256: missing; .*--core-only"):
        verify_bundle(place)


def test_equal_bundles_give_equal_archives(bundle: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "other place"
    shutil.copytree(bundle, elsewhere / "renamed")
    for number, file in enumerate(sorted(elsewhere.rglob("*"))):
        file.chmod(0o700)
        os.utime(file, (number, number))
    first = pack_bundle(bundle, tmp_path / "a.tar.zst").read_bytes()
    assert pack_bundle(elsewhere / "renamed", tmp_path / "b.tar.zst").read_bytes() == first
    code = (
        "from pathlib import Path; from edgecompress.bundle.packing import pack_bundle; "
        f"pack_bundle(Path('renamed'), Path({str(tmp_path / 'c.tar.zst')!r}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=elsewhere, check=True, umask=0o077)
    assert (tmp_path / "c.tar.zst").read_bytes() == first


def test_python_and_gnu_tar_read_and_write_the_same_archive(bundle: Path, tmp_path: Path) -> None:
    ours = tar_of(pack_bundle(bundle))
    with tarfile.open(fileobj=io.BytesIO(ours)) as found:
        members = {member.name: found.extractfile(member).read() for member in found}  # type: ignore[union-attr]
    names = sorted(directory_digests(bundle))
    assert list(members) == [f"bundle/{name}" for name in names]
    assert all(members[f"bundle/{name}"] == (bundle / name).read_bytes() for name in names)
    if shutil.which("tar") is None:
        pytest.skip("needs the Debian package tar")
    flags = "--format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=0644"
    command = ["tar", "--create", *flags.split(), "--no-recursion", *members]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == ours


def test_an_archive_is_replaced_and_nothing_else(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"notes\.txt: exists and is no archive"):
        pack_bundle(bundle, tmp_path / "notes.txt")
    with pytest.raises(BundleError, match="lies in the bundle itself"):
        pack_bundle(bundle, bundle / "b.tar.zst")
    with pytest.raises(BundleError, match="exists and is no archive"):
        pack_bundle(bundle, bundle.parent)
    core = pack_bundle(bundle, tmp_path / "x.tar.zst", core=True).read_bytes()
    assert pack_bundle(bundle, tmp_path / "x.tar.zst").read_bytes() != core
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="exists and is no bundle"):
        unpack_bundle(tmp_path / "x.tar.zst", tmp_path / "full")
    (bundle / "core.sha256").rename(bundle / "lost")
    with pytest.raises(BundleError, match=r"core\.sha256: missing"):
        pack_bundle(bundle, tmp_path / "y.tar.zst")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "bundle", "full", "notes.txt", "x.tar.zst",
    ]  # fmt: skip


def test_unpacking_replaces_a_bundle_whole(bundle: Path, tmp_path: Path) -> None:
    archive = pack_bundle(bundle, core=True)
    unpack_bundle(archive, bundle)
    assert not (bundle / "evidence").exists()
    before = directory_digests(bundle)
    broken = bytearray(archive.read_bytes())
    broken[len(broken) // 2] ^= 1
    archive.write_bytes(broken)
    with pytest.raises(BundleError, match="damaged"):
        unpack_bundle(archive, bundle)
    assert directory_digests(bundle) == before


def test_limits_are_said_before_anything_is_written(bundle: Path, tmp_path: Path) -> None:
    archive = pack_bundle(bundle)
    with pytest.raises(BundleError, match=r"bundle\.tar\.zst: holds 0 MB, more than the 0 MB"):
        unpack_bundle(archive, tmp_path / "new", most_bytes=1000)
    with pytest.raises(BundleError, match=r"gone\.tar\.zst: no such file"):
        unpack_bundle(tmp_path / "gone.tar.zst")
    with pytest.raises(BundleError, match="is no file"):
        unpack_bundle(bundle, tmp_path / "new")
    archive.rename(tmp_path / "named-otherwise")
    with pytest.raises(BundleError, match=r"does not end in \.tar\.zst; name the directory"):
        unpack_bundle(tmp_path / "named-otherwise")
    assert not (tmp_path / "new").exists()


def test_without_zstandard_the_other_way_is_said(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = pack_bundle(bundle)
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[pack\]'.* tar --zstd -cf"):
        pack_bundle(bundle)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[pack\]'.* tar --zstd -xf"):
        unpack_bundle(archive, tmp_path / "new")
    with opened(bundle) as place:
        assert place == bundle


def test_the_commands(bundle: Path, tmp_path: Path) -> None:
    def run(*arguments: object, code: int = 0) -> str:
        done = CliRunner().invoke(command, [str(each) for each in arguments])
        assert done.exit_code == code, done.output
        return done.output

    archive = tmp_path / "bundle-core.tar.zst"
    assert "MB (core)" in run("pack", bundle, "--core")
    assert run("verify", archive) == f"{archive}: whole (core)\n"
    assert "opset" in run("show", archive)
    assert "whole (core)" in run("unpack", archive, "-o", tmp_path / "new")
    assert "core and evidence" in run("pack", bundle, "-o", archive)
    assert run("verify", archive) == f"{archive}: whole (core and evidence)\n"


def test_an_error_in_an_archive_names_the_archive(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (bundle / "evidence" / "measurements.json").write_text("[]")
    names = [name for name in listed_files(bundle) if is_evidence(name) and name != EVIDENCE_LIST]
    (bundle / EVIDENCE_LIST).write_bytes(list_text(bundle, names))
    odd = pack_bundle(bundle, tmp_path / "odd.tar.zst")
    core = pack_bundle(bundle, tmp_path / "core.tar.zst", core=True)
    for pair in ((odd, core), (core, odd)):
        done = CliRunner().invoke(command, ["diff", *(path.name for path in pair)])
        assert isinstance(done.exception, BundleError)
        said = str(done.exception)
        assert said.startswith("odd.tar.zst: evidence/measurements.json: not measurements"), said


@given(
    sizes=st.dictionaries(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        st.integers(0, 3000),
        max_size=5,
    )
)
def test_any_files_come_back(sizes: dict[str, int]) -> None:
    sizes = {name: size for name, size in sizes.items() if len(name.encode()) <= 100}
    sizes = {name.rstrip("/") or "x": size for name, size in sizes.items()}
    contents = {name: random.Random(name).randbytes(size) for name, size in sizes.items()}
    text = b"".join(write_tar(sizes, lambda name: [contents[name]]))
    assert len(text) == whole_size(sizes)
    stream = io.BytesIO(text)
    found = {name: b"".join(part) for name, _, part in read_tar(stream.read, len(text))}
    assert found == contents
    assert stream.read() == b""


@given(st.integers(0, 10_000), st.integers(0, 2), st.text("abcdef/", min_size=90, max_size=260))
def test_headers_are_those_of_the_standard_library(size: int, folders: int, name: str) -> None:
    try:
        ours = header(name, size)
    except BundleError:
        return
    read = tarfile.TarInfo.frombuf(ours, "utf-8", "strict")
    assert (read.name, read.size, read.mode, read.mtime, read.type) == (
        name, size, 0o644, 0, tarfile.REGTYPE,
    )  # fmt: skip


def test_a_long_name_is_cut_as_tar_does(tmp_path: Path) -> None:
    name = "/".join(["folder" * 10] * 3) + "/file.bin"
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"x" * 700)
    ours = b"".join(write_tar({name: 700}, lambda _: [b"x" * 700]))
    flags = "--format=ustar --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=0644"
    command = ["tar", "--create", *flags.split(), name]
    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout == ours
    with pytest.raises(BundleError, match="too long"):
        header("x" * 101, 1)
    with pytest.raises(BundleError, match="less than 8 GiB"):
        header("x", 8 << 30)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "A"], "are one on some systems"),
        (["straße", "STRASSE"], "are one on some systems"),
        (["a/b", "A/c"], "are one on some systems"),
        (["a", "a/b"], "are one on some systems"),
        (["a/b", "A"], "are one on some systems"),
        ([unicodedata.normalize("NFD", "é")], "normal form NFC"),
        (["x" * 241], "too long"),
        (["../a"], "cannot be in a bundle"),
        (["a\nb"], "cannot be in a bundle"),
        ([f"f{index}" for index in range(1001)], "more than 1000 files"),
    ],
)
def test_names_that_some_system_confuses_are_refused(names: list[str], says: str) -> None:
    taken = Names()
    for name in names[:-1]:
        taken.add(name)
    with pytest.raises(ValueError, match=says):
        taken.add(names[-1])
