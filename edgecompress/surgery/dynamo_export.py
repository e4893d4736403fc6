"""Write any PyTorch module as an fp32 ONNX file with PyTorch's own exporter.

Source: `torch.onnx.export(dynamo=True)`, https://docs.pytorch.org/docs/stable/onnx_export.html.
Nodes are named after the modules that they come from, as exporters before it did: the product of
``bert.encoder.layer.0.output.dense`` is ``/bert/encoder/layer.0/output/dense/MatMul``, and where a
module runs a second time ``…/MatMul_1``. Traces of source files, which differ from machine to
machine, are left out.
"""

from __future__ import annotations

import ast
import contextlib
import io
import logging
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgecompress.errors import StageError
from edgecompress.reading import first_line
from edgecompress.words import shortened

MOST_INLINE_BYTES = 2**31 - 2**26
LONG_LIST = 256
"""Numbers that are worth a node more when each of them takes fewer bytes."""
SCOPES = "pkg.torch.onnx.name_scopes"


@dataclass(frozen=True, slots=True)
class Traced:
    """What the exporter follows through a module, and what becomes of it.

    Attributes
    ----------
    example : mapping of str to torch.Tensor
        The module's inputs, tensors or lists of them: no size that is to be free may be 0 or 1.
    axes : mapping of str to mapping of int to str
        The free axes of each input and their names; equal names stand for equal sizes.
    outputs : tuple of str
        What of a mapping of tensors the graph gives; of a tuple the first ones, under these names.
    names : tuple of str
        What the graph calls the inputs, each tensor of a list by itself; empty: as `example` does.
    """

    example: Mapping[str, Any]
    axes: Mapping[str, Mapping[int, str]]
    outputs: tuple[str, ...]
    names: tuple[str, ...] = ()


def export_module(module: Any, traced: Traced, target: Path, opset: int) -> None:
    """Export a module whose ``forward`` takes named tensors.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode. Gives one tensor, a tuple or a mapping of tensors.
    traced : Traced
    target : Path
        External data go beside it where the weights are larger than a file can hold.
    opset : int

    Raises
    ------
    StageError
        When the exporter fails.
    """
    import onnx_ir
    import torch

    example, axes = traced.example, traced.axes
    names = iter(traced.names or tuple(example))

    def each(value: Any, found: Any) -> Any:
        return [found(one) for one in value] if isinstance(value, list) else found(value)

    def free_axes(_: Any) -> Any:
        return dict.fromkeys(axes.get(next(names), {}), torch.export.Dim.DYNAMIC) or None

    free = {name: each(value, free_axes) for name, value in example.items()}
    with _quiet(), _signatures_unread(), torch.no_grad():
        try:
            answer = module(**example)
            program = torch.onnx.export(
                module,
                (),
                # One tensor given twice would be traced as one input.
                kwargs={name: each(value, torch.clone) for name, value in example.items()},
                input_names=list(traced.names or example),
                dynamo=True,
                opset_version=opset,
                dynamic_shapes=free,
                verify=False,
            )
        except Exception as error:
            cause = _first_sentence(_innermost(error))
            raise StageError(f"PyTorch could not export this model ({cause})") from error
    model = program.model
    given = list(answer) if isinstance(answer, Mapping) else list(traced.outputs)
    _keep_outputs(model, given, traced.outputs)
    _turn_weights(model.graph)
    _read_tables(model.graph)
    _look_up(model.graph)
    _narrow_places(model.graph)
    _name_sizes(model.graph, axes)
    _name_nodes(model.graph, {path for path, _ in module.named_modules() if path})
    _forget_traces(model)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    target.parent.mkdir(parents=True, exist_ok=True)
    beside = f"{target.name}_data" if size > MOST_INLINE_BYTES else None
    onnx_ir.save(model, target, external_data=beside)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's log and prints from the user: failures come as exceptions."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        quiet = contextlib.redirect_stderr(io.StringIO())
        with warnings.catch_warnings(), quiet, contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextlib.contextmanager
def _signatures_unread() -> Iterator[None]:
    """Spare onnxscript from parsing the source of each function that it could write.

    When torch asks for their list, it does so to learn each one's domain, which stands in its
    operator set: a fifth of the time of a small model's export. The graphs stay what they are.
    Source: ``onnxscript._framework_apis.torch_2_5.get_torchlib_ops`` of onnxscript 0.7.
    """
    from onnxscript import values

    kind: Any = getattr(values, "TracedOnnxFunction", None)
    before = vars(kind).get("function_ir") if kind else None
    if not isinstance(before, property):  # another version, which does it another way
        yield
        return
    kind.function_ir = property(lambda function: function.opset)
    try:
        yield
    finally:
        kind.function_ir = before


def _innermost(error: BaseException) -> BaseException:
    """Give the failure that the exporter's advice is wrapped around."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _first_sentence(error: BaseException) -> str:
    """Give an error's first line, with the one that it announces."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        return shortened(f"{lines[0]} {lines[1]}", 300)
    return first_line(error)


def _keep_outputs(model: Any, given: Sequence[str], names: Sequence[str]) -> None:
    """Keep some of the outputs, under their names, and what they need."""
    from onnx_ir.passes.common import RemoveUnusedNodesPass

    outputs = dict(zip(given, model.graph.outputs, strict=False))
    if missing := [name for name in names if name not in outputs]:
        raise StageError(f"this model gives {', '.join(outputs)}, and no {missing[0]}")
    model.graph.outputs[:] = [outputs[name] for name in names]
    RemoveUnusedNodesPass()(model)
    for value, name in zip(model.graph.outputs, names, strict=True):
        value.name = name


def _name_sizes(graph: Any, axes: Mapping[str, Mapping[int, str]]) -> None:
    """Give the free axes of inputs their names, and those of outputs that are the same sizes."""
    import onnx_ir

    names: dict[str, str] = {}
    for value in graph.inputs:
        named = axes.get(value.name, {})
        names |= {str(value.shape[axis]): name for axis, name in named.items()}
        value.shape = onnx_ir.Shape([named.get(i, size) for i, size in enumerate(value.shape)])
    for value in graph.outputs:
        if value.shape is not None:
            sizes = [n if isinstance(n, int) else names.get(str(n), str(n)) for n in value.shape]
            value.shape = onnx_ir.Shape(sizes)


def _turn_weights(graph: Any) -> None:
    """Turn weights once that the graph turns each time that their module runs."""
    import numpy as np
    import onnx_ir

    def turns(node: Any) -> bool:
        perm = node.attributes.get("perm")
        return node.op_type == "Transpose" and perm is not None and [*perm.value] == [1, 0]

    for weight in [*graph.initializers.values()]:
        readers = {use.node for use in weight.uses()}
        if len(weight.shape) != 2 or not readers or not all(map(turns, readers)):
            continue
        array = np.ascontiguousarray(weight.const_value.numpy().T)
        name = f"{weight.name}_transposed"
        turned = onnx_ir.Value(
            name=name,
            shape=onnx_ir.Shape(array.shape),
            type=weight.type,
            const_value=onnx_ir.tensor(array, name=name),
        )
        graph.register_initializer(turned)
        for node in readers:
            node.outputs[0].replace_all_uses_with(turned)
            graph.remove(node, safe=True)
        del graph.initializers[weight.name]


def _read_tables(graph: Any) -> None:
    """Turn a table in the graph for a product that is tied to it, as it would be stored twice."""
    import numpy as np
    import onnx_ir

    for value in [*graph.initializers.values()]:
        readers = [use.node for use in value.uses()]
        products = all(node.op_type == "MatMul" for node in readers)
        if not value.name.startswith("val_") or len(value.shape) != 2 or not readers:
            continue
        for table in [*graph.initializers.values()] if products else ():
            looked_up = any(use.node.op_type == "Gather" and not use.idx for use in table.uses())
            if not looked_up or [*table.shape] != [*value.shape][::-1]:
                continue
            if np.array_equal(table.const_value.numpy().T, value.const_value.numpy()):
                turning = onnx_ir.node("Transpose", [table], {"perm": [1, 0]})
                turning.metadata_props.update(readers[0].metadata_props)
                graph.insert_before(min(readers, key=[*graph].index), turning)
                value.replace_all_uses_with(turning.outputs[0])
                del graph.initializers[value.name]
                break


def _look_up(graph: Any) -> None:
    """Look single rows of a tensor up by one Gather: indexing by a tensor comes as two nodes."""
    import onnx_ir

    for node in [*graph]:
        inside = node.inputs[1].producer() if node.op_type == "GatherND" else None
        batch = node.attributes.get("batch_dims")
        if inside is None or inside.op_type != "Unsqueeze" or (batch and batch.as_int()):
            continue
        axes = onnx_ir.convenience.get_const_tensor(inside.inputs[1])
        if axes is None or axes.numpy().tolist() != [-1]:
            continue
        found = onnx_ir.node("Gather", [node.inputs[0], inside.inputs[0]], {"axis": 0})
        found.metadata_props.update(node.metadata_props)
        found.outputs[0].shape, found.outputs[0].type = node.outputs[0].shape, node.outputs[0].type
        graph.insert_before(node, found)
        node.outputs[0].replace_all_uses_with(found.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)
        if not inside.outputs[0].uses() and inside.outputs[0] not in graph.outputs:
            graph.remove(inside, safe=True)


def _narrow_places(graph: Any) -> None:
    """Keep a long list of small whole numbers that are only looked up in 16 bits each."""
    import numpy as np
    import onnx_ir

    for value in [*graph.initializers.values()]:
        readers = [use.node for use in value.uses() if use.node.op_type == "Gather" and not use.idx]
        whole = value.dtype in (onnx_ir.DataType.INT32, onnx_ir.DataType.INT64)
        if not whole or value.const_value.size < LONG_LIST or len(readers) < len(value.uses()):
            continue
        numbers = value.const_value.numpy()
        if numbers.min() < 0 or numbers.max() > np.iinfo(np.uint16).max:
            continue
        kind, value.const_value = value.dtype, onnx_ir.tensor(numbers.astype(np.uint16))
        value.dtype = onnx_ir.DataType.UINT16
        for node in readers:
            found = node.outputs[0]
            widened = onnx_ir.node("Cast", [found], {"to": int(kind)})
            widened.metadata_props.update(node.metadata_props)
            widened.outputs[0].shape, widened.outputs[0].type = found.shape, found.type
            found.replace_all_uses_with(widened.outputs[0], replace_graph_outputs=True)
            widened.replace_input_with(0, found)
            found.dtype = onnx_ir.DataType.UINT16
            graph.insert_after(node, widened)


def _name_nodes(graph: Any, modules: Collection[str]) -> None:
    """Name nodes, and what they make, after modules; weights that were turned after their layer."""
    taken: Counter[str] = Counter()
    outputs = set(graph.outputs)
    for node in graph:
        scopes = ast.literal_eval(node.metadata_props.get(SCOPES, "[]"))
        paths = [path for path in scopes if path in modules]
        steps = [b.removeprefix(f"{a}.") for a, b in zip(["", *paths], paths, strict=False)]
        stem = "/".join(["", *steps, node.op_type])
        node.name = f"{stem}_{taken[stem]}" if taken[stem] else stem
        taken[stem] += 1
        for place, value in enumerate(node.outputs):
            if value not in outputs:
                value.name = f"{node.name}_output_{place}"
        if paths:
            _name_weights(graph, node, paths[-1])


def _name_weights(graph: Any, node: Any, path: str) -> None:
    """Name the weight of a product; where a module runs again, read the one of its first run."""
    import numpy as np

    for place, value in enumerate(node.inputs):
        turned = f"{path}.weight_transposed"
        if (
            value is None
            or not value.is_initializer()
            or not value.name.startswith("val_")
            or len(value.shape) != 2
            or node.op_type != "MatMul"
        ):
            continue
        first = graph.initializers.get(turned)
        if first is None:
            value.name = turned
        elif np.array_equal(first.const_value.numpy(), value.const_value.numpy()):
            node.replace_input_with(place, first)
            if not value.uses():
                del graph.initializers[value.name]


def _forget_traces(model: Any) -> None:
    """Take out what is no part of the computation: source lines, shapes between nodes."""
    model.metadata_props.clear()
    model.graph.metadata_props.clear()
    model.graph.name, model.doc_string = "main_graph", None
    kept = {*model.graph.inputs, *model.graph.outputs}
    for value in (*kept, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph:
        node.metadata_props.clear()
        node.doc_string = None
        for value in node.outputs:
            value.metadata_props.clear()
            if value not in kept:
                value.shape = value.type = None
