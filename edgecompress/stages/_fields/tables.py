"""The fields that the quantization stages have in common which quantize embedding tables."""

from __future__ import annotations

from typing import Any, Literal

from edgecompress.stage import Transform


class TableTypes(Transform):
    """How embedding tables are stored."""

    embeddings: bool = True
    """Quantize embedding tables, too: most of a small model's bytes are there."""
    embedding_bits: Literal[4, 8] = 8
    """8: one scale for a table. 4: one scale for each `embedding_block` values of a row; half the
    size, and as fast. A table whose width is no multiple of 16, or
    that holds less than a hundredth of all tables' values, keeps 8."""
    embedding_block: Literal[16, 32, 64, 128] = 32
    """Values that share a scale of 16 bits, with `embedding_bits: 4`."""

    def table_types(self) -> dict[str, Any]:
        """Give the fields of a `Scheme` that say how tables are stored."""
        return self.model_dump(include={"embeddings", "embedding_bits", "embedding_block"})
