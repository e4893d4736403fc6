"""Small graphs that 8 bits get wrong unless they are told: by kind, and at random within each kind.

Nothing of edgecompress is used to make or to judge them. A case knows which parts of its outputs
belong together (boxes, scores, a channel), because an error that is small beside the boxes can be
as large as every score.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT, BOOL = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
LARGEST_ERROR = 0.5
"""Root mean square of a part's error over its standard deviation (of what hardly varies: over a
twentieth of the largest deviation of its output)."""
SAMPLES = 6
Array = np.ndarray[Any, Any]
Feed = dict[str, Array]
node, value = helper.make_node, helper.make_tensor_value_info


def answer(rank: int) -> Any:
    """Give the output `y`, all its axes open."""
    return value("y", FLOAT, list("nabc")[:rank])


@dataclass(frozen=True)
class Case:
    """A model on disk, what to calibrate with, and on what to judge it.

    `parts` are masks over the first output of a sample without its batch axis; `refused` says that
    the only right answer is a refusal. `decoy` is a working directory in which other bytes lie.
    """

    kind: str
    model: Path
    calibration: Path
    feeds: Sequence[Feed]
    parts: Sequence[Callable[[Array], Array]] = (lambda y: y,)
    refused: bool = False
    decoy: Path | None = None


@dataclass
class Parts:
    """A graph that is being made, its numbers drawn at random."""

    rng: np.random.Generator
    nodes: list[Any] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def constant(self, name: str, array: Any) -> str:
        self.tensors.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def weight(self, name: str, *shape: int, scale: float = 1.0) -> str:
        size = scale / np.sqrt(np.prod(shape[1:]) or 1)
        return self.constant(name, (self.rng.standard_normal(shape) * size).astype(np.float32))

    def add(self, op: str, inputs: Sequence[str], out: str, **given: Any) -> str:
        self.nodes.append(node(op, list(inputs), [out], name=f"{out}_{op}", **given))
        return out

    def save(self, file: Path, inputs: Sequence[Any], outputs: Sequence[Any], **how: Any) -> None:
        graph = helper.make_graph(self.nodes, "odd", inputs, outputs, self.tensors)
        opset = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=9)
        onnx.save_model(model, str(file), **how)


def _finished(kind: str, folder: Path, feeds: Sequence[Feed], **more: Any) -> Case:
    calibration = folder / "calibration.npz"
    np.savez(calibration, **{n: np.concatenate([f[n] for f in feeds]) for n in feeds[0]})
    return Case(kind, folder / "model.onnx", calibration, feeds, **more)


def mask_table(rng: np.random.Generator, folder: Path) -> Case:
    """Attention whose mask, or bias with a mask in it, is looked up, or joined to an input."""
    made, long, wide = Parts(rng), 12, 32
    hidden = rng.choice([-np.inf, -1e9, np.finfo(np.float32).min, -65504.0, -1e4])
    mask = np.triu(np.full((long, long), hidden), 1)
    if rng.random() < 0.5:  # a relative bias beside the mask
        mask = np.where(mask == 0, rng.standard_normal(mask.shape), mask)
    made.weight("words", 50, wide)
    made.constant("mask", mask.astype(np.float32))
    made.add("Gather", ["words", "x"], "e")
    made.add("MatMul", ["e", made.weight("wq", wide, wide)], "q")
    made.add("Transpose", ["e"], "k", perm=[0, 2, 1])
    made.add("MatMul", ["q", "k"], "scores")
    made.add("Gather", ["mask", "p"], "rows")
    if rng.random() < 0.5:
        made.add("Transpose", ["rows"], "turned", perm=[0, 2, 1])
        made.add("Transpose", ["turned"], "rows_again", perm=[0, 2, 1])
    else:
        made.add("Identity", ["rows"], "rows_again")
    made.add("Add", ["scores", "rows_again"], "masked")
    made.add("Softmax", ["masked"], "shares", axis=-1)
    mixed = made.add("MatMul", ["shares", "e"], "mixed")
    if rng.random() < 0.5:  # masked values reach a layer's input, where its weights are 0
        joined = made.add("Concat", [mixed, "rows_again"], "both", axis=-1)
        weight = np.concatenate([rng.standard_normal((wide, 8)) / 6, np.zeros((long, 8))])
        safe = made.add("Max", [joined, made.constant("least", np.float32(-1e9))], "safe")
        mixed = made.add("MatMul", [safe, made.constant("last", weight.astype(np.float32))], "out")
    made.add("Identity", [mixed], "y")
    made.save(
        folder / "model.onnx",
        [value("x", INT, ["n", long]), value("p", INT, ["n", long])],
        [answer(3)],
    )
    place = np.arange(long)[None]
    feeds = [{"x": rng.integers(0, 50, (1, long)), "p": place} for _ in range(SAMPLES)]
    return _finished("mask_table", folder, feeds)


def joined_outputs(rng: np.random.Generator, folder: Path) -> Case:
    """A detection head: boxes in pixels beside scores, joined on one of several axes."""
    made, classes = Parts(rng), int(rng.integers(1, 12))
    pixels = float(rng.choice([40, 150, 600]))
    made.add("Conv", ["x", made.weight("w", 12, 3, 3, 3), made.weight("b", 12)], "a")
    made.add("Relu", ["a"], "f")
    made.add("Conv", ["f", made.weight("wb", 4, 12, 1, 1, scale=pixels)], "boxes")
    made.add("Conv", ["f", made.weight("wc", classes, 12, 1, 1, scale=3)], "logits")
    made.add("Sigmoid", ["logits"], "scores")
    order = ["boxes", "scores"] if rng.random() < 0.7 else ["scores", "boxes"]
    form = rng.choice(["channels", "last", "turned after", "cut apart"])
    if form == "last":
        for name, width in (("boxes", 4), ("scores", classes)):
            shape = made.constant(f"{name}_shape", np.array([0, width, -1]))
            made.add("Reshape", [name, shape], f"{name}_flat")
            made.add("Transpose", [f"{name}_flat"], f"{name}_last", perm=[0, 2, 1])
        made.add("Concat", [f"{name}_last" for name in order], "y", axis=2)
    elif form == "channels":
        made.add("Concat", order, "y", axis=1)
    else:
        made.add("Concat", order, "joined", axis=1)
        if form == "turned after":
            shape = made.constant("shape", np.array([0, 4 + classes, -1]))
            made.add("Reshape", ["joined", shape], "flat")
            made.add("Transpose", ["flat"], "y", perm=[0, 2, 1])
        else:  # joined for a while, and scaled apart
            sizes = np.array([4, classes] if order[0] == "boxes" else [classes, 4])
            outs = [f"{name}_part" for name in order]
            cut = ["joined", made.constant("sizes", sizes)]
            made.nodes.append(node("Split", cut, outs, name="cut", axis=1))
            less = made.constant("less", np.float32(1 / pixels))
            made.add("Mul", ["boxes_part", less], "boxes_small")
            made.add("Concat", ["boxes_small", "scores_part"], "y", axis=1)
            order = ["boxes", "scores"]
    size = 8
    made.save(
        folder / "model.onnx",
        [value("x", FLOAT, ["n", 3, size + 2, size + 2])],
        [answer(3 if form in {"last", "turned after"} else 4)],
    )
    first = 4 if order[0] == "boxes" else classes
    last = form in {"last", "turned after"}
    parts = [
        lambda y: y[..., :first] if last else y[:first],
        lambda y: y[..., first:] if last else y[first:],
    ]
    shape = (1, 3, size + 2, size + 2)
    feeds = [{"x": rng.standard_normal(shape).astype(np.float32)} for _ in range(SAMPLES)]
    return _finished("joined_outputs", folder, feeds, parts=parts)


def biases(rng: np.random.Generator, folder: Path) -> Case:
    """Convolutions and Gemms with channels of no or tiny weights and a bias that matters."""
    made, outputs = Parts(rng), 12
    form = rng.choice(["plain", "depthwise", "one axis", "gemm"])
    inputs = outputs if form == "depthwise" else 6
    inner = {"plain": (3, 3), "depthwise": (3, 3), "one axis": (3,), "gemm": ()}[form]
    shape = (outputs, 1 if form == "depthwise" else inputs, *inner)
    weight = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
    scale = rng.choice([1.0, 255.0])
    bias = rng.standard_normal(outputs) * scale
    odd = rng.choice(outputs, 4, replace=False)
    for channel in odd:
        weight[channel] *= rng.choice([0, 1e-12, 1e-9, 1e-7])
        bias[channel] = rng.choice([-1, 1]) * scale * rng.uniform(0.5, 2)
    made.constant("w", weight.astype(np.float32))
    made.constant("b", bias.astype(np.float32))
    if form == "gemm":
        made.add("Gemm", ["x", "w", "b"], "a", transB=1)
    else:
        made.add("Conv", ["x", "w", "b"], "a", group=inputs if form == "depthwise" else 1)
    made.add("Relu" if rng.random() < 0.5 else "Identity", ["a"], "y")
    sizes = [9] * len(inner)
    given = value("x", FLOAT, ["n", inputs, *sizes])
    made.save(folder / "model.onnx", [given], [answer(2 + len(inner))])
    draw: Callable[..., Array] = rng.standard_normal if scale == 1 else rng.random
    feeds = [{"x": (draw((1, inputs, *sizes)) * scale).astype(np.float32)} for _ in range(SAMPLES)]
    parts = [lambda y: y, *((lambda y, c=int(c): y[c]) for c in odd)]
    return _finished("biases", folder, feeds, parts=parts)


def tables(rng: np.random.Generator, folder: Path) -> Case:
    """Tables that are looked up and are no embeddings, or whose rows or columns differ widely."""
    made, rows, wide = Parts(rng), 400, 16
    made.weight("words", rows, wide)
    made.add("Gather", ["words", "x"], "e")
    form = rng.choice(["angles", "exponents", "counts", "rows", "columns", "ordinary"])
    table = rng.standard_normal((rows, wide))
    if form == "angles":
        table = np.outer(np.arange(rows) * 5, 1 / 10000 ** (np.arange(wide) / wide))
    elif form == "exponents":
        table = rng.uniform(-12, 4, (rows, wide))
    elif form == "counts":
        table = np.arange(rows)[:, None] * np.ones(wide)
    elif form == "rows":
        table *= 10 ** rng.uniform(-3, 2, (rows, 1))
    elif form == "columns":
        table *= 10 ** rng.uniform(-4, 2, (1, wide))
    made.constant("table", table.astype(np.float32))
    made.add("Gather", ["table", "p"], "r")
    if form == "angles":
        if rng.random() < 0.5:
            made.add("Concat", ["r", "r"], "twice", axis=-1)
            starts = [made.constant(n, np.array([v])) for n, v in (("s", 0), ("t", wide), ("u", 2))]
            made.add("Slice", ["twice", *starts], "r_again")
        else:
            made.add("Identity", ["r"], "r_again")
        made.add(str(rng.choice(["Cos", "Sin"])), ["r_again"], "f")
    elif form == "exponents":
        made.add("Exp", ["r"], "f")
    elif form == "counts":
        made.add("Cast", ["r"], "whole", to=INT)
        made.add("Mod", ["whole", made.constant("two", np.int64(2))], "odd_or_not")
        made.add("Cast", ["odd_or_not"], "f", to=FLOAT)
    elif form == "rows":
        made.add("LayerNormalization", ["r", made.constant("g", np.ones(wide, np.float32))], "f",
                 axis=-1, epsilon=1e-12)  # fmt: skip
    elif form == "columns":
        size = made.constant("size", (1 / np.abs(table).max(axis=0)).astype(np.float32))
        made.add("Mul", ["r", size], "f")
    else:
        made.add("Identity", ["r"], "f")
    made.add("Mul", ["e", "f"], "product")
    made.add("MatMul", ["product", made.weight("w", wide, wide)], "y")
    given = [value(name, INT, ["n", "s"]) for name in ("x", "p")]
    made.save(folder / "model.onnx", given, [answer(3)])
    feeds = [{n: rng.integers(0, rows, (1, 20)) for n in ("x", "p")} for _ in range(SAMPLES)]
    return _finished("tables", folder, feeds)


def transposed(rng: np.random.Generator, folder: Path) -> Case:
    """Square weights behind Transposes that swap their axes, or do not."""
    made, wide = Parts(rng), 32
    made.weight("w", wide, wide)
    name = "w"
    for number in range(int(rng.integers(1, 4))):
        perm = [[0, 1], [1, 0]][int(rng.integers(2))]
        name = made.add("Transpose", [name], f"w{number}", perm=perm)
    if rng.random() < 0.5:
        made.add("MatMul", ["x", name], "h")
    else:
        made.add("Gemm", ["x", name], "h", transB=int(rng.integers(2)))
    made.add("Relu", ["h"], "y")
    given = [value("x", FLOAT, ["n", wide])]
    made.save(folder / "model.onnx", given, [answer(2)])
    feeds = [{"x": rng.standard_normal((1, wide)).astype(np.float32)} for _ in range(SAMPLES)]
    return _finished("transposed", folder, feeds)


def long_sums(rng: np.random.Generator, folder: Path) -> Case:
    """Sums of so many products of one sign that 32 bits do not hold them."""
    made, long, outputs = Parts(rng), int(rng.integers(70_000, 140_000)), 4
    signs = np.array([1, -1, 1, -1])[:, None]
    weight = (signs * rng.uniform(0.8, 1.0, (outputs, long)) / long).astype(np.float32)
    conv = rng.random() < 0.4
    if conv:
        made.constant("w", weight[..., None])
        made.add("Conv", ["x", "w"], "y")
    else:
        made.constant("w", weight.T.copy())
        made.add(str(rng.choice(["MatMul", "Gemm"])), ["x", "w"], "y")
    shape = (1, long, 2) if conv else (1, long)
    given = [value("x", FLOAT, ["n", *shape[1:]])]
    made.save(folder / "model.onnx", given, [answer(3 if conv else 2)])
    feeds = [{"x": rng.uniform(0.9, 1.0, shape).astype(np.float32)} for _ in range(2)]
    return _finished("long_sums", folder, feeds)


def external(rng: np.random.Generator, folder: Path) -> Case:
    """Weights in another file that attributes and inner graphs name, and a decoy elsewhere."""
    wide, made = 48, Parts(rng)

    def inner(name: str, *, constant: bool) -> Any:
        weight = numpy_helper.from_array(
            (rng.standard_normal((wide, wide)) / 7).astype(np.float32), f"{name}_w"
        )
        nodes = [node("MatMul", ["a", f"{name}_w"], [f"{name}_y"], name=f"{name}_product")]
        if constant:
            nodes.insert(0, node("Constant", [], [f"{name}_w"], value=weight))
        out = [value(f"{name}_y", FLOAT, ["n", wide])]
        return helper.make_graph(nodes, name, [], out, [] if constant else [weight])

    first = numpy_helper.from_array((rng.standard_normal((wide, wide)) / 7).astype(np.float32), "w")
    if rng.random() < 0.6:
        made.nodes.append(node("Constant", [], ["w"], value=first))
    else:
        made.tensors.append(first)
    made.add("MatMul", ["x", "w"], "a")
    if rng.random() < 0.7:
        made.add("ReduceSum", ["a"], "total", keepdims=0)
        made.add("Cast", ["total"], "chosen", to=BOOL)
        branches = {f"{n}_branch": inner(n, constant=rng.random() < 0.5) for n in ("then", "else")}
        made.nodes.append(node("If", ["chosen"], ["y"], name="either", **branches))
    else:
        made.add("Relu", ["a"], "y")
    place = folder / "model"
    decoy = folder / "elsewhere"
    place.mkdir()
    decoy.mkdir()
    made.save(
        place / "model.onnx",
        [value("x", FLOAT, ["n", wide])],
        [value("y", FLOAT, ["n", wide])],
        save_as_external_data=True, location="weights.bin", size_threshold=100,
        convert_attribute=True,
    )  # fmt: skip
    np.zeros(4 * wide * wide, np.float32).tofile(decoy / "weights.bin")
    trick = rng.choice(["", "", "", "link", "above", "absolute"])
    data = place / "weights.bin"
    if trick:
        outside = folder / "outside.bin"
        data.rename(outside)
        if trick == "link":
            data.symlink_to(outside)
        else:
            _rename_data(
                place / "model.onnx", str(outside) if trick == "absolute" else "../outside.bin"
            )
    feeds = [{"x": rng.standard_normal((1, wide)).astype(np.float32)} for _ in range(SAMPLES)]
    case = _finished("external", folder, feeds, decoy=decoy, refused=bool(trick))
    return Case(**{**vars(case), "model": place / "model.onnx"})


def _rename_data(file: Path, location: str) -> None:
    model = onnx.load(file, load_external_data=False)
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        tensors = list(graph.initializer)
        for made in graph.node:
            for found in made.attribute:
                tensors += [found.t] if found.HasField("t") else []
                graphs += [found.g] if found.HasField("g") else []
        for tensor in tensors:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
    file.write_bytes(model.SerializeToString())


KINDS: dict[str, Callable[[np.random.Generator, Path], Case]] = {
    made.__name__: made
    for made in (mask_table, joined_outputs, biases, tables, transposed, long_sums, external)
}
SCHEMES: dict[str, tuple[str, dict[str, Any]]] = {
    "dynamic": ("quantize.dynamic", {}),
    "dynamic, tables of 4 bits": ("quantize.dynamic", {"embedding_bits": 4}),
    "static": ("quantize.static", {}),
    "static, one scale": ("quantize.static", {"per_channel": False}),
    "weights of 4 bits": ("quantize.weights", {}),
    "weights of 8 bits": ("quantize.weights", {"linear_bits": 8, "embedding_bits": 8}),
    "fp16": ("quantize.half", {}),
    "bf16": ("quantize.half", {"dtype": "bf16"}),
}
"""Stage and fields of each scheme that takes any graph."""


def cases(kind: str, count: int, folder: Path, start: int = 0) -> Iterator[Case]:
    """Make `count` cases of a kind, each in a folder of its own."""
    for seed in range(start, start + count):
        place = folder / f"{kind}-{seed}"
        place.mkdir(parents=True)
        yield KINDS[kind](np.random.default_rng([seed, *kind.encode()]), place)


def answers(model: Path, feeds: Sequence[Feed]) -> list[Array]:
    """Give the first output for each sample."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    here = Path.cwd()
    os.chdir(model.parent)
    try:
        session = ort.InferenceSession(model.name, options, providers=["CPUExecutionProvider"])
        names = {each.name for each in session.get_inputs()}
        return [session.run(None, {n: v for n, v in f.items() if n in names})[0] for f in feeds]
    finally:
        os.chdir(here)


def wrong(case: Case, made: Path) -> str:
    """Say what is wrong with the answers of a quantized model; empty: nothing."""
    before, after = (np.concatenate(answers(m, case.feeds)) for m in (case.model, made))
    if not np.isfinite(after[np.isfinite(before)]).all():
        return "not finite"
    whole = float(np.nanmax(np.abs(before - before.mean())))
    for number, part in enumerate(case.parts):
        x, y = (np.stack([part(one) for one in each]) for each in (before, after))
        scale = max(float(x.std()), whole / 20)
        if len(case.parts) > 1 and case.kind == "joined_outputs":
            scale = float(x.std())
        error = float(np.sqrt(np.mean(np.square(x.astype(np.float64) - y)))) / scale
        if not error < LARGEST_ERROR:
            return f"part {number}: error {error:.2f}"
    return ""
