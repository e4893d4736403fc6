"""Bundles and archives that lead out of their folder: by names, by links, by what files name.

Beside each lies a folder `outside` that nothing may read, and `strayed…` are the names of what a
command would write there or above. `judge` looks at both.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.bundles import TEXTS, Files, _files, _good, _sealed, _write
from fuzzing.case import Case
from fuzzing.stock import Stock

SECRETS = ("secret.txt", "secret.json", "model.onnx", "weights.bin", "tokenizer.json", "train.tsv")
COMMANDS = (
    ("predict", "{}", "Abuja"),
    ("predict", "{}", "Abuja", "--no-verify"),
    ("bundle", "show", "{}"),
    ("bundle", "verify", "{}"),
    ("bundle", "pack", "{}", "-o", "out.tar.zst"),
    ("bundle", "diff", "{}", "{}"),
    ("bundle", "diff", "{}", "{}", "--data", "texts.txt", "--threads", "1"),
    ("bundle", "diff", "{}", "{}", "--no-verify"),
    ("image", "{}", "--context-only", "context"),
)
OF_ARCHIVES = (
    ("bundle", "unpack", "{}", "-o", "out"),
    ("bundle", "unpack", "{}", "-o", "out"),
    ("bundle", "show", "{}"),
    ("bundle", "verify", "{}"),
    ("bundle", "diff", "{}", "{}"),
)


def _outside(folder: Path, files: Files) -> Path:
    """Write what must stay unread; all of it would do in a bundle."""
    place = folder / "outside"
    place.mkdir()
    contents = dict.fromkeys(SECRETS, b"secret\n")
    contents["secret.json"] = files["manifest.json"]
    contents["model.onnx"] = files["model.onnx"]
    contents["tokenizer.json"] = files["preprocessor/tokenizer.json"]
    contents["weights.bin"] = np.ones(40_000, np.float32).tobytes()
    for name, content in contents.items():
        (place / name).write_bytes(content)
    return place


def _ways(chance: random.Random, folder: Path, last: str) -> str:
    """A path from within the bundle to `last` outside of it, in one of many spellings."""
    up = chance.choice(("..", "preprocessor/../..", "./..", "../bundle/..", "..//", "../."))
    return chance.choice((f"{up}/{last}", f"{folder}/{last}", f"/proc/self/cwd/{last}",
                          f"..\\{last}", f"../{last}/", f"file://{folder}/{last}"))  # fmt: skip


def _external(data: bytes, location: str, in_attribute: bool) -> bytes:
    """Let a model's weight, or a tensor of a node, lie in a file outside."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load_from_string(data)
    weight = model.graph.initializer[0]
    for one in model.graph.initializer:  # the table: the largest
        weight = max(weight, one, key=lambda tensor: int(np.prod(tensor.dims)))
    outer = onnx.TensorProto(
        name=weight.name, data_type=weight.data_type, dims=weight.dims,
        data_location=TensorProto.EXTERNAL,
    )  # fmt: skip
    outer.external_data.add(key="location", value=location)
    if in_attribute:
        constant = helper.make_node("Constant", [], [weight.name], value=outer)
        model.graph.initializer.remove(weight)
        model.graph.node.insert(0, constant)
    else:
        weight.CopyFrom(outer)
    return model.SerializeToString()


def _named(chance: random.Random, folder: Path, files: Files) -> str:
    """Let the manifest, a list, the model or the tokenizer name a file outside."""
    what = chance.choice(
        ("manifest", "manifest", "list", "weight", "weight", "attribute", "tokenizer", "evidence")
    )
    there = _ways(chance, folder, f"outside/{chance.choice(SECRETS)}")
    document = json.loads(files["manifest.json"])
    if what == "manifest":
        there = _ways(chance, folder, "outside/model.onnx")
        key = chance.choice(("model", "model", "preprocessor", "report", "measurements", "evidence",
                             "name", "tokenizer", "task"))  # fmt: skip
        document[key] = chance.choice((there, there, {"file": there}, [there]))
        files["manifest.json"] = json.dumps(document).encode()
        return f"manifest: {key} is {there}"
    if what == "list":
        digest = hashlib.sha256((folder / "outside" / "secret.txt").read_bytes()).hexdigest()
        name = chance.choice(("core.sha256", "evidence.sha256"))
        lines = files[name].decode().splitlines()
        lines.append(f"{digest}  {_ways(chance, folder, 'outside/secret.txt')}")
        files[name] = ("\n".join(sorted(lines)) + "\n").encode()
        return "list"
    if what in ("weight", "attribute"):
        there = _ways(chance, folder, "outside/weights.bin")
        files["model.onnx"] = _external(files["model.onnx"], there, what == "attribute")
        return f"{what}: {there}"
    if what == "tokenizer":
        name = "preprocessor/tokenizer_config.json"
        settings: dict[str, Any] = json.loads(files[name])
        key = chance.choice(("tokenizer_file", "vocab_file", "name_or_path", "auto_map"))
        settings[key] = _ways(chance, folder, "outside/tokenizer.json")
        files[name] = json.dumps(settings).encode()
        return f"tokenizer: {key}"
    document["recipe"]["data"]["root"] = there
    document["inputs"] = {"teacher": {"path": there, "digest": "0"}}
    files["manifest.json"] = json.dumps(document).encode()
    return "evidence"


def _linked(chance: random.Random, folder: Path, bundle: Path) -> str:
    """Put a link in the place of a file or folder of the bundle."""
    paths = sorted(bundle.rglob("*"))
    path = chance.choice(paths)
    outside = folder / "outside"
    target = outside if path.is_dir() else outside / chance.choice(SECRETS)
    if path.name == "model.onnx":
        target = outside / "model.onnx"
    if path.is_dir():
        for name, content in _files(path).items():  # so that its digests stay right
            (outside / name).parent.mkdir(parents=True, exist_ok=True)
            (outside / name).write_bytes(content)
        for below in sorted(path.rglob("*"), reverse=True):
            below.rmdir() if below.is_dir() else below.unlink()
        path.rmdir()
    else:
        if chance.random() < 0.5:
            target.write_bytes(path.read_bytes())
        path.unlink()
    path.symlink_to(target if chance.random() < 0.5 else os.path.relpath(target, path.parent))
    return f"link at {path.relative_to(bundle)}"


def leaving(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Directories that name, or link to, what lies outside of them."""
    task = chance.choice(("token-classification", "text-classification"))
    files = _files(_good(stock.folder, task))
    _outside(folder, files)
    (folder / "texts.txt").write_text(TEXTS, encoding="utf-8")
    bundle = folder / "bundle"
    if chance.random() < 0.35:
        _write(files, bundle)
        told = _linked(chance, folder, bundle)
    else:
        lists_stay = (told := _named(chance, folder, files)) == "list"
        _write(files if lists_stay else _sealed(files), bundle)
    typed = tuple(word.format("bundle") for word in chance.choice(COMMANDS))
    return Case(typed, ("bundle", "out", "context"), told)


def _members(chance: random.Random, folder: Path, files: Files) -> tuple[bytes, str]:
    """A tar with members that `bundle pack` never writes."""
    kept = io.BytesIO()
    what = chance.choice(("name", "name", "symlink", "hardlink", "through", "pax", "device",
                          "long", "owner", "folder"))  # fmt: skip
    form = tarfile.PAX_FORMAT if what == "pax" else tarfile.GNU_FORMAT
    stray = f"strayed{chance.randrange(1000)}"
    name = chance.choice((
        f"../{stray}", f"bundle/../../{stray}", f"{folder}/{stray}", f"bundle//../../{stray}",
        f"bundle/a/../../../{stray}", f"/{stray}", f"bundle/..\\..\\{stray}", f"./../{stray}",
        f"bundle/C:\\{stray}", f"bundle\0/../../{stray}", f"bundle/../{stray}", stray, "bundle",
        "bundle/", "bundle/.", "bundle/..", f"bundle/~/{stray}", f"../../../../tmp/{stray}",
    ))  # fmt: skip
    members: list[tuple[tarfile.TarInfo, bytes]] = []
    for one, content in files.items():
        members.append((tarfile.TarInfo(f"bundle/{one}"), content))
    odd = tarfile.TarInfo(name)
    content = b"strayed\n"
    if what in ("symlink", "hardlink"):
        odd.name = chance.choice((f"bundle/{chance.choice(sorted(files))}", "bundle/new"))
        odd.type = tarfile.SYMTYPE if what == "symlink" else tarfile.LNKTYPE
        odd.linkname, content = _ways(chance, folder, "outside/model.onnx"), b""
        members = [(member, text) for member, text in members if member.name != odd.name]
    elif what == "through":
        link = tarfile.TarInfo("bundle/a")
        link.type, link.linkname = tarfile.SYMTYPE, chance.choice(("../..", str(folder), ".."))
        members.append((link, b""))
        odd.name = f"bundle/a/{stray}"
    elif what == "pax":
        odd.name, odd.pax_headers = "bundle/new", {"path": name.replace("\0", "")}
    elif what == "device":
        odd.name = "bundle/new"
        odd.type, odd.devmajor, odd.devminor = chance.choice(
            ((tarfile.CHRTYPE, 1, 5), (tarfile.BLKTYPE, 8, 0), (tarfile.FIFOTYPE, 0, 0))
        )
        content = b""
    elif what == "long":
        odd.name = "bundle/" + "../" * chance.choice((40, 100)) + f"tmp/{stray}"
    elif what == "owner":
        odd.name, odd.uid, odd.uname, odd.mode = "bundle/new", 0, "root", 0o6777
    elif what == "folder":
        odd.type, content = tarfile.DIRTYPE, b""
    members.append((odd, content))
    if chance.random() < 0.7:
        members.sort(key=lambda pair: pair[0].name)
    with tarfile.open(fileobj=kept, mode="w", format=form) as archive:
        for member, text in members:
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text))
    return kept.getvalue(), f"member: {what} {odd.name[:60]!r}"


def leaving_archives(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Archives whose members lead out, or that hold a bundle that does."""
    import zstandard

    from edgecompress.bundle.tarball import write_tar
    from edgecompress.bundle.zstdframe import TRAILER
    from edgecompress.errors import BundleError

    files = _files(_good(stock.folder, "token-classification"))
    _outside(folder, files)
    (folder / "texts.txt").write_text(TEXTS, encoding="utf-8")
    if chance.random() < 0.6:
        tar, told = _members(chance, folder, files)
    else:
        if chance.random() < 0.6:
            told = _named(chance, folder, files)
            files = files if told == "list" else _sealed(files)
        else:
            told = _ways(chance, folder, f"strayed{chance.randrange(1000)}")
            files[told] = b"strayed\n"
            files = _sealed(files)
        named = {f"bundle/{name}": content for name, content in files.items()}
        try:
            pieces = write_tar({k: len(v) for k, v in named.items()}, lambda name: [named[name]])
            tar = b"".join(pieces)
        except BundleError:  # a name that no such archive holds
            tar, told = _members(chance, folder, files)
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True)
    frame = packer.compress(tar)
    whole = frame + TRAILER + hashlib.sha256(frame).digest()
    (folder / "a.tar.zst").write_bytes(whole)
    typed = tuple(word.format("a.tar.zst") for word in chance.choice(OF_ARCHIVES))
    return Case(typed, ("a.tar.zst",), told)


GENERATORS = {"leaving bundles": leaving, "leaving archives": leaving_archives}
