"""Store a PyTorch model's embedding tables in 8 or 4 bits, which Neural Compressor leaves in fp32.

It is done before Neural Compressor sees the model, so that activation ranges are those of the
quantized tables. Imported inside functions only: it needs torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from onnx import TensorProto
from onnx.defs import OpSchema
from onnxscript import opset18 as op
from onnxscript.values import Op, Opset

from edgecompress.quantization.blocks import (
    Bits,
    Blocks,
    dequantize_blocks,
    fitting_block,
    quantize_block_table,
)

INT8_MAX = 127
MICROSOFT, GATHER_BLOCKS = "com.microsoft", "GatherBlockQuantized"
TABLE = "table"  # by this name the ONNX side finds the tables again


class Int8Embedding(torch.nn.Module):
    """An embedding whose table is int8 with one fp32 scale per row (symmetric).

    The scales are a vector, so that looking one up is no second embedding.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        table, scale = quantize_rows(weight)
        self.register_buffer(TABLE, table)
        self.register_buffer("scale", scale)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up and dequantize: int64 (…) to float32 (…, width)."""
        rows = torch.nn.functional.embedding(ids, self.table)
        return rows.to(torch.float32) * self.scale[ids].unsqueeze(-1)


@torch.library.custom_op(  # type: ignore[untyped-decorator]
    "edgecompress::gather_blocks",
    mutates_args=(),
    schema="(Tensor table, Tensor ids, Tensor scale, int block) -> Tensor",
)
def gather_blocks(
    table: torch.Tensor, ids: torch.Tensor, scale: torch.Tensor, block: int
) -> torch.Tensor:
    """Look rows of 4-bit codes up, as ``com.microsoft.GatherBlockQuantized`` does."""
    found = Blocks(table[ids.ravel()].numpy(), scale[ids.ravel()].numpy(), 4, block)
    rows = np.ascontiguousarray(dequantize_blocks(found))
    return torch.from_numpy(rows).reshape(*ids.shape, -1)


@gather_blocks.register_fake  # type: ignore[untyped-decorator]
def _(
    table: torch.Tensor,
    ids: torch.Tensor,
    scale: torch.Tensor,
    block: int,  # noqa: ARG001 the operator's signature
) -> torch.Tensor:
    return scale.new_empty((*ids.shape, table.shape[1] * 2), dtype=torch.float32)


def _gather_schema() -> OpSchema:
    """Describe ``GatherBlockQuantized``: onnx knows ONNX Runtime's own operators by name only."""
    given = OpSchema.FormalParameter
    return OpSchema(
        GATHER_BLOCKS,
        MICROSOFT,
        1,
        inputs=[given("data", "T1"), given("indices", "Tind"), given("scales", "T2")],
        outputs=[given("output", "T2")],
        type_constraints=[
            ("T1", ["tensor(uint8)"], ""),
            ("T2", ["tensor(float)", "tensor(float16)"], ""),
            ("Tind", ["tensor(int64)"], ""),
        ],
        attributes=[
            OpSchema.Attribute(name, OpSchema.AttrType.INT, "")
            for name in ("bits", "block_size", "gather_axis", "quantize_axis")
        ],
    )


def onnx_gather_blocks(table: Any, ids: Any, scale: Any, block: int) -> Any:
    """Say in ONNX what `gather_blocks` is."""
    gather = Op(Opset(MICROSOFT, 1), GATHER_BLOCKS, op_schema=_gather_schema())
    rows = gather(table, ids, scale, bits=4, block_size=block, gather_axis=0, quantize_axis=1)
    return op.Cast(rows, to=TensorProto.FLOAT)


class BlockEmbedding(torch.nn.Module):
    """An embedding of 4-bit codes with one scale for each `block` values of a row."""

    def __init__(self, weight: torch.Tensor, block: int) -> None:
        super().__init__()
        made = quantize_block_table(weight.detach().to(torch.float32).numpy(), block)
        self.register_buffer(TABLE, torch.from_numpy(made.packed))
        self.register_buffer("scale", torch.from_numpy(made.scale))
        self.block = block

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Look up and dequantize: int64 (…) to float32 (…, width)."""
        rows: torch.Tensor = gather_blocks(self.table, ids, self.scale, self.block)
        return rows


def quantize_rows(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize each row symmetrically.

    Parameters
    ----------
    weight : float (rows, width)

    Returns
    -------
    table : int8 (rows, width)
    scale : float32 (rows,)
        1 for a row of zeros.
    """
    weight = weight.detach().to(torch.float32)
    scale = weight.abs().amax(dim=1) / INT8_MAX
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    table = (weight / scale[:, None]).round().clamp(-INT8_MAX, INT8_MAX).to(torch.int8)
    return table, scale


def quantize_embeddings(model: torch.nn.Module, bits: Bits = 8, block: int = 32) -> dict[str, str]:
    """Replace the embeddings of `model`, in place, by quantized ones.

    Parameters
    ----------
    bits : int
        8: one scale for each row; 4: one for each `block` values of a row. A table whose width no
        block of 16 divides keeps 8.

    Returns
    -------
    dict of str to str
        The parameters that stay in fp32, with the reason.
    """
    users: dict[int, list[str]] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            users.setdefault(id(parameter), []).append(name)
    exceptions: dict[str, str] = {}
    found = [
        (path, module)
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.Embedding)
    ]
    for path, module in found:
        weight = f"{path}.weight"
        others = [name for name in users[id(module.weight)] if name != weight]
        if others:
            exceptions[weight] = f"its table is shared with {', '.join(others)}"
        elif type(module).forward is not torch.nn.Embedding.forward or module.max_norm is not None:
            exceptions[weight] = "it does more than look rows up"
        else:
            parent, _, name = path.rpartition(".")
            setattr(model.get_submodule(parent), name, _quantized(module.weight, bits, block))
    return exceptions


def _quantized(weight: torch.Tensor, bits: Bits, block: int) -> torch.nn.Module:
    fitting = fitting_block(weight.shape[1], block) if bits == 4 else None
    return Int8Embedding(weight) if fitting is None else BlockEmbedding(weight, fitting)
