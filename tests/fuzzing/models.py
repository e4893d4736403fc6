"""ONNX files that are broken as files, and tokenizers that are none."""

from __future__ import annotations

import json
import random
from pathlib import Path

from fuzzing.case import Case
from fuzzing.mutation import mutated, spoilt
from fuzzing.stock import TEXT, Stock


def _graph_changed(chance: random.Random, file: Path) -> str:
    """Change a field of the graph, so that the file stays a message but lies."""
    import onnx
    from onnx import TensorProto, helper

    model = onnx.load(str(file))
    graph = model.graph
    what = chance.choice(
        ("type", "dims", "shape", "operator", "domain", "loop", "twice", "external", "opset", "ir",
         "name", "attribute", "no input", "no output", "deep", "many", "raw", "function")
    )  # fmt: skip
    weight = chance.choice(list(graph.initializer))
    node = chance.choice(list(graph.node))
    entry = graph.input[0].type.tensor_type
    if what == "type":
        target = chance.choice((weight, entry))
        kind = chance.choice((0, 8, 14, 99, 2**31 - 1))
        if target is weight:
            weight.data_type = kind
        else:
            entry.elem_type = kind
    elif what == "dims":
        weight.dims[0] = chance.choice((-1, 0, 2**62, 10**9, 3))
    elif what == "shape":
        entry.shape.dim[0].dim_value = chance.choice((-1, 0, 2**62, 10**7))
    elif what == "operator":
        node.op_type = chance.choice(("", "NoSuch", "If", "Loop", "QLinearMatMul", "é" * 100))
    elif what == "domain":
        node.domain = chance.choice(("x.y", "com.microsoft", "é"))
    elif what == "loop":
        node.input[0] = graph.output[0].name
    elif what == "twice":
        node.output[0] = graph.node[0].output[0]
    elif what == "external":
        weight.data_location = TensorProto.EXTERNAL
        weight.ClearField("raw_data")
        for key, value in (
            ("location", chance.choice(("../x", "/dev/zero", "gone.bin", "", "é", "a\0b", "."))),
            ("offset", chance.choice(("0", "-1", "x", "9" * 40))),
            ("length", chance.choice(("64", "-1", "x", "9" * 40))),
        ):
            found = weight.external_data.add()
            found.key, found.value = key, value
    elif what == "opset":
        model.opset_import[0].version = chance.choice((0, -1, 3, 999, 2**62))
    elif what == "ir":
        model.ir_version = chance.choice((0, 1, 99, 2**62))
    elif what == "name":
        node.input[0] = chance.choice(("nowhere", "", "\n\x1b[31m", "a" * 5000))
    elif what == "attribute":
        node.attribute.append(helper.make_attribute("axis", chance.choice((99, -99, 2**40))))
    elif what == "no input":
        del graph.input[:]
    elif what == "no output":
        del graph.output[:]
    elif what == "deep":
        inner = graph
        for _ in range(chance.choice((30, 60))):
            attribute = inner.node.add(op_type="If", input=["x"], output=["z"]).attribute.add()
            attribute.name, attribute.type = "then_branch", 5
            inner = attribute.g
    elif what == "many":
        graph.node.extend([node] * 20_000)
    elif what == "raw":
        weight.raw_data = weight.raw_data[: chance.choice((0, 1, 33))]
    elif what == "function":
        function = model.functions.add(name=node.op_type, domain="")
        function.node.add(op_type=node.op_type, input=["a"], output=["b"])
    file.write_bytes(model.SerializeToString())
    return f"graph: {what}"


def graphs(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """ONNX files that are cut, flipped, no file at all, or a message that lies."""
    source = chance.choice((stock.numbers, stock.texts, stock.images))
    file = stock.copied(source, folder)
    told = spoilt(chance, file) if chance.random() < 0.5 else _graph_changed(chance, file)
    arguments = chance.choice((
        ("quantize", file.name, "--scheme", "dynamic", "-o", "out"),
        ("quantize", file.name, "--scheme", "weights", "-o", "out"),
        ("quantize", file.name, "--scheme", "half", "-o", "out"),
        ("sensitivity", file.name, "--parts", "layers"),
        ("profile", file.name, "--min-duration", "1ms", "--any-governor"),
    ))  # fmt: skip
    return Case(arguments, (file.name, "external data"), told)


def tokenizers(chance: random.Random, folder: Path, stock: Stock) -> Case:
    """Tokenizers given with `--tokenizer`."""
    copied = stock.copied(stock.tokenizer, folder)
    (folder / "given.txt").write_text(TEXT, encoding="utf-8")
    file = copied / chance.choice(("tokenizer.json", "tokenizer.json", "tokenizer_config.json"))
    if chance.random() < 0.35:
        told = spoilt(chance, file)
    else:
        document = json.loads(file.read_text(encoding="utf-8"))
        tree, told = mutated(chance, document, chance.choice((1, 1, 3)))
        file.write_text(json.dumps(tree), encoding="utf-8")
    if chance.random() < 0.05:
        file.write_text("[" * 100_000, encoding="utf-8")
        told = "deep"
    arguments = chance.choice((
        ("quantize", str(stock.texts), "--scheme", "static", "--data", "given.txt", "--tokenizer",
         "tokenizer", "-o", "out"),
        ("sensitivity", str(stock.texts), "--data", "given.txt", "--tokenizer", "tokenizer",
         "--parts", "layers", "--samples", "2"),
    ))  # fmt: skip
    return Case(arguments, ("tokenizer.json", "tokenizer_config.json", "given.txt"), told)


GENERATORS = {"onnx": graphs, "tokenizers": tokenizers}
