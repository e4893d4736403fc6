"""Export a PyTorch module as a graph that the rest of this room recognises."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from edgecompress.generation.states import is_state
from edgecompress.models.storage import read_model, write_model
from edgecompress.quantization.graphs.in_place import mark_states_in_place
from edgecompress.quantization.graphs.joined import join_products
from edgecompress.quantization.graphs.kept_logits import keep_last_logits
from edgecompress.quantization.graphs.patterns import prepare_for_fusion
from edgecompress.quantization.graphs.waves import make_waves
from edgecompress.surgery.dynamo_export import Traced, export_module
from edgecompress.surgery.onnx_export import (
    OPSET,
    Exporter,
    export_with_optimum,
    traced_encoder,
)


def export_graph(
    module: Any,
    task: str | None,
    target: Path,
    exporter: Exporter,
    opset: int = OPSET,
    traced: Traced | None = None,
    *,
    join: bool = False,
) -> None:
    """Export with dynamic axes, with Optimum or with PyTorch's own exporter.

    What PyTorch's exporter writes is then rewritten as Optimum's graphs are, so that both are fused
    and run alike.

    Parameters
    ----------
    module : torch.nn.Module
    task : str, optional
        Without one the hidden states are the output.
    target : Path
        ``model.onnx`` in a folder that does not exist yet; external data go beside it.
    exporter : str
        ``dynamo`` (PyTorch's own) or ``optimum``.
    opset : int
    traced : Traced, optional
        What PyTorch's exporter follows; needed for a model of no described family.
    join : bool
        Join products of the same input, where attention is a kernel that reads them so.

    Raises
    ------
    StageError
        When the exporter fails or is not installed.
    """
    if exporter == "optimum":
        export_with_optimum(module, task, target, opset)
        return
    aside = target.with_name(f"traced-{target.name}")
    export_module(module, traced or traced_encoder(module, task), aside, opset)
    model = read_model(aside)
    states = [*filter(is_state, traced.names if traced else ())]
    # The decoder of an encoder gives the last logits alone already.
    if states and not any(".encoder." in name for name in states):
        keep_last_logits(model)
    prepare_for_fusion(model)
    make_waves(model)
    joined = aside.with_name(f"{aside.name}.joined")
    if join:
        join_products(model, joined)
    mark_states_in_place(model)
    write_model(model, target)
    shutil.rmtree(joined, ignore_errors=True)
    for file in target.parent.glob(f"{aside.name}*"):
        file.unlink()
