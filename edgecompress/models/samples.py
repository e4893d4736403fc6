"""Calibration samples for any graph: arrays, texts or images, checked against the graph's inputs.

Samples are read one after the other, so that memory does not grow with their number. Where the
batch axis is free each is run alone and without its padding; `calibration.collect` leaves out what
a graph of fixed length must be padded with.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

import numpy as np

from edgecompress.errors import DataError
from edgecompress.models.image_files import IMAGES, image_rows
from edgecompress.models.sample_files import (
    Array,
    SampleSource,
    array_sources,
    count_texts,
    text_rows,
)
from edgecompress.models.sizes import batch_names
from edgecompress.models.specs import check_numbers
from edgecompress.tables import SUFFIXES
from edgecompress.values import Feed, TensorSpec, directory_digests, file_digest, json_digest

MASK = "attention_mask"
TEXTS = (".txt", *SUFFIXES)
ARRAYS = (".npz", ".npy")
WHAT = (
    "an .npz or .npy file, a folder of them or of images, or a file of texts (.txt, .csv, .tsv, "
    ".jsonl or .parquet)"
)


@dataclass(frozen=True, slots=True)
class Samples:
    """Calibration data at `path` for a graph with the inputs `specs`; see `open_samples`."""

    path: Path
    specs: tuple[TensorSpec, ...]
    preprocessor: Path | None = None

    def feeds(self, limit: int | None = None) -> Iterator[Feed]:
        """Yield the samples in their order, ready to be run; `limit` counts samples.

        Raises
        ------
        DataError
            When a sample does not fit the graph; names input, wanted and given shape or type.
        """
        batch, axes = batch_axes(self.specs)
        ranks = {spec.name: len(spec.shape) for spec in self.specs}

        def joined(name: str, values: Sequence[Array]) -> Array:
            if values[0].ndim == ranks[name]:  # complete as it is: a state, a number
                return values[0]
            return np.stack(values, axis=axes[name] or 0)

        group: list[Feed] = []
        for number, row in enumerate(self._rows(), 1):
            if limit is not None and number > limit:
                break
            if batch == 1:
                trimmed = trim(row, self.specs)
                if trimmed is None:
                    raise DataError(f"sample {number} is all padding", file=self.path)
                row = trimmed
            group.append(row)
            if len(group) == batch:
                yield {name: joined(name, [one[name] for one in group]) for name in row}
                group = []

    def count(self, limit: int | None = None) -> int:
        """Count the samples that `feeds` will run, without reading them.

        Raises
        ------
        DataError
            When there is none, or fewer than the graph's fixed batch.
        """
        if self.path.suffix.lower() in TEXTS:
            found = count_texts(self.path)
        else:
            files = _files(self.path)
            found = sum(
                1 if file.suffix.lower() in IMAGES else self._checked(file)[1] for file in files
            )
        found = found if limit is None else min(found, limit)
        batch, _ = batch_axes(self.specs)
        if found < batch:
            raise DataError(
                f"there are {found} samples, and the graph takes {batch} at a time; give more",
                file=self.path,
            )
        return found - found % batch

    def digest(self) -> str:
        """SHA-256 over all that the samples are made from."""
        return samples_digest(self.path, self.preprocessor)

    def _rows(self) -> Iterator[Feed]:
        if self.path.suffix.lower() in TEXTS:
            yield from text_rows(self.path, self.specs, self.preprocessor)
            return
        files = _files(self.path)
        if files[0].suffix.lower() in IMAGES:
            yield from image_rows(files, self.specs, self.preprocessor)
            return
        for file in files:
            sources, count = self._checked(file)
            dtypes = {spec.name: spec.dtype for spec in self.specs}
            ranks = {spec.name: len(spec.shape) for spec in self.specs}
            batch, _ = batch_axes(self.specs)
            rows = {
                name: _repeated(source, batch if _inner(source) == ranks[name] else 1)
                for name, source in sources.items()
            }
            for _ in range(count):
                yield {n: np.asarray(next(it), dtype=dtypes[n]) for n, it in rows.items()}

    def _checked(self, file: Path) -> tuple[Mapping[str, SampleSource], int]:
        """Open a file of arrays, and check it against the graph."""
        sources = array_sources(file, self.specs)
        batch, axes = batch_axes(self.specs)
        counts: dict[str, int] = {}
        for spec in self.specs:
            if spec.name not in sources:
                wanted = ", ".join(describe(each) for each in self.specs)
                raise DataError(
                    f"there is no array {spec.name}; the model takes {wanted}, and the file has "
                    f"{', '.join(sources) or 'none'}",
                    file=file,
                )
            found = _fitted(sources[spec.name], spec, axes[spec.name], batch, file)
            if found is not None:
                counts[spec.name] = found
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise DataError(f"the arrays differ in their number of samples: {told}", file=file)
        chosen = {spec.name: sources[spec.name] for spec in self.specs}
        return chosen, next(iter(counts.values()), 1)


def open_samples(
    path: Path, specs: Sequence[TensorSpec], preprocessor: Path | None = None
) -> Samples:
    """Open calibration data, and check that it fits the graph as far as names and headers say.

    Parameters
    ----------
    path : Path
        A ``.npz`` file (an array for each input; its first axis counts samples, which are whole
        inputs or lack the batch axis; a state or a number may stand there once for all) or, for a
        graph of one input, a ``.npy`` file; a folder of such files, a sample or a batch each; a
        folder of images for a graph of one input (batch, 3, height, width); a file of texts, one a
        line, or a table (``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``) with a column of texts.
    specs : sequence of TensorSpec
        The graph's inputs.
    preprocessor : Path, optional
        For texts a folder with a tokenizer, for images one with ``preprocessor_config.json``.

    Raises
    ------
    DataError
        When there is nothing to read, or it does not fit.
    """
    check_path(path, preprocessor)
    check_numbers(specs)
    found = Samples(path, tuple(specs), preprocessor)
    found.count()
    return found


def check_path(path: Path, preprocessor: Path | None) -> None:
    """Check that calibration data is there and of a kind that can be read.

    Raises
    ------
    DataError
        When it is not.
    """
    if not path.exists():
        raise DataError(f"there is no such calibration data; give {WHAT}", file=path)
    if not (path.is_file() or path.is_dir()):
        raise DataError(f"is neither a file nor a folder; give {WHAT}", file=path)
    if path.is_file() and path.suffix.lower() not in TEXTS and path.suffix not in ARRAYS:
        raise DataError(f"not calibration data that can be read; give {WHAT}", file=path)
    if path.suffix.lower() in TEXTS and preprocessor is None:
        raise DataError("texts need a tokenizer; give its folder (--tokenizer DIR)", file=path)
    if preprocessor is not None and not preprocessor.is_dir():
        raise DataError("there is no such folder of a tokenizer", file=preprocessor)
    if path.is_dir():
        _files(path)


def samples_digest(path: Path, preprocessor: Path | None = None) -> str:
    """SHA-256 over calibration data and its preprocessor, wherever they lie."""
    parts = [path] if preprocessor is None else [path, preprocessor]
    digests = [file_digest(p) if p.is_file() else directory_digests(p) for p in parts]
    return json_digest(digests)


def describe(spec: TensorSpec) -> str:
    """Name, dtype and shape of an input, for a sentence."""
    return f"{spec.name} ({spec.dtype} {shape_text(spec.shape)})"


def shape_text(shape: Sequence[int | str]) -> str:
    """Write a shape as ``batch × 3 × 224 × 224``."""
    return " × ".join(map(str, shape)) or "a single number"


def trim(row: Feed, specs: Sequence[TensorSpec]) -> Feed | None:
    """Cut the padding off both ends of one sample, as its attention mask tells it.

    Parameters
    ----------
    row : dict of str to ndarray
        Without a batch axis: the mask is of shape (length,).

    Returns
    -------
    dict or None
        None where everything is padding. Inputs of another or a fixed length stay as they are.
    """
    mask = row.get(MASK)
    if mask is None or mask.ndim != 1:
        return row
    used = np.flatnonzero(mask)
    if not used.size:
        return None
    inside = slice(int(used[0]), int(used[-1]) + 1)
    free = {s.name for s in specs if len(s.shape) > 1 and not isinstance(s.shape[1], int)}
    along = {n for n, value in row.items() if value.ndim and len(value) == len(mask)}
    if MASK not in free or not along <= free:
        return row
    return {name: value[inside] if name in along else value for name, value in row.items()}


def batch_axes(specs: Sequence[TensorSpec]) -> tuple[int, dict[str, int | None]]:
    """Give the samples of one run, and which axis of each input counts them.

    Returns
    -------
    batch : int
        1 where the batch is open, else what the graph says.
    axes : dict of str to (int or None)
        None: the input has no such axis (a state, a number).
    """
    names = set(batch_names([s for s in specs if s.shape]))
    fixed = [s.shape[0] for s in specs if s.shape and isinstance(s.shape[0], int)]
    batch = 1 if names or not fixed else min(int(size) for size in fixed)
    axes: dict[str, int | None] = {}
    for spec in specs:
        named = [axis for axis, size in enumerate(spec.shape) if size in names]
        same = [axis for axis, size in enumerate(spec.shape) if not names and size == batch]
        opened = [0] if spec.shape and not isinstance(spec.shape[0], int) else []
        ones = [0] if names and spec.shape and spec.shape[0] == 1 else []
        axes[spec.name] = next(iter((*named, *same, *opened, *ones)), None)
    return batch, axes


def _inner(source: SampleSource) -> int:
    """How many axes one sample of an array has."""
    return len(source.shape) - (0 if source.single else 1)


def _repeated(source: SampleSource, times: int) -> Iterator[Array]:
    """Yield the samples of an array, each several times; what stands there once without end."""
    if source.constant:
        yield from repeat(next(source.rows()))
    for row in source.rows():
        yield from repeat(row, times)


def _files(path: Path) -> list[Path]:
    """Give the files of calibration data: of one kind, in the order of their names."""
    if path.is_file():
        return [path]
    kinds = [
        [file for file in sorted(path.iterdir()) if file.suffix.lower() in suffixes]
        for suffixes in (ARRAYS, IMAGES)
    ]
    if all(kinds):
        raise DataError("the folder holds both arrays and images; keep one kind", file=path)
    found = kinds[0] or kinds[1]
    if not found:
        raise DataError(f"the folder holds no calibration data; give {WHAT}", file=path)
    return found


def _fitted(
    source: SampleSource, spec: TensorSpec, axis: int | None, batch: int, file: Path
) -> int | None:
    """Check an array against its input, and give its number of samples; None: one for all."""
    wanted, dtype = describe(spec), np.dtype(spec.dtype)
    both = f"the model wants {wanted}, and the array is {source.dtype} {shape_text(source.shape)}"
    kinds = {"i": "iub", "u": "iub", "b": "iub", "f": "f"}[dtype.kind]
    if source.dtype.kind not in kinds:
        hint = "; scale it as in training" if dtype.kind == "f" else ""
        raise DataError(f"array {spec.name} has another type: {both}{hint}", file=file)
    given, rank = source.shape, len(spec.shape)
    plain = spec.shape if axis is None else (*spec.shape[:axis], *spec.shape[axis + 1 :])
    # A row of an input of one axis can be nothing but the whole input, however long.
    whole = (
        spec.shape
        if axis is None or rank == 1
        else (*spec.shape[:axis], batch, *spec.shape[axis + 1 :])
    )
    if len(given) == rank + 1 and _matches(given[1:], whole):
        return given[0] * batch
    if axis is not None and len(given) == rank and _matches(given[1:], plain):
        return given[0]
    if len(given) == rank and _matches(given, spec.shape):
        source.single = source.constant = True
        return None
    if axis is not None and len(given) == rank - 1 and _matches(given, plain):
        source.single = True
        return 1
    raise DataError(
        f"array {spec.name} does not fit: {both}; its first axis must count samples, each "
        f"{shape_text(whole)}{' or without the batch axis' if axis is not None else ''}",
        file=file,
    )


def _matches(given: Sequence[int], wanted: Sequence[int | str]) -> bool:
    return len(given) == len(wanted) and all(
        size == there for there, size in zip(given, wanted, strict=True) if isinstance(size, int)
    )
