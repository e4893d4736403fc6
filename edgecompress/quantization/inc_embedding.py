"""Store a PyTorch model's embedding tables as int8, which Neural Compressor leaves in fp32.

It is done before Neural Compressor sees the model, so that activation ranges are those of the
int8 tables. Imported inside functions only: it needs torch.
"""

from __future__ import annotations

import torch

INT8_MAX = 127
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


def quantize_embeddings(model: torch.nn.Module) -> dict[str, str]:
    """Replace the embeddings of `model`, in place, by int8 ones.

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
            setattr(model.get_submodule(parent), name, Int8Embedding(module.weight))
    return exceptions
