"""How large a model is: its files, as a compressed download, and its parameters."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from edgecompress.errors import DataError
from edgecompress.models.graph import load_graph, tensors
from edgecompress.onnx_files import onnx_model_files
from edgecompress.values import Measurement, Model, OnnxModel

ZSTD_LEVEL = 10
_WEIGHT_TYPES = ("FLOAT", "INT8", "UINT8", "INT4", "UINT4", "BFLOAT16", "DOUBLE")  # and FLOAT16


def model_files(model: Model) -> tuple[Path, ...]:
    """Give all files that hold a model: graph and external data, or the safetensors.

    Raises
    ------
    DataError
        When one is missing.
    """
    if isinstance(model, OnnxModel):
        files: tuple[Path, ...] = ()
        for part in model.graphs.values():
            load_graph(part.path)  # says in words what is no model
            files += onnx_model_files(part.path)
    else:
        files = tuple(sorted(model.directory.glob("*.safetensors")))
        if not files:
            raise DataError("the model's weights are missing", file=model.directory)
    for file in files:
        if not file.is_file():
            raise DataError("the model's file is missing", file=file)
    return files


def total_bytes(model: Model) -> int:
    """Give the bytes of all files that hold a model, external data included."""
    return sum(file.stat().st_size for file in model_files(model))


def parameters(model: Model) -> int:
    """Count the weights: elements of all tensors that are not integers of 16 bits or more.

    Quantized weights count; shapes and other integer constants do not.
    """
    if isinstance(model, OnnxModel):
        import onnx

        known = onnx.TensorProto.DataType
        kinds = {known.Value(name) for name in (*_WEIGHT_TYPES, "FLOAT16")}
        # also in Constant nodes and subgraphs, where exporters leave weights
        graphs = [load_graph(part.path) for part in model.graphs.values()]
        held = itertools.chain.from_iterable(map(tensors, graphs))
        return sum(math.prod(t.dims) for t in held if t.data_type in kinds)
    total = 0
    for file in model_files(model):
        with file.open("rb") as stream:  # format: 8 bytes little-endian length, then JSON
            header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
        total += sum(
            math.prod(tensor["shape"])
            for name, tensor in header.items()
            if name != "__metadata__" and not tensor["dtype"].startswith(("I16", "I32", "I64"))
        )
    return total


def compressed_size(files: Iterable[Path]) -> int:
    """Give the bytes of `files` as one zstandard stream of level 10, made on one thread."""
    import zstandard

    compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL).compressobj()
    total = 0
    for file in files:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                total += len(compressor.compress(block))
    return total + len(compressor.flush())


def _names(files: Sequence[Path]) -> list[str]:
    """Name files, with their folder where two would have one name."""
    names = [file.name for file in files]
    if len(set(names)) == len(names):
        return names
    return [f"{file.parent.name}/{file.name}" for file in files]


def size_measurements(model: Model, reference: Model | None) -> tuple[Measurement, ...]:
    """Measure ``size``, ``download_size`` (bytes), ``parameters`` and ``compression``.

    Compression is the reference's size over the model's; left out without a reference.

    Raises
    ------
    DataError
        When a file is missing or no model.
    """
    files = model_files(model)
    size = total_bytes(model)
    zstd = {"compression": f"zstd level {ZSTD_LEVEL}"}
    found = [
        Measurement("size", float(size), "bytes", conditions={"files": _names(files)}),
        Measurement("download_size", float(compressed_size(files)), "bytes", conditions=zstd),
        Measurement("parameters", float(parameters(model)), "count"),
    ]
    if reference is not None:
        found.append(Measurement("compression", total_bytes(reference) / size, "x"))
    return tuple(found)
