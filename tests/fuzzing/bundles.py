"""Bundles and archives of strangers: sealed anew, so that only their reading can refuse them."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fuzzing.case import Case
from fuzzing.mutation import damaged, mutated, spoilt
from fuzzing.stock import Stock

Files = dict[str, bytes]
TEXTS = "Muhammadu Buhari je Abuja\n\nIkeja\nsannu habari\n" + "ina " * 400 + "\n"
ESCAPES = "\x1b]0;owned\x07\x1b[2Jred\r\x9b31m\u202edlrow\u2028\x7f"


@functools.cache
def _good(folder: Path, task: str) -> Path:
    """Make a whole bundle once: its tokenizer, model, evidence, and all lists."""
    from lookup_models import write_candidate

    from edgecompress.bundle import write_bundle
    from edgecompress.results import Row, RunResult, Verdict
    from edgecompress.values import Measurement

    candidate = write_candidate(folder / f"candidate-{task}", task, external=True)
    metric = "f1" if task == "token-classification" else "accuracy"
    measured = (
        Measurement(metric, 0.8, "fraction", split="test", interval=(0.7, 0.9)),
        Measurement("size", 1e6, "bytes"),
    )
    row = Row("a.b", "candidate", measurements=measured)
    result = RunResult(
        name="tiny", task=task, recipe={}, rows=(row,), winner="a.b",
        verdict=Verdict("budget", "pass", "within all limits"), minimize="size", budget=(),
        environment={"host": "this machine"}, data={"digests": {"test": "00"}},
    )  # fmt: skip
    recipe = {
        "name": "tiny", "task": task, "teacher": {"model": "teacher"}, "stages": ["export"],
        "data": {"format": "tsv", "root": ".", "train": ["train.tsv"],
                 "validation": ["dev.tsv"], "test": ["test.tsv"]},
    }  # fmt: skip
    place = folder / f"bundle-{task}"
    write_bundle(
        place, candidate, recipe, {"onnxruntime": "1.23.0", "edgecompress": "0.1.0"}, result,
        "<h1>tiny</h1>", inputs={"data": {"test": {"digest": "00", "examples": 3}}},
        licences={"model": "MIT"}, code={"version": "0.1.0", "digest": "0" * 64},
    )  # fmt: skip
    return place


def _files(bundle: Path) -> Files:
    return {
        path.relative_to(bundle).as_posix(): path.read_bytes()
        for path in sorted(bundle.rglob("*"))
        if path.is_file()
    }


def _sealed(files: Files) -> Files:
    """Write both lists anew, as someone would who makes a bundle by hand."""
    lines = {
        name: f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in sorted(files.items())
        if not name.endswith((".sha256", ".sig"))
    }
    core = "".join(line for name, line in lines.items() if not name.startswith("evidence/"))
    beside = "".join(line for name, line in lines.items() if name.startswith("evidence/"))
    lists = {"core.sha256": core, "evidence.sha256": beside}
    return files | {
        name: text.encode("utf-8", "surrogateescape") for name, text in lists.items() if text
    }


def _write(files: Files, place: Path) -> None:
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def _tree(chance: random.Random, content: bytes) -> tuple[bytes, str]:
    """Change a JSON document, or its bytes."""
    if chance.random() < 0.15:
        return damaged(chance, content)
    document = json.loads(content)
    kind = chance.random()
    if kind < 0.15:
        return json.dumps(_escaped(chance, document)).encode(), "escapes"
    if kind < 0.25:
        return _large(chance, document)
    tree, told = mutated(chance, document, chance.choice((1, 1, 2)))
    return json.dumps(tree).encode("utf-8", "surrogatepass"), told


def _escaped(chance: random.Random, tree: Any) -> Any:
    """Put what steers a terminal into some of the texts of a tree."""
    if isinstance(tree, dict):
        return {
            key + (ESCAPES if chance.random() < 0.05 else ""): _escaped(chance, value)
            for key, value in tree.items()
        }
    if isinstance(tree, list):
        return [_escaped(chance, value) for value in tree]
    if isinstance(tree, str) and chance.random() < 0.5:
        return tree + ESCAPES
    return tree


def _large(chance: random.Random, document: Any) -> tuple[bytes, str]:
    """Small bytes that build much."""
    many = chance.choice((1_000_000, 8_000_000))
    piece = chance.choice(("[],", "{},", '"",', "0,", "[[]],"))
    text = "[" + piece * (many // len(piece)) + "0]"
    whole = dict(document)
    whole["recipe"] = 0
    return json.dumps(whole).replace('"recipe": 0', f'"recipe": {{"x": {text}}}').encode(), "large"


def _manifest(chance: random.Random, files: Files) -> str:
    files["manifest.json"], told = _tree(chance, files["manifest.json"])
    return f"manifest: {told}"


def _measurements(chance: random.Random, files: Files) -> str:
    name = "evidence/measurements.json"
    files[name], told = _tree(chance, files[name])
    return f"measurements: {told}"


def _sbom(chance: random.Random, files: Files) -> str:
    files["sbom.cdx.json"], told = _tree(chance, files["sbom.cdx.json"])
    return f"sbom: {told}"


def _tokenizer(chance: random.Random, files: Files) -> str:
    name = chance.choice(("tokenizer.json", "tokenizer.json", "tokenizer_config.json"))
    files[f"preprocessor/{name}"], told = _tree(chance, files[f"preprocessor/{name}"])
    return f"{name}: {told}"


def _session(chance: random.Random, files: Files) -> str:
    document = json.loads(files["manifest.json"])
    entries = [
        ("session.intra_op_num_threads", "x"), ("session.set_denormal_as_zero", "yes"),
        ("session.x64quantprecision", "-1"), ("", ""), ("a" * 2000, "b" * 5000),
        ("session.disable_prepacking", "\udcff"), ("ep.x", ESCAPES),
        ("session.intra_op_thread_affinities", "99999"), ("session.use_env_allocators", "2"),
        ("session.intra_op.allow_spinning", "2"), ("optimization.enable_gelu_approximation", "z"),
        ("session.intra_op_thread_affinities", "1;1"), ("memory.arena_shrinkage", "x"),
    ]  # fmt: skip
    document["session"]["config_entries"] = [
        list(chance.choice(entries)) for _ in range(chance.choice((1, 2, 300)))
    ]
    if chance.random() < 0.4:
        document["session"]["disabled_optimizers"] = [
            chance.choice(("NoSuch", "", "a" * 4000, ESCAPES, "ConstantFolding")) for _ in range(3)
        ]
    files["manifest.json"] = json.dumps(document).encode("utf-8", "surrogatepass")
    return "session"


def _model(chance: random.Random, files: Files) -> str:
    """Put a model in the place that answers in another shape or type, or takes other inputs."""
    labels = len(json.loads(files["manifest.json"])["labels"])
    content, told = odd_model(chance, labels)
    for name in [name for name in files if name.startswith("model.onnx")]:
        del files[name]
    files["model.onnx"] = content
    return f"model: {told}"


def odd_model(chance: random.Random, labels: int) -> tuple[bytes, str]:
    """Give a model of token ids whose logits are odd."""
    from onnx import TensorProto, helper, numpy_helper

    value, node = helper.make_tensor_value_info, helper.make_node
    inputs = [value("input_ids", TensorProto.INT64, ["b", "l"])]
    told = chance.choice(
        ("rank", "rank", "count", "constant", "type", "text", "sequence", "nan", "fails", "inputs",
         "empty", "no batch", "no output", "swapped", "huge", "map")
    )  # fmt: skip
    table = numpy_helper.from_array(np.ones((400, labels), np.float32), "table")
    nodes = [node("Gather", ["table", "input_ids"], ["found"])]
    weights, kind, name = [table], TensorProto.FLOAT, chance.choice(("logits", "logits", "y"))
    output: Any = None
    if told == "rank":
        rank = chance.choice((0, 1, 2, 4, 5))
        if rank == 0:
            nodes.append(node("ReduceSum", ["found"], [name], keepdims=0))
        else:
            shape = [1] * (rank - 1) + [-1]
            weights.append(numpy_helper.from_array(np.array(shape, np.int64), "shape"))
            nodes.append(node("Reshape", ["found", "shape"], [name]))
        told = f"rank {rank}"
    elif told == "count":
        wide = np.ones((400, chance.choice((1, labels + 1, max(labels - 1, 1), 3000))), np.float32)
        weights[0] = numpy_helper.from_array(wide, "table")
        nodes.append(node("Identity", ["found"], [name]))
    elif told == "constant":
        shape = tuple(chance.choice((0, 1, 2, labels, 7)) for _ in range(chance.randrange(4)))
        weights.append(numpy_helper.from_array(np.zeros(shape, np.float32), "c"))
        nodes.append(node("Identity", ["c"], [name]))
        told = f"constant {shape}"
    elif told == "type":
        kind = chance.choice(
            (TensorProto.INT64, TensorProto.BOOL, TensorProto.DOUBLE, TensorProto.FLOAT16,
             TensorProto.UINT8, TensorProto.BFLOAT16)
        )  # fmt: skip
        nodes.append(node("Cast", ["found"], [name], to=kind))
    elif told == "text":
        kind = TensorProto.STRING
        nodes.append(node("Cast", ["found"], [name], to=kind))
    elif told == "sequence":
        nodes.append(node("SplitToSequence", ["found"], [name], axis=0))
        output = helper.make_tensor_sequence_value_info(name, TensorProto.FLOAT, None)
    elif told == "nan":
        bad = np.full((400, labels), chance.choice((np.nan, np.inf, -np.inf)), np.float32)
        weights[0] = numpy_helper.from_array(bad, "table")
        nodes.append(node("Identity", ["found"], [name]))
    elif told == "fails":
        weights[0] = numpy_helper.from_array(np.ones((1, labels), np.float32), "table")
        nodes.append(node("Identity", ["found"], [name]))
    elif told == "inputs":
        extra = chance.choice(("attention_mask", "pixel_values", "position_ids", ESCAPES, "past"))
        kind_in = chance.choice((TensorProto.FLOAT, TensorProto.INT32, TensorProto.STRING, 7))
        shape_in = chance.choice((["b", "l"], [], [3, 5], ["b"], ["b", "l", "x"], [1, 7], None))
        inputs.append(value(extra, kind_in, shape_in))
        nodes.append(node("Identity", ["found"], [name]))
    elif told == "empty":
        nodes.append(node("Slice", ["found", "zero", "zero", "axis"], [name]))
        weights.append(numpy_helper.from_array(np.array([0]), "zero"))
        weights.append(numpy_helper.from_array(np.array([chance.randrange(3)]), "axis"))
    elif told == "no batch":
        nodes.append(node("ReduceSum", ["found", "axes"], [name], keepdims=0))
        weights.append(numpy_helper.from_array(np.array(chance.choice(([0], [1], [0, 1]))), "axes"))
    elif told == "swapped":
        nodes.append(
            node("Transpose", ["found"], [name], perm=chance.choice(([1, 0, 2], [2, 1, 0])))
        )
    elif told == "huge":
        weights.append(numpy_helper.from_array(np.array([20_000, 20_000, 1]), "many"))
        nodes.append(node("Expand", ["found", "many"], [name]))
    elif told == "map":
        zipped = node("ZipMap", ["f"], [name], domain="ai.onnx.ml", classlabels_int64s=[1, 2])
        nodes = [node("Cast", ["input_ids"], ["f"], to=1), zipped]
        weights = []
        item = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, None))
        output = helper.make_value_info(name, helper.make_sequence_type_proto(item))
    else:
        nodes.append(node("Identity", ["found"], ["other"]))
        name = "nowhere"
    output = output or value(name, kind, None)
    graph = helper.make_graph(nodes, "g", inputs, [output], weights)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString(), told


CHANGES: tuple[Callable[[random.Random, Files], str], ...] = (
    _manifest, _manifest, _measurements, _sbom, _tokenizer, _tokenizer, _session, _model, _model,
)  # fmt: skip


def bundles(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Directories whose lists are right and whose files are not."""
    task = chance.choice(("token-classification", "text-classification"))
    good = _good(stock.folder, task)
    files = _files(good)
    told = chance.choice(CHANGES)(chance, files)
    if chance.random() < 0.3:
        with contextlib.suppress(
            ValueError, TypeError, LookupError
        ):  # of a file that is no JSON now
            told += f"; {chance.choice(CHANGES)(chance, files)}"
    _write(_sealed(files), folder / "bundle")
    (folder / "texts.txt").write_text(TEXTS, encoding="utf-8")
    arguments = chance.choice((
        ("predict", "bundle", "Muhammadu Buhari je Abuja", "", "ina " * 50),
        ("predict", "bundle", "--input", "texts.txt", "--json", "--threads", "1"),
        ("predict", "bundle", "--input", "texts.txt", "--batch", "3", "--threads", "1"),
        ("bundle", "show", "bundle"),
        ("bundle", "show", "bundle", "--json"),
        ("bundle", "verify", "bundle"),
        ("bundle", "diff", str(good), "bundle"),
        ("bundle", "diff", "bundle", str(good), "--data", "texts.txt", "--threads", "1"),
        ("bundle", "diff", "bundle", str(good), "--json"),
        ("bundle", "pack", "bundle", "-o", "out.tar.zst"),
        ("image", "bundle", "--context-only", "context"),
    ))  # fmt: skip
    return Case(arguments, ("bundle", "out", "context"), told)


def damaged_bundles(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Directories of which a file was damaged, and nobody sealed them again."""
    place = folder / "bundle"
    shutil.copytree(_good(stock.folder, "token-classification"), place)
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    told = spoilt(chance, chance.choice(files))
    arguments = chance.choice((
        ("predict", "bundle", "Abuja"),
        ("predict", "bundle", "Abuja", "--no-verify"),
        ("bundle", "show", "bundle"),
        ("bundle", "verify", "bundle"),
        ("bundle", "diff", "bundle", "bundle", "--no-verify"),
        ("bundle", "pack", "bundle", "-o", "out.tar.zst"),
    ))  # fmt: skip
    return Case(arguments, ("bundle", "out"), told)


def archives(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Archives: damaged, of strange members, or small ones that hold much."""
    import zstandard

    from edgecompress.bundle.tarball import write_tar
    from edgecompress.bundle.zstdframe import TRAILER

    files = _files(_good(stock.folder, "token-classification"))
    what = chance.choice(("content", "tar", "frame", "list", "zeros", "members", "manifest"))
    if what == "content":
        chance.choice(CHANGES)(chance, files)
        files = _sealed(files)
    elif what == "manifest":
        files["manifest.json"], _ = _large(chance, json.loads(files["manifest.json"]))
        files = _sealed(files)
    elif what == "list":
        line = b"0" * 64 + b"  " + chance.choice((b"a", b"model.onnx", b"")) + b"\n"
        files["core.sha256"] = line * chance.choice((1000, 300_000))
    elif what == "zeros":
        name = chance.choice(("preprocessor/tokenizer.json", "preprocessor/tokenizer_config.json",
                              "sbom.cdx.json", "evidence/measurements.json", "core.sha256",
                              "manifest.json", "model.onnx"))  # fmt: skip
        files[name] = chance.choice((b"0", b" ", b"[")) * chance.choice((10**6, 60 * 10**6))
        files = files if name == "core.sha256" else _sealed(files)
    elif what == "members":
        for number in range(chance.choice((10, 1200))):
            name = chance.choice((f"extra/{number}", f"é{number}", f"A{number % 3}", f"a/{number}"))
            files[name] = b""
        files = _sealed(files)
    named = {f"bundle/{name}": content for name, content in files.items()}
    tar = b"".join(write_tar({k: len(v) for k, v in named.items()}, lambda name: [named[name]]))
    if what == "tar":
        tar, _ = damaged(chance, tar)
    packer = zstandard.ZstdCompressor(level=3, write_checksum=True, write_content_size=True)
    frame = packer.compress(tar)
    if what == "frame":
        frame, _ = damaged(chance, frame)
    whole = frame + TRAILER + hashlib.sha256(frame).digest()
    if chance.random() < 0.1:
        whole, _ = damaged(chance, whole)
    (folder / "a.tar.zst").write_bytes(whole)
    arguments = chance.choice((
        ("bundle", "unpack", "a.tar.zst", "-o", "out"),
        ("bundle", "show", "a.tar.zst"),
        ("bundle", "verify", "a.tar.zst"),
        ("bundle", "diff", "a.tar.zst", "a.tar.zst"),
    ))  # fmt: skip
    return Case(arguments, ("a.tar.zst",), what)


GENERATORS = {
    "archives": archives,
    "bundles": bundles,
    "damaged bundles": damaged_bundles,
}
