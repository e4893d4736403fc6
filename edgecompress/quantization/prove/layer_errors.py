"""How far each tensor of a quantized model lies from its fp32 twin, in the graph's order.

Tensors are the same where they have the same name in both files. Both are run without graph
optimizations and with these tensors as further outputs, so that none is fused away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import ValueInfoProto

from edgecompress.errors import StageError
from edgecompress.models.session import ORT_ERRORS, first_line, open_session
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.layers import name_nodes
from edgecompress.values import Feed, Json, OnnxModel

FLOATS = frozenset({"tensor(float)", "tensor(float16)", "tensor(double)"})
EXACT_DB = 200.0
"""What stands for an infinite signal-to-noise ratio: no error at all."""
NOTHING = (
    "the two models have no tensor in common: give the fp32 model and what it became, without "
    "another fusion between them"
)


@dataclass(frozen=True, slots=True)
class TensorError:
    """How far a tensor lies from its twin.

    Attributes
    ----------
    tensor : str
    node : str
        What makes it in the fp32 graph.
    op : str
    mean_error : float
        Mean absolute difference, in the tensor's own unit.
    largest_error : float
    snr_db : float
        Signal-to-noise ratio, 10·log10(Σx² / Σ(x - y)²); `EXACT_DB` where they are equal.
    values : int
        How many were compared; those that are not finite in `first` (masks) are left out.
    """

    tensor: str
    node: str
    op: str
    mean_error: float
    largest_error: float
    snr_db: float
    values: int

    def to_json(self) -> Json:
        """Give it as a file keeps it."""
        return asdict(self)


def common_tensors(first: OnnxModel, second: OnnxModel) -> dict[str, tuple[str, str]]:
    """Give what both graphs compute under one name: its node and operator in `first`, in order."""
    ours, theirs = read_model(first.path), read_model(second.path)
    name_nodes(ours)
    there = {name for node in theirs.proto.graph.node for name in node.output if name}
    return {
        name: (node.name, node.op_type)
        for node in ours.proto.graph.node
        for name in node.output
        if name in there
    }


def tensor_errors(
    first: OnnxModel,
    second: OnnxModel,
    feeds: Sequence[Feed],
    folder: Path,
    *,
    threads: int = 1,
    progress: Callable[[float, float, str], None] = lambda _done, _total, _what: None,
) -> list[TensorError]:
    """Compare all tensors that two models have in common, sample by sample.

    Parameters
    ----------
    first : OnnxModel
        In fp32.
    second : OnnxModel
        Its quantized form.
    feeds : sequence of dict of str to ndarray
        Samples; both models take the same inputs.
    folder : Path
        For copies of the models that give these tensors as outputs; they are removed again.
    threads : int
    progress : callable
        Told (done, total, what).

    Returns
    -------
    list of TensorError
        In the graph's order; tensors that are no floats or whose shapes differ are left out.

    Raises
    ------
    StageError
        When nothing can be compared or a sample does not fit.
    """
    if not feeds:
        raise StageError("no sample to compare the models on")
    makers = common_tensors(first, second)
    sessions = [
        _open(model, list(makers), folder / name, threads)
        for model, name in ((first, "first"), (second, "second"))
    ]
    kinds = [{found.name: found.type for found in each.get_outputs()} for each in sessions]
    names = [name for name in makers if all(each.get(name) in FLOATS for each in kinds)]
    if not names:
        raise StageError(NOTHING)
    sums = {name: np.zeros(5) for name in names}  # signal, noise, |error|, largest, values
    for done, feed in enumerate(feeds):
        progress(done, len(feeds), "comparing tensors")
        found = [_run(session, names, feed) for session in sessions]
        for name, x, y in zip(names, *found, strict=True):
            if name in sums and not _add(sums[name], x, y):
                del sums[name]
    compared = {name: each for name, each in sums.items() if each[4]}
    if not compared:
        raise StageError(NOTHING)
    return [_finished(name, makers, each) for name, each in compared.items()]


def _finished(
    name: str, makers: Mapping[str, tuple[str, str]], sums: np.ndarray[Any, Any]
) -> TensorError:
    signal, noise, absolute, largest, values = (float(one) for one in sums)
    ratio = EXACT_DB
    if noise > 0:
        ratio = 10 * float(np.log10(max(signal, np.finfo(np.float64).tiny) / noise))
    node, op = makers[name]
    ratio = float(np.clip(ratio, -EXACT_DB, EXACT_DB))
    return TensorError(name, node, op, absolute / values, largest, ratio, int(values))


def _add(sums: np.ndarray[Any, Any], x: np.ndarray[Any, Any], y: np.ndarray[Any, Any]) -> bool:
    """Add one sample's errors; tell whether the shapes are the same."""
    if x.shape != y.shape:
        return False
    a, b = x.astype(np.float64).ravel(), y.astype(np.float64).ravel()
    # A mask's lowest number is no signal: it would drown all others.
    inside = np.isfinite(a) & (np.abs(a) < np.finfo(np.float32).max / 2)
    a, b = a[inside], b[inside]
    if not a.size:
        return True
    # What is no number any more is as wrong as a number can be.
    gap = np.where(np.isfinite(b), np.abs(a - b), np.finfo(np.float32).max)
    sums[:3] += np.square(a).sum(), np.square(gap).sum(), gap.sum()
    sums[3] = max(sums[3], gap.max())
    sums[4] += a.size
    return True


def _open(model: OnnxModel, names: Sequence[str], folder: Path, threads: int) -> Any:
    stored = read_model(model.path)
    known = {value.name for value in stored.proto.graph.output}
    # Without a type: ONNX Runtime finds it out.
    stored.proto.graph.output.extend(ValueInfoProto(name=n) for n in names if n not in known)
    folder.mkdir(parents=True, exist_ok=True)
    plain = replace(model.session, graph_optimization_level="disable")
    copy = OnnxModel(folder / "model.onnx", plain)
    write_model(stored, copy.path)
    session = open_session(copy, threads)
    copy.path.unlink()
    return session


def _run(session: ort.InferenceSession, names: Sequence[str], feed: Feed) -> list[Any]:
    taken = {found.name for found in session.get_inputs()}
    try:
        return list(session.run(list(names), {k: v for k, v in feed.items() if k in taken}))
    except ORT_ERRORS as error:
        raise StageError(f"a sample does not fit the model ({first_line(error)})") from None


def worst_step(errors: Sequence[TensorError]) -> TensorError | None:
    """Give the tensor at which the signal-to-noise ratio falls most against those before it.

    The first that differs at all falls from no error, which nothing compares with: it is named
    where none behind it is worse. None where nothing differs.
    """
    differing = [one for one in errors if one.snr_db < EXACT_DB]
    if not differing:
        return None
    best, fall, before = differing[0], 0.0, differing[0].snr_db
    for one in differing[1:]:
        if before - one.snr_db > fall:
            best, fall = one, before - one.snr_db
        before = min(before, one.snr_db)
    return best
