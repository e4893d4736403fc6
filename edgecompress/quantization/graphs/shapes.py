"""Work out what a convolutional graph computes of its own shapes, and pad inside convolutions.

An export of TensorFlow's «same» padding asks each tensor for its height and width at run time and
pads in front of the convolution: a dozen small nodes each, and a Pad in fp32 that cuts a chain of
integers. Where the graph's input has a fixed height and width all of that is constant. A batch may
stay open: what depends on it stays as it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper, shape_inference

from edgecompress.models.storage import StoredModel, read_model, write_model
from edgecompress.quantization.graphs.layers import attributes, names_read
from edgecompress.values import OnnxModel

Array = np.ndarray[Any, Any]

SMALL = 4096
"""Values of a tensor that is worked out here: shapes and amounts of padding, and no weights."""
ARITHMETIC = frozenset(
    {"Add", "Cast", "Ceil", "Concat", "ConstantOfShape", "Div", "Equal", "Floor", "Gather", "Max",
     "Min", "Mod", "Mul", "Neg", "Reshape", "Slice", "Squeeze", "Sub", "Transpose", "Unsqueeze",
     "Where"}
)  # fmt: skip
"""Operators that are worked out where all their inputs are known."""
SPATIAL = 2  # axes before height and width: batch and channels


def with_known_shapes(
    source: OnnxModel, stored: StoredModel, folder: Path
) -> tuple[OnnxModel, StoredModel]:
    """Give a model without what it computes of its own shapes; the file lies in `folder`.

    A graph in which there is nothing to fold is given back as it is.
    """
    if not fold_shapes(stored):
        return source, stored
    folder.mkdir(parents=True, exist_ok=True)
    made = OnnxModel(folder / source.path.name, source.session)
    write_model(stored, made.path)
    return made, read_model(made.path)


def fold_shapes(model: StoredModel) -> bool:
    """Fold what can be folded, where there are convolutions; `model` is changed in place.

    Returns
    -------
    bool
        Whether anything was changed.
    """
    operators = {node.op_type for node in model.proto.graph.node}
    folded = False
    changed = "Conv" in operators and bool(operators & {"Pad", "ReduceMean"})
    while changed:
        sizes = _sizes(model)
        changed = _fold_constants(model, sizes)
        changed |= _fold_pads(model)
        changed |= _pool(model, sizes)
        _drop_unread(model)
        folded |= changed
    return folded


def _sizes(model: StoredModel) -> dict[str, tuple[int | None, ...]]:
    """Give the shapes of tensors as far as ONNX's inference knows them."""
    inferred = shape_inference.infer_shapes(model.proto).graph
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") and dim.dim_value >= 0 else None
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }


def _fold_constants(model: StoredModel, sizes: Mapping[str, tuple[int | None, ...]]) -> bool:
    """Replace nodes whose result is known by Constant nodes."""
    graph = model.proto.graph
    known = _known(model)
    asked: dict[str, tuple[int | None, ...]] = {}  # what Shape nodes give, as far as it is known
    opsets = [one for one in model.proto.opset_import if one.domain in ("", "ai.onnx")]
    changed = False
    for place, node in enumerate(graph.node):
        found = None
        if node.op_type == "Shape" and node.input[0] in sizes:
            given = attributes(node)
            shape = sizes[node.input[0]][given.get("start", 0) : given.get("end")]
            asked[node.output[0]] = shape
            found = _whole(shape)
        elif node.op_type == "Gather" and node.input[0] in asked and node.input[1] in known:
            shape, index = asked[node.input[0]], known[node.input[1]]
            inside = ((-len(shape) <= index) & (index < len(shape))).all()
            picked = [shape[one] for one in index.ravel()] if inside else [None]
            whole = _whole(picked)
            found = None if whole is None else whole.reshape(index.shape)
        elif node.op_type in ARITHMETIC and all(n in known for n in node.input if n):
            found = _worked_out(node, known, opsets)
        if found is not None and found.size <= SMALL:
            name = node.output[0]
            known[name] = found
            made = helper.make_node(
                "Constant", [], [name], node.name, value=numpy_helper.from_array(found)
            )
            graph.node[place].CopyFrom(made)
            changed = True
    return changed


def _known(model: StoredModel) -> dict[str, Array]:
    """Give the values of small constants, by name."""
    graph = model.proto.graph
    known: dict[str, Array] = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if tensor.name not in model.places and np.prod(tensor.dims, dtype=int) <= SMALL
    }
    constants = [node for node in graph.node if node.op_type == "Constant"]
    known |= {node.output[0]: value for node in constants if (value := _constant(node)) is not None}
    return known


def _whole(sizes: Any) -> Array | None:
    return None if any(size is None for size in sizes) else np.array(sizes, np.int64)


def _constant(node: NodeProto) -> Array | None:
    """Give the values of a small Constant node, of any spelling but those of texts."""
    given = attributes(node)
    value = given.get("value")
    if isinstance(value, TensorProto):
        small = np.prod(value.dims, dtype=int) <= SMALL
        known = value.data_type != TensorProto.STRING and not value.external_data
        return numpy_helper.to_array(value) if small and known else None
    for key, dtype in (("value_int", np.int64), ("value_ints", np.int64),
                       ("value_float", np.float32), ("value_floats", np.float32)):  # fmt: skip
        if key in given:
            return np.array(given[key], dtype)
    return None


def _worked_out(node: NodeProto, known: Mapping[str, Array], opsets: Any) -> Array | None:
    """Compute a node by ONNX's own definition of it."""
    from onnx.reference import ReferenceEvaluator

    feed = {name: known[name] for name in node.input if name}
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in feed.items()
    ]
    result = helper.make_empty_tensor_value_info(node.output[0])
    graph = helper.make_graph([node], "one", inputs, [result])
    try:
        evaluator = ReferenceEvaluator(helper.make_model(graph, opset_imports=opsets))
        (found,) = evaluator.run(None, feed)
    except Exception:  # noqa: BLE001 - what it cannot work out stays as it is
        return None
    return np.asarray(found) if len(node.output) == 1 else None


def _fold_pads(model: StoredModel) -> bool:
    """Let convolutions pad with zeros themselves."""
    graph = model.proto.graph
    known = _known(model)
    makers = {name: node for node in graph.node for name in node.output}
    readers = Counter(name for node in graph.node for name in names_read([node]))
    readers.update(value.name for value in graph.output)
    changed = False
    for node in graph.node:
        pad = makers.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or pad.op_type != "Pad" or readers[pad.output[0]] != 1:
            continue
        amounts = _zeros(pad, known)
        given = attributes(node)
        own = list(given.get("pads", ()))
        if amounts is None or given.get("auto_pad", b"NOTSET") not in (b"NOTSET", b"VALID"):
            continue
        rank = len(amounts) // 2
        begins, ends = amounts[SPATIAL:rank], amounts[rank + SPATIAL :]
        outer = [*amounts[:SPATIAL], *amounts[rank : rank + SPATIAL]]
        both = [*begins, *ends]
        if any(outer) or min(both, default=0) < 0:
            continue
        own = own or [0] * len(both)
        kept = [one for one in node.attribute if one.name not in ("pads", "auto_pad")]
        del node.attribute[:]
        node.attribute.extend(kept)
        pads = [a + b for a, b in zip(own, both, strict=True)]
        node.attribute.append(helper.make_attribute("pads", pads))
        node.input[0] = pad.input[0]
        changed = True
    return changed


def _zeros(pad: NodeProto, known: Mapping[str, Array]) -> list[int] | None:
    """Give how much a Pad adds before and behind each axis, where it adds zeros."""
    given = attributes(pad)
    if given.get("mode", b"constant") != b"constant" or (len(pad.input) > 3 and pad.input[3]):
        return None
    if len(pad.input) > 2 and pad.input[2]:
        value = known.get(pad.input[2])
        if value is None or np.any(value != 0):
            return None
    if given.get("value", 0.0) != 0:
        return None
    amounts = known.get(pad.input[1]) if len(pad.input) > 1 else np.array(given.get("pads", ()))
    return None if amounts is None or not amounts.size else [int(one) for one in amounts]


def _pool(model: StoredModel, sizes: Mapping[str, tuple[int | None, ...]]) -> bool:
    """Write the mean over height and width as the pooling that it is, which has an int8 kernel."""
    graph = model.proto.graph
    known = _known(model)
    made = []
    changed = False
    for node in graph.node:
        given = attributes(node)
        axes = given.get("axes")
        if axes is None and len(node.input) > 1:
            axes = known.get(node.input[1])
        flat = not given.get("keepdims", 1)
        fits = (
            node.op_type == "ReduceMean"
            and axes is not None
            and len(sizes.get(node.input[0], ())) == SPATIAL + 2
            and sorted(int(axis) % (SPATIAL + 2) for axis in axes) == [2, 3]
        )
        if not fits:
            made.append(node)
            continue
        changed = True
        pooled = f"{node.output[0]}_pooled" if flat else node.output[0]
        made.append(helper.make_node("GlobalAveragePool", node.input[:1], [pooled], node.name))
        if flat:
            made.append(
                helper.make_node("Flatten", [pooled], node.output, f"{node.name}_flat", axis=1)
            )
    if changed:
        del graph.node[:]
        graph.node.extend(made)
    return changed


def _drop_unread(model: StoredModel) -> None:
    """Take out nodes and initializers that nobody reads any more."""
    graph = model.proto.graph
    while True:
        read = names_read(graph.node) | {value.name for value in graph.output}
        kept = [node for node in graph.node if any(name in read for name in node.output)]
        if len(kept) == len(graph.node):
            break
        del graph.node[:]
        graph.node.extend(kept)
    tensors = [tensor for tensor in graph.initializer if tensor.name in read]
    if len(tensors) != len(graph.initializer):
        gone = {tensor.name for tensor in graph.initializer} - {t.name for t in tensors}
        del graph.initializer[:]
        graph.initializer.extend(tensors)
        for name in gone:
            model.places.pop(name, None)
