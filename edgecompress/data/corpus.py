"""Text without labels: what a vocabulary is cut to, or what a student is taught on.

A corpus is a list of entries. ``train`` stands for the training split, whose labels are ignored; a
path for a file with one text a line; ``{file: PATH, format: conll}`` for a file of another form::

    corpus: [train, amh/train.txt, {file: yor/train.csv, columns: {text: tweet}}]

A recipe's relative paths are looked for below ``data.root``, then beside the recipe
(`edgecompress.engine.recipe.absolute_paths`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from edgecompress.data.files import SPLIT_WORDS
from edgecompress.errors import DataError
from edgecompress.tables import SUFFIXES, Wanted, examples, open_table, take_columns
from edgecompress.textfiles import check_file, conll_sentences, read_lines
from edgecompress.texts import text_example, words_example
from edgecompress.values import Example, Json, file_digest

TRAIN: Literal["train"] = "train"


class CorpusFile(BaseModel):
    """One file of texts."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    file: Path
    """Where it lies."""
    format: Literal["text", "conll", "tsv", "csv", "jsonl", "parquet"] | None = None
    """``text``: one text a line; ``conll``: a word and its tag a line; the others have columns.
    Left out: what the suffix says, else ``text``. Tags and labels are ignored."""
    columns: dict[str, str] = {}
    """Of a file with columns: what it calls its `text` or its `words`."""

    def __hash__(self) -> int:
        """Hash what it says, as stages are looked up by their values."""
        return hash(self.model_dump_json())


def _entry(value: Any) -> Any:
    """Read a path as a file of plain text."""
    if isinstance(value, str | Path) and value != TRAIN:
        return {"file": value}
    return value


def _listed(value: Any) -> Any:
    return [value] if isinstance(value, str | Path | dict | CorpusFile) else value


def _each_once(entries: tuple[Any, ...]) -> tuple[Any, ...]:
    names = [entry if entry == TRAIN else str(entry.file) for entry in entries]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"names {twice} twice; its texts would count double")
    return entries


Entry = Annotated[
    Literal["train"] | CorpusFile,
    BeforeValidator(_entry, json_schema_input_type=Literal["train"] | Path | CorpusFile),
]
Corpus = Annotated[
    tuple[Entry, ...],
    BeforeValidator(_listed, json_schema_input_type=Entry | tuple[Entry, ...]),
    AfterValidator(_each_once),
]
"""The type of a stage's field that names texts; a lone entry may stand without its list."""


def read_corpus(
    entries: Sequence[Literal["train"] | CorpusFile], train: Sequence[Example]
) -> tuple[Example, ...]:
    """Read all texts of a corpus, in order.

    Parameters
    ----------
    entries : sequence of "train" or CorpusFile
        What a field of the type `Corpus` holds.
    train : sequence of Example
        The training split; its labels are left out of what is returned.

    Returns
    -------
    tuple of Example
        With `words` where the file has words, else with `text`; without tags and labels. `source`
        is what tells a file from the others, or, of training examples, their own.

    Raises
    ------
    DataError
        When a file is missing, malformed or holds no text, or the training split is wanted and
        there is none.
    """
    found: list[Example] = []
    for entry, source in _named(entries):
        before = len(found)
        if entry == TRAIN or not isinstance(entry, CorpusFile):
            found += [replace(example, target=None) for example in train]
            if len(found) == before:
                raise DataError(
                    "the corpus names the training split, and there are no training examples; "
                    "give `data`, or name files instead of `train`"
                )
            continue
        found.extend(_parse(entry, source))
        if len(found) == before:
            raise DataError("holds no text; a corpus needs some", file=entry.file)
    return tuple(found)


def check_corpus(entries: Sequence[Literal["train"] | CorpusFile]) -> None:
    """Read every file of a corpus once, so that a malformed one is found before work starts.

    Raises
    ------
    DataError
        As `read_corpus`, except that the training split is not asked for.
    """
    read_corpus([entry for entry in entries if entry != TRAIN], ())


def corpus_files(fields: Any) -> Iterator[CorpusFile]:
    """Give the files of every corpus that a stage's fields name, at whatever depth."""
    if isinstance(fields, CorpusFile):
        yield fields
    elif isinstance(fields, BaseModel):
        for name in type(fields).model_fields:
            yield from corpus_files(getattr(fields, name))
    elif isinstance(fields, list | tuple):
        for one in fields:
            yield from corpus_files(one)


def corpus_identity(entries: Sequence[Literal["train"] | CorpusFile]) -> list[Any]:
    """Give what a result depends on: digests instead of places, for `Stage.identity`.

    Returns
    -------
    list of JSON
        ``"train"``, or ``source``, ``format``, ``sha256`` and, where it has some, ``columns``.

    Raises
    ------
    DataError
        When a file is missing.
    """
    result: list[Any] = []
    for entry, source in _named(entries):
        if not isinstance(entry, CorpusFile):
            result.append(TRAIN)
            continue
        check_file(entry.file)
        one: Json = {
            "source": source,
            "format": entry.format or ("text" if _as_text(entry) else entry.file.suffix),
            "sha256": file_digest(entry.file),
        }
        if entry.columns:
            one["columns"] = entry.columns
        result.append(one)
    return result


def _named(
    entries: Sequence[Literal["train"] | CorpusFile],
) -> Iterator[tuple[Literal["train"] | CorpusFile, str]]:
    """Give each entry with what tells it from the others; ``train`` for the training split."""
    names = iter(_names([entry.file for entry in entries if isinstance(entry, CorpusFile)]))
    for entry in entries:
        yield entry, next(names) if isinstance(entry, CorpusFile) else TRAIN


def _names(files: Sequence[Path]) -> list[str]:
    """Name files by as many of their paths' last parts as tell them apart, without split names.

    ``/a/amh/train.txt`` and ``/b/hau/train.txt`` are ``amh`` and ``hau``: what a text is called
    must not depend on where the data lie.
    """
    bare = [file.with_suffix("").parts for file in files]
    parts = [[part for part in way if part not in (*SPLIT_WORDS, "/")] for way in bare]
    depth = max((len(way) for way in parts), default=0)
    for taken in range(1, depth + 1):
        names = ["/".join(way[-taken:] or bare[n][-1:]) for n, way in enumerate(parts)]
        if len(set(names)) == len(names):
            return names
    return [f"{'/'.join(way[-1:])}#{n}" for n, way in enumerate(bare, start=1)]


def _as_text(entry: CorpusFile) -> bool:
    """Say whether a file holds one text a line."""
    return entry.format == "text" or not (entry.format or entry.file.suffix.lower() in SUFFIXES)


def _parse(entry: CorpusFile, source: str) -> Iterator[Example]:
    if _as_text(entry):
        for line in read_lines(entry.file):
            if line.strip():
                yield text_example(text=line.strip(), source=source)
    elif entry.format == "conll":
        for words, _ in conll_sentences(entry.file):
            yield words_example(words=words, source=source)
    else:
        table = open_table(entry.file, entry.format)
        texts = Wanted(answers="ignored")
        taken = take_columns(table, entry.columns, texts, "set corpus.columns.{}")
        for _, example, _ in examples(table, taken, source):
            yield example
