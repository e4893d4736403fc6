"""Read calibration data from files, a sample at a time: arrays and texts.

`edgecompress.models.samples` decides what to read and checks it against the graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.arrayfiles import StoredArray, stored_arrays
from edgecompress.errors import DataError
from edgecompress.processors.text import TextProcessor
from edgecompress.tables import Wanted, examples, open_table, take_columns
from edgecompress.textfiles import read_lines
from edgecompress.texts import running_text
from edgecompress.values import Feed, TensorSpec

Array = np.ndarray[Any, Any]

CHUNK = 256  # texts that are tokenized at a time


class SampleSource:
    """An array in a file, of which only the header was read so far.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype
    single : bool
        The array is one sample, and its first axis does not count samples.
    constant : bool
        That sample serves all of the others: a state, a number.
    """

    def __init__(self, stored: StoredArray) -> None:
        self._stored = stored
        self.single = self.constant = False
        self.shape, self.dtype = stored.shape, stored.dtype

    def rows(self) -> Iterator[Array]:
        """Yield the samples one by one; only one is in memory.

        Raises
        ------
        DataError
            When the file is damaged.
        """
        return self._stored.rows(whole=self.single)


def array_sources(file: Path, specs: Sequence[TensorSpec]) -> Mapping[str, SampleSource]:
    """Read the headers of a ``.npz`` or ``.npy`` file.

    Raises
    ------
    DataError
        When the file is damaged, or is a ``.npy`` and the graph has several inputs.
    """
    if file.suffix == ".npy" and len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise DataError(
            f"a .npy file has no names, and the model takes {names}; "
            "write numpy.savez(file, name=array, …)",
            file=file,
        )
    found = stored_arrays(file)
    if file.suffix == ".npy":  # its one array has no name
        return dict(zip([specs[0].name], map(SampleSource, found.values()), strict=False))
    return {name: SampleSource(stored) for name, stored in found.items()}


def _texts(file: Path) -> Iterator[str]:
    """Yield the texts of a file: its lines, or the column with the texts of a table."""
    if file.suffix.lower() == ".txt":
        yield from (line.strip() for line in read_lines(file) if line.strip())
        return
    table = open_table(file)
    taken = take_columns(table, {}, Wanted(answers="ignored"), "call the one with the texts {}")
    yield from (running_text(one) for _, one, _ in examples(table, taken, blank="skip"))


def count_texts(file: Path) -> int:
    """Count the texts that are not empty."""
    return sum(1 for _ in _texts(file))


def text_rows(file: Path, specs: Sequence[TensorSpec], tokenizer: Path | None) -> Iterator[Feed]:
    """Encode texts as the tokenizer's model reads them, each cut to what fits in one row.

    Yields
    ------
    dict of str to ndarray
        Without a batch axis. A graph of fixed length gets padding, with an attention mask of 0.

    Raises
    ------
    DataError
        When the graph takes an input that cannot be made of a text.
    """
    if tokenizer is None:
        raise DataError("texts need a tokenizer; give its folder (--tokenizer DIR)", file=file)
    preprocessor = TextProcessor.load(tokenizer)
    fixed = {spec.shape[1] for spec in specs if len(spec.shape) == 2}
    length = next((size for size in fixed if isinstance(size, int)), None)
    room = min(preprocessor.max_length, length or preprocessor.max_length)
    room -= len(preprocessor.prefix) + len(preprocessor.suffix)
    texts = _texts(file)
    while chunk := list(islice(texts, CHUNK)):
        for pieces in preprocessor.encode_text(chunk):
            ids = preprocessor.with_specials(pieces[:room])
            yield {s.name: _padded(s, ids, preprocessor, length).astype(s.dtype)
                   for s in specs}  # fmt: skip


def _padded(spec: TensorSpec, ids: Array, preprocessor: TextProcessor, length: int | None) -> Array:
    made = {
        "input_ids": lambda: ids,
        "attention_mask": lambda: np.ones_like(ids),
        "token_type_ids": lambda: preprocessor.segment_ids(len(ids)),
        "position_ids": lambda: np.arange(len(ids)),
    }
    if spec.name not in made:
        raise DataError(
            f"input {spec.name} cannot be made of a text; give arrays of all inputs (.npz)"
        )
    values = made[spec.name]()
    filler = preprocessor.pad_id if spec.name == "input_ids" else 0
    return np.pad(values, (0, max(0, (length or 0) - len(ids))), constant_values=filler)
