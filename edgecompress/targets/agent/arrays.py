"""Arrays of differing shapes in one file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

Feed = dict[str, np.ndarray]


def pack(name: str, arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Put arrays of one dtype and rank, differing in shape, into two flat ones.

    Returns
    -------
    dict
        ``<name>/data`` (elements of all arrays) and ``<name>/shapes``, int64 (count, rank).
    """
    data = np.concatenate([array.ravel() for array in arrays]) if arrays else np.zeros(0)
    shapes = np.array([array.shape for array in arrays], dtype=np.int64)
    return {f"{name}/data": data, f"{name}/shapes": shapes}


def unpack(name: str, stored: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Give back what `pack` was given."""
    data, shapes = stored[f"{name}/data"], stored[f"{name}/shapes"]
    start, arrays = 0, []
    for shape in shapes.tolist():
        end = start + math.prod(shape)
        arrays.append(data[start:end].reshape(shape))
        start = end
    return arrays


def read_items(stored: Mapping[str, np.ndarray], feeds: int) -> list[list[Feed]]:
    """Read set number `feeds` of ``inputs.npz``: for each item the feeds of its rows."""
    prefix = f"{feeds}/"
    names = [
        key.removeprefix(prefix).removesuffix("/shapes")
        for key in stored
        if key.startswith(prefix) and key.endswith("/shapes")
    ]
    items = stored[f"{feeds}/items"]
    columns = {name: unpack(prefix + name, stored) for name in names}
    found: list[list[Feed]] = [[] for _ in range(int(items.max()) + 1 if len(items) else 0)]
    for row, item in enumerate(items):
        found[int(item)].append({name: columns[name][row] for name in names})
    return found


def likelihoods(outputs: np.ndarray, right: np.ndarray, rows: int = 64) -> np.ndarray:
    """Give the log probability of the right class and the likeliest class of each place.

    Parameters
    ----------
    outputs : float (places, classes)
    right : int64 (places,)
        Negative where nobody asks: such a place is left out.
    rows : int
        Places at a time: bounds memory.

    Returns
    -------
    float64 (places, 2)
    """
    at = np.flatnonzero(right >= 0)
    found = np.zeros((len(at), 2))
    for start in range(0, len(at), rows):
        here = at[start : start + rows]
        part = outputs[here].astype(np.float32, copy=False)
        most = part.max(axis=-1, keepdims=True)
        norm = np.log(np.exp(part - most).sum(axis=-1, dtype=np.float64))
        own = part[np.arange(len(here)), right[here]].astype(np.float64) - most[:, 0]
        found[start : start + rows, 0] = own - norm
        found[start : start + rows, 1] = part.argmax(axis=-1)
    return found
