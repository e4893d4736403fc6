"""Bundles made to harm: each is refused in one sentence, and nothing is written or left behind.

A hundred and more hostile manifests, folders and archives, drawn from one seed; and every file of
an honest bundle with a byte changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard

from edgecompress.bundle import load_manifest, verify_bundle, write_bundle
from edgecompress.bundle.packing import pack_bundle, unpack_bundle
from edgecompress.bundle.tarball import write_tar
from edgecompress.bundle.zstdframe import MAGIC, TRAILER
from edgecompress.errors import BundleError
from edgecompress.values import Candidate, directory_digests

SEED = 20_240
CHANCE = random.Random(SEED)
Files = dict[str, bytes]
Hostile = tuple[str, Any]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory, classifier: Candidate) -> Path:
    """A whole bundle with external data and evidence, in a folder of its own."""
    folder = tmp_path_factory.mktemp("honest") / "bundle"
    recipe = {"name": "tiny", "data": {"format": "tsv"}, "note": "Ọdún àti ìlú"}
    write_bundle(folder, classifier, recipe, {"onnxruntime": "1.23.0"}, None, "<h1>tiny</h1>")
    return folder


def files_of(bundle: Path) -> Files:
    return {name: (bundle / name).read_bytes() for name in directory_digests(bundle)}


def sealed(files: Files) -> Files:
    """Write both lists anew, as someone would who makes a bundle by hand."""
    lines = {
        name: f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(files.items())
        if not name.endswith(".sha256")
    }
    core = [line for name, line in lines.items() if not name.startswith("evidence/")]
    beside = [line for name, line in lines.items() if name.startswith("evidence/")]
    return files | {
        "core.sha256": "".join(core).encode("utf-8", "surrogateescape"),
        "evidence.sha256": "".join(beside).encode("utf-8", "surrogateescape"),
    }


def packed(tar: bytes, **options: Any) -> bytes:
    """Compress as `pack_bundle` does, with the digest behind it."""
    given = {"level": 10, "write_checksum": True, "write_content_size": True} | options
    frame = zstandard.ZstdCompressor(**given).compress(tar)
    return with_trailer(frame)


def with_trailer(frame: bytes) -> bytes:
    return frame + TRAILER + hashlib.sha256(frame).digest()


def archived(files: Files) -> bytes:
    named = {f"bundle/{name}": content for name, content in files.items()}
    sizes = {name: len(content) for name, content in named.items()}
    return b"".join(write_tar(sizes, lambda name: [named[name]]))


def nested(depth: int, kind: str) -> Any:
    """JSON text of lists or mappings in one another."""
    return "[" * depth + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth


# --- Manifests, sealed so that only their reading can refuse them.

WRONG_PATHS = (
    "../model.onnx", "/etc/passwd", "..", ".", "a/../../b", "a//b", "a/", "/", "C:\\model.onnx",
    "\\\\server\\share", "model.onnx\n", "model.onnx\u0000", "~/../x\u202e", "gone.onnx",
)  # fmt: skip
WRONG_TYPES = (None, True, 3, -1, 1.5, [], {}, "", [[]], [None], {"a": 1}, "x" * 10_000)
UNSAFE_ENTRIES = (
    ("session.load_model_format", "ORT"),
    ("optimization.minimal_build_optimizations_file", "/x"),
    ("session.model_external_initializers_file_folder_path", "/etc"),
    ("ep.context_file_path", "../x"),
    ("custom_ops.library", "/tmp/evil.so"),
    ("ep.Context_Directory", "/"),
)


def changed(document: dict[str, Any], key: str, value: Any) -> str:
    return json.dumps({**document, key: value})


def manifests(document: dict[str, Any]) -> Iterator[Hostile]:
    """Give (what is wrong, text or bytes) of manifests that no program wrote in good faith."""
    for key in ("model", "preprocessor"):
        for path in WRONG_PATHS:
            yield f"{key} is {path!r}", changed(document, key, path)
    wanted: dict[str, tuple[type, ...]] = {
        "name": (str,), "task": (str, type(None)), "labels": (list,), "session": (),
        "steps": (list,), "recipe": (dict,), "code": (dict,), "platform": (dict,),
        "versions": (dict,), "inputs": (dict,), "licences": (dict,), "evidence": (bool,),
        "format": (), "model": (), "preprocessor": (type(None),),
    }  # fmt: skip
    for key, right in wanted.items():
        wrong = [value for value in WRONG_TYPES if type(value) not in right]
        for value in CHANCE.sample(wrong, 2):
            yield f"{key} is {str(value)[:20]!r}", changed(document, key, value)
        yield f"{key} is missing", json.dumps({k: v for k, v in document.items() if k != key})
    for entry in UNSAFE_ENTRIES:
        session = {**document["session"], "config_entries": [list(entry)]}
        yield f"session sets {entry[0]}", changed(document, "session", session)
    text = json.dumps(document)
    inside = json.dumps({**document, "recipe": {"x": 0}})
    for depth, kind in ((65, "list"), (70, "dict"), (900, "list"), (100_000, "dict")):
        yield f"{kind}s {depth} deep", inside.replace('"x": 0', f'"x": {nested(depth, kind)}')
    for number in ("NaN", "Infinity", "-Infinity", "1e999", "-1e400", "9" * 5000):
        yield f"the number {number[:9]}", inside.replace('"x": 0', f'"x": {number}')
    yield "a key twice", text.replace('"name":', '"name": "other", "name":', 1)
    yield "a deep key twice", inside.replace('"x": 0', '"x": 0, "x": 1')
    yield "half a surrogate pair", inside.replace('"x": 0', '"x": "\\ud800"')
    yield "half a pair as key", inside.replace('"x": 0', '"\\udfff": 1')
    yield "no UTF-8", text.encode().replace(b'"name"', b'"\xff\xfename"', 1)
    yield "UTF-16", text.encode("utf-16")
    yield "a byte order mark", text.encode("utf-8-sig")
    yield "two documents", text + text
    yield "nothing", b""
    yield "zeros", bytes(1000)
    yield "format of tomorrow", changed(document, "format", 2)
    yield "a format of 4000 digits", text.replace('"format": 1', '"format": ' + "1" * 4000)
    yield "65 MiB", text.encode() + b" " * (65 << 20)


def test_hostile_manifests_are_refused_in_a_sentence(honest: Path, tmp_path: Path) -> None:
    files = files_of(honest)
    (tmp_path / "bundle").mkdir()
    count = 0
    for what, text in manifests(json.loads(files["manifest.json"])):
        content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        bundle = laid(tmp_path / "bundle", sealed(files | {"manifest.json": content}))
        refused(what, lambda: verify_bundle(bundle), bundle)  # noqa: B023 - called at once
        count += 1
    assert count >= 100


# --- Folders, sealed.


def folders(files: Files) -> Iterator[tuple[str, Callable[[Path], object]]]:
    """Give (what is wrong, how to make it in a bundle's folder)."""
    for name in ("model.onnx", "core.sha256", "evidence/report.html", "manifest.json"):
        yield f"{name} is a link", lambda b, n=name: linked(b / n, Path("/etc/passwd"))  # type: ignore[misc]
        yield f"{name} is a pipe", lambda b, n=name: piped(b / n)  # type: ignore[misc]
    yield "a linked folder", lambda b: linked(b / "preprocessor", Path("/"))
    yield "a dangling link", lambda b: (b / "x").symlink_to("nowhere")
    yield "a link to itself", lambda b: (b / "loop").symlink_to(b)
    yield "names that differ in capitals", lambda b: again(b, files, "MODEL.onnx")
    yield "a name in NFD", lambda b: again(b, files, "e\u0301.txt")
    yield "a name with a line end", lambda b: again(b, files, "a\nb.txt")
    yield "a name that is no UTF-8", lambda b: again(b, files, os.fsdecode(b"\xff.txt"))
    yield "a name of 250 bytes", lambda b: again(b, files, "x" * 250)
    yield "folders 600 deep", lambda b: deep(b, 600)
    yield "a thousand files more", lambda b: [again(b, {}, f"f{i}") for i in range(1001)]
    for name in ("extra.txt", "preprocessor/extra.txt", "evidence/extra.txt", ".hidden"):
        yield f"{name} was added", lambda b, n=name: (b / n).write_text("")  # type: ignore[misc]
    for name in ("manifest.json", "evidence/report.html"):
        yield f"{name} is a folder", lambda b, n=name: ((b / n).unlink(), (b / n).mkdir())  # type: ignore[misc]


def lists(text: str) -> Iterator[tuple[str, str]]:
    """Give lists that say the same in another way, or something else."""
    lines = text.splitlines(keepends=True)
    yield "no end of line", text[:-1]
    yield "an empty line more", text + "\n"
    yield "Windows' line ends", text.replace("\n", "\r\n")
    yield "another order", "".join(reversed(lines))
    yield "a line twice", text + lines[-1]
    yield "capital digits", text.upper().replace("  CORE", "  core")
    yield "the binary mark", text.replace("  ", " *")
    yield "one blank", text.replace("  ", " ")
    yield "a path with a dot", text.replace("  ", "  ./")
    yield "a comment", "# mine\n" + text
    yield "a line for itself", text + f"{'0' * 64}  core.sha256\n"
    yield "a file outside", text + f"{'0' * 64}  ../outside\n"
    yield "a byte order mark", "\ufeff" + text
    yield "nothing", ""


def test_hostile_folders_are_refused(honest: Path, tmp_path: Path) -> None:
    files = files_of(honest)
    (tmp_path / "bundle").mkdir()
    for what, make in folders(files):
        bundle = laid(tmp_path / "bundle", files)
        make(bundle)
        refused(what, lambda: verify_bundle(bundle), None)  # noqa: B023 - called at once
        shutil.rmtree(bundle)
    for name in ("core.sha256", "evidence.sha256"):
        for what, text in lists(files[name].decode()):
            if text.encode() == files[name]:
                continue  # one line has no other order
            bundle = laid(tmp_path / "bundle", files | {name: text.encode()})
            refused(f"{name} with {what}", lambda: verify_bundle(bundle), bundle)  # noqa: B023


def test_links_and_pipes_are_refused_also_where_nothing_is_verified(
    honest: Path, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    count = 0
    for what, make in folders(files_of(honest)):
        if "link" in what or "pipe" in what:
            bundle = laid(tmp_path / "bundle", files_of(honest))
            make(bundle)
            refused(what, lambda: load_manifest(bundle), None)  # noqa: B023 - called at once
            shutil.rmtree(bundle)
            count += 1
    assert count >= 10


# --- Archives.


def member(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    found = tarfile.TarInfo(name)
    found.size = fields.pop("size", len(content))
    for key, value in fields.items():
        setattr(found, key, value)
    return found, content


def tar_with(
    files: Files, *members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.USTAR_FORMAT
) -> bytes:
    """Give an archive of `files` with further members, in the order of names."""
    every = [member(f"bundle/{name}", content) for name, content in files.items()] + list(members)
    stream = b""
    for info, content in sorted(every, key=lambda pair: pair[0].name):
        stream += info.tobuf(form, "utf-8", "surrogateescape") + content
        stream += bytes(-len(content) % 512)
    return stream + bytes(1024 + -(len(stream) + 1024) % 10240)


def archives(files: Files) -> Iterator[tuple[str, bytes]]:
    """Give (what is wrong, the archive)."""
    evil = b"owned\n"
    for name in (
        "../evil", "bundle/../evil", "bundle/../../evil", "/evil", "bundle//evil", "bundle/./evil",
        "evil", "bundle/a\\..\\..\\evil", "bundle/C:evil", "bundle/\x01evil", "bundle/e\u0301vil",
        "bundle/MODEL.ONNX", "bundle/model.onnx/evil", "bundle/TextProcessor/evil", "bundle/",
        "bundle", "bundle/evil\n", "bundle/" + "x" * 93 + "\u202e",
    ):  # fmt: skip
        yield f"a member {name!r}", packed(tar_with(files, member(name, evil)))
    kinds = {
        "a symbolic link": tarfile.SYMTYPE, "a hard link": tarfile.LNKTYPE,
        "a device": tarfile.CHRTYPE, "a disk": tarfile.BLKTYPE, "a pipe": tarfile.FIFOTYPE,
        "a folder": tarfile.DIRTYPE, "a contiguous file": tarfile.CONTTYPE,
        "an old file": tarfile.AREGTYPE, "an unknown kind": b"Z", "a GNU name": b"L",
        "a GNU link": b"K", "a sparse file": b"S", "a header for all": b"g", "a header": b"x",
    }  # fmt: skip
    for what, kind in kinds.items():
        linked_to = member("bundle/evil", type=kind, linkname="../../../etc/passwd")
        yield what, packed(tar_with(files, linked_to))
    hidden = member("bundle/evil", evil, pax_headers={"path": "../../evil"})
    yield "a name in an extended header", packed(tar_with(files, hidden, form=tarfile.PAX_FORMAT))
    long = member("bundle/" + "d/" * 120 + "evil", evil)
    yield "a GNU long name", packed(tar_with(files, long, form=tarfile.GNU_FORMAT))
    for key, value in (
        ("mode", 0o4755), ("mtime", 1), ("uid", 1000), ("gid", 7), ("uname", "root"),
        ("gname", "wheel"), ("linkname", "x"),
    ):  # fmt: skip
        yield f"a {key}", packed(tar_with(files, member("bundle/evil", evil, **{key: value})))
    whole = archived(files)
    for size in (8**11 - 1, 1 << 33, 1 << 62, 10_000_000):
        form = tarfile.USTAR_FORMAT if size < 8**11 else tarfile.GNU_FORMAT
        huge = member("bundle/zzz", size=size)
        yield f"a member of {size} bytes", packed(tar_with(files, huge, form=form))
    first = next(iter(sorted(files)))
    twice = member(f"bundle/{first}", evil)
    yield "a name twice", packed(tar_with(files, twice))
    backwards = b"".join(
        tar_with({name: content})[: 512 + -(-len(content) // 512) * 512]
        for name, content in sorted(files.items(), reverse=True)
    )
    yield "another order", packed(backwards + bytes(1024 + -(len(backwards) + 1024) % 10240))
    yield "no end", packed(whole[: len(whole) // 20480 * 10240])
    yield "no record", packed(whole[:-512])
    yield "a record more", packed(whole + bytes(10240))
    yield "something behind the end", packed(whole[:-1] + b"\1")
    yield "something between files", packed(whole.replace(bytes(300), bytes(299) + b"\1", 1))
    yield "an archive behind it", packed(whole + whole)
    yield "no tar at all", packed(CHANCE.randbytes(20_000))
    yield "zeros", packed(bytes(10240))
    yield "an empty tar", packed(b"")
    many = {f"f{index:04}": b"" for index in range(1100)}
    yield "1100 files", packed(archived(many))
    yield "a bomb", packed(bytes(200 << 20))
    yield "a bomb in a file", packed(archived(files | {"zeros": bytes(100 << 20)}))
    frame = packed(whole)[: -len(TRAILER) - 32]
    yield "no digest", frame
    yield "a wrong digest", frame + TRAILER + bytes(32)
    yield "two frames", with_trailer(frame + frame)
    yield "something behind it", packed(whole) + b"\0"
    yield "something before it", b"\0" + packed(whole)
    yield "no checksum", packed(whole, write_checksum=False)
    yield "no size", packed(whole, write_content_size=False)
    yield "no frame but its mark", with_trailer(MAGIC)
    yield "an empty file", b""
    yield "plain tar", whole
    yield "a wrong size", with_trailer(resized(frame, -1))
    yield "a size too large", with_trailer(resized(frame, 1))
    yield "a size of 2 GB", with_trailer(resized(frame, 2_000_000_000))
    for at in sorted(CHANCE.sample(range(len(frame)), 6)):
        yield f"cut at {at}", with_trailer(frame[:at])
    lost = {name: content for name, content in files.items() if name != "model.onnx"}
    yield "no model", packed(archived(sealed(lost)))
    yield "no manifest", packed(archived(sealed({"a": b"b"})))
    yield "no lists", packed(archived({"manifest.json": files["manifest.json"]}))
    yield "a changed file", packed(archived(files | {"model.onnx": b"\0" * 10}))
    yield (
        "half its evidence",
        packed(archived({k: v for k, v in files.items() if k != "evidence.sha256"})),
    )


def resized(frame: bytes, by: int) -> bytes:
    """Change the size that a frame says it holds: four bytes behind its descriptor, or two."""
    facts = zstandard.get_frame_parameters(frame)
    width = {1: 2, 2: 4}[frame[4] >> 6]
    at = 5 if frame[4] & 0x20 else 6
    bias = 256 if width == 2 else 0
    said = min(facts.content_size + by - bias, 2 ** (8 * width) - 1)
    return frame[:at] + said.to_bytes(width, "little") + frame[at + width :]


def test_hostile_archives_are_refused_and_leave_nothing(honest: Path, tmp_path: Path) -> None:
    files = files_of(honest)
    place = tmp_path / "place"
    count = 0
    for what, content in archives(files):
        place.mkdir()
        archive = place / "bundle.tar.zst"
        archive.write_bytes(content)
        refused(what, lambda: unpack_bundle(archive, place / "new" / "bundle"), None)  # noqa: B023
        assert [path.name for path in place.iterdir()] == [archive.name], what
        assert [path.name for path in tmp_path.iterdir()] == ["place"], what
        shutil.rmtree(place)
        count += 1
    assert count >= 80


def test_what_the_hostile_ones_are_made_of_is_honest(honest: Path, tmp_path: Path) -> None:
    files = files_of(honest)
    assert sealed(files) == files
    (tmp_path / "a.tar.zst").write_bytes(packed(archived(files)))
    assert directory_digests(unpack_bundle(tmp_path / "a.tar.zst")) == directory_digests(honest)
    assert packed(archived(files)) == pack_bundle(honest, tmp_path / "b.tar.zst").read_bytes()


# --- One byte.


def test_one_changed_byte_in_any_file_is_found(honest: Path, tmp_path: Path) -> None:
    bundle = laid(tmp_path / "bundle", files_of(honest))
    for name, content in files_of(honest).items():
        offsets = {0, len(content) - 1, *(CHANCE.randrange(len(content)) for _ in range(6))}
        for at in sorted(offsets):
            flipped = content[at] ^ CHANCE.randint(1, 255)
            (bundle / name).write_bytes(content[:at] + bytes([flipped]) + content[at + 1 :])
            refused(f"byte {at} of {name}", lambda: verify_bundle(bundle), None)
        for after in (content[:-1], content + b"\0", b""):
            (bundle / name).write_bytes(after)
            refused(f"{name} with {len(after)} bytes", lambda: verify_bundle(bundle), None)
        (bundle / name).unlink()
        refused(f"no {name}", lambda: verify_bundle(bundle), None)
        (bundle / name).write_bytes(content)
    verify_bundle(bundle)


def test_one_changed_byte_of_an_archive_is_found(honest: Path, tmp_path: Path) -> None:
    archive = pack_bundle(honest, tmp_path / "a.tar.zst")
    content = archive.read_bytes()
    ends = [*range(30), *range(len(content) - 50, len(content))]
    for at in [*ends, *(CHANCE.randrange(len(content)) for _ in range(60))]:
        flipped = content[at] ^ (1 << CHANCE.randrange(8))
        archive.write_bytes(content[:at] + bytes([flipped]) + content[at + 1 :])
        refused(f"byte {at}", lambda: unpack_bundle(archive, tmp_path / "b"), None)
    for at in (0, 1, 4, 100, len(content) // 2, len(content) - 41, len(content) - 1):
        archive.write_bytes(content[:at])
        refused(f"cut at {at}", lambda: unpack_bundle(archive, tmp_path / "b"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.zst"]


def test_one_changed_byte_below_the_compression_is_found(honest: Path, tmp_path: Path) -> None:
    tar = archived(files_of(honest))
    archive = tmp_path / "a.tar.zst"
    headers = range(512)
    for at in [*headers, len(tar) - 1, *(CHANCE.randrange(len(tar)) for _ in range(60))]:
        flipped = tar[at] ^ CHANCE.randint(1, 255)
        archive.write_bytes(packed(tar[:at] + bytes([flipped]) + tar[at + 1 :], level=1))
        refused(f"byte {at}", lambda: unpack_bundle(archive, tmp_path / "b"), None)
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.zst"]


# --- Making them.


def laid(folder: Path, files: Files) -> Path:
    """Write `files` into a folder that holds nothing else then."""
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def linked(place: Path, target: Path) -> None:
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    place.symlink_to(target)


def piped(place: Path) -> None:
    place.unlink()
    os.mkfifo(place)


def again(bundle: Path, files: Files, name: str) -> None:
    """Add a file and, with `files`, seal the bundle with it."""
    (bundle / name).write_bytes(b"")
    if files:
        lists = sealed(files | {name: b""})
        (bundle / "core.sha256").write_bytes(lists["core.sha256"])


def deep(bundle: Path, count: int) -> None:
    here = os.getcwd()  # noqa: PTH109 - a path this long can only be walked
    try:
        os.chdir(bundle)
        for _ in range(count):
            os.mkdir("d")  # noqa: PTH102
            os.chdir("d")
        Path("file").write_text("")
    finally:
        os.chdir(here)


def refused(what: str, attempt: Callable[[], object], bundle: Path | None) -> None:
    """See that `attempt` ends in a `BundleError` of one readable sentence, and writes nothing."""
    before = directory_digests(bundle) if bundle else None
    with pytest.raises(BundleError) as caught:
        attempt()
        pytest.fail(f"{what}: was taken")
    said = str(caught.value)
    assert said and "\n" not in said and len(said) < 700, f"{what}: {said[:900]!r}"
    assert "Traceback" not in said
    said.encode()
    assert bundle is None or directory_digests(bundle) == before
