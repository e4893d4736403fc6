"""What a whole model loses by a change: its loss, or how far its answers move."""

from __future__ import annotations

from typing import Any

import torch

from edgecompress.training.losses import example_losses
from edgecompress.training.rows import Rows, even_batches


def mean_loss(module: Any, rows: Rows) -> float:
    """Mean cross entropy of a module over labelled rows."""
    total = 0.0
    for batch in even_batches(rows.lengths):
        feed = rows.feed(batch)
        with torch.inference_mode():
            targets = rows.targets(batch, feed["input_ids"].shape[1])
            total += float(example_losses(module(**feed).logits, targets).sum())
    return total / max(1, len(rows.encoded))
