"""How likely the right token is at each place, of logits that are too large to keep.

`edgecompress.targets.agent` is sent to boards and so carries its own copy.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def likelihoods(
    outputs: NDArray[Any], right: NDArray[np.int64], rows: int = 64
) -> NDArray[np.float64]:
    """Give the log probability of the right token and the likeliest token of each place.

    Parameters
    ----------
    outputs : float (places, vocabulary)
    right : int64 (places,)
    rows : int
        Places at a time: bounds memory.

    Returns
    -------
    float64 (places, 2)
    """
    found = np.zeros((len(right), 2))
    for start in range(0, len(right), rows):
        part = outputs[start : start + rows].astype(np.float32, copy=False)
        ids = right[start : start + rows]
        most = part.max(axis=-1, keepdims=True)
        norm = np.log(np.exp(part - most).sum(axis=-1, dtype=np.float64))
        own = part[np.arange(len(ids)), ids].astype(np.float64) - most[:, 0]
        found[start : start + rows, 0] = own - norm
        found[start : start + rows, 1] = part.argmax(axis=-1)
    return found
