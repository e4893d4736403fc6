"""A function for each command that applies one stage to a model.

Arguments that are not the function's own are fields of the stage, as in a recipe.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

from edgecompress.api.arguments import StrPath, reporting
from edgecompress.api.options import split_options, takes_data
from edgecompress.api.stage_results import StageResult, stage_result
from edgecompress.engine.chains import also_called
from edgecompress.engine.single import apply_one
from edgecompress.errors import ArgumentError
from edgecompress.stage import stage_modules
from edgecompress.words import meant

Corpus: TypeAlias = "StrPath | Sequence[StrPath | Mapping[str, Any]]"


@takes_data
def export(model: StrPath, output: StrPath, **fields: Any) -> StageResult:
    """Export the PyTorch `model` to ONNX and prove that the answers are the same.

    Parameters
    ----------
    MODEL_AND_OUTPUT
    DATA_AND_FIELDS
    """
    return _apply("export", model, output, fields)


@takes_data
def finetune(model: StrPath, output: StrPath, **fields: Any) -> StageResult:
    """Fine-tune `model` (a directory or a hub id) on labelled data.

    Parameters
    ----------
    MODEL_AND_OUTPUT
    DATA_AND_FIELDS
    """
    return _apply("finetune", model, output, fields)


@takes_data
def distil(
    model: StrPath, output: StrPath, *, teacher: StrPath | None = None, **fields: Any
) -> StageResult:
    """Train `model`, the student, to answer like the teacher.

    Parameters
    ----------
    MODEL_AND_OUTPUT
    teacher : path or str, optional
        Directory or hub id of the teacher. Left out, it is the recipe's.
    DATA_AND_FIELDS
    """
    return _apply("distil", model, output, fields, teacher)


@takes_data
def factorize(model: StrPath, output: StrPath, **fields: Any) -> StageResult:
    """Replace large matrices of the PyTorch `model` by products of two small ones (low rank).

    With the field embedding=128 the table of words gets that rank. With linear={"energy": 0.9} each
    linear layer gets the least rank that keeps this share of what it computes on training texts.

    Parameters
    ----------
    MODEL_AND_OUTPUT
    DATA_AND_FIELDS
    """
    return _apply("factorize", model, output, fields)


@takes_data
def prune(
    model: StrPath,
    output: StrPath,
    *,
    method: Literal["structured", "shape", "channels", "layers", "magnitude"] | str = "structured",
    **fields: Any,
) -> StageResult:
    """Remove heads and neurons, channels, or whole layers, of the PyTorch `model` for good.

    With `method` magnitude the smallest weights become zero (fields: sparsity=0.8, or
    pattern="2:4"). No answer comes sooner by that, but the compressed download gets smaller.

    Parameters
    ----------
    MODEL_AND_OUTPUT
    method : str
        What is removed: structured (heads and neurons), shape (layers and widths together, for a
        speed), channels (of convolutions), layers, or magnitude (weights).
    DATA_AND_FIELDS
    """
    return _apply(_variant("prune", method, "method"), model, output, fields)


@takes_data
def quantize(
    model: StrPath,
    output: StrPath,
    *,
    scheme: str = "dynamic",
    data: StrPath | None = None,
    preprocessor: StrPath | None = None,
    force: bool = False,
    **fields: Any,
) -> StageResult:
    """Quantize `model`, to int8 unless the scheme says otherwise.

    The scheme dynamic needs neither data nor a recipe.

    Parameters
    ----------
    MODEL_AND_OUTPUT
    scheme : str
        Of an ONNX model: dynamic, static, weights (4 or 8 bits), auto, smooth or half (16 bits).
        Of a PyTorch model: inc_static, inc_dynamic or inc_auto.
    data : path, optional
        Inputs to calibrate on (static, smooth, and weights with gptq) and to compare answers on
        (these and half): an .npz with an array for each input, a folder of .npz, .npy or images, or
        texts (.txt, .csv, .tsv, .jsonl, .parquet).
    preprocessor : path, optional
        Folder with the tokenizer of `data`, or its preprocessor_config.json.
    force : bool
        Keep the result although its answers are no longer those of the fp32 model.
    DATA_AND_FIELDS
    ArgumentError
        When the scheme takes no such data.
    """
    stage = _variant("quantize", scheme, "scheme")
    given = {"inputs": data, "preprocessor": preprocessor}
    files = {field: str(Path(place).absolute()) for field, place in given.items() if place}
    if files and scheme == "dynamic":
        raise ArgumentError("dynamic needs no data; to calibrate with it add --scheme static")
    if files and scheme.startswith(("auto", "inc_")):
        raise ArgumentError(
            f"{scheme} takes no --data but a task's files: --train FILE --validation FILE "
            "--format NAME, or --recipe RECIPE"
        )
    kept = {"force": True} if force else {}
    return _apply(stage, model, output, {**files, **kept, **fields})


@takes_data
def trim(
    model: StrPath,
    output: StrPath,
    *,
    corpus: Corpus = (),
    keep: int | None = None,
    coverage: float | None = None,
    alphabet: Literal["all", "scripts", "corpus"] | None = None,
    rows: int | None = None,
    **fields: Any,
) -> StageResult:
    """Remove the word pieces that your texts do not need from the PyTorch `model` for good.

    Its tokenizer changes with it, and what that costs on validation text is said. With `rows` the
    tokenizer stays as it is, and rare pieces share rows of the embedding (vocabulary.share).

    Parameters
    ----------
    MODEL_AND_OUTPUT
    corpus : str or sequence of str
        Texts that say which pieces are needed: a file with one text a line, conll:FILE or tsv:FILE,
        or "train" (when left out) for the training data. From Python also a mapping as in a recipe.
    keep : int, optional
        How many pieces to keep.
    coverage : float, optional
        In place of `keep`: the share of the pieces in the corpus that must be kept.
    alphabet : {"all", "scripts", "corpus"}, optional
        Single characters to keep: all, those of the scripts in the corpus, or those that it uses.
    rows : int, optional
        Drop no piece, but leave so many rows; rare pieces use the rows of similar ones.
    DATA_AND_FIELDS
    ArgumentError
        When `rows` is given together with `keep`, `coverage` or `alphabet`.
    """
    fewer = {"keep": keep, "coverage": coverage, "alphabet": alphabet}
    if rows is not None and any(value is not None for value in fewer.values()):
        raise ArgumentError(
            "--rows keeps all pieces: it goes without --keep, --coverage and --alphabet"
        )
    given: dict[str, Any] = {**fewer, "rows": rows}
    own = {name: value for name, value in given.items() if value is not None}
    if texts := _texts(corpus):
        own["corpus"] = texts
    stage = "vocabulary.trim" if rows is None else "vocabulary.share"
    return _apply(stage, model, output, {**own, **fields})


def _texts(corpus: Corpus) -> list[Any]:
    """Read the entries of a corpus: ``train``, a path, or a format with a path."""
    entries = [corpus] if isinstance(corpus, str | os.PathLike) else corpus
    found: list[Any] = []
    for entry in entries:
        if isinstance(entry, Mapping):
            found.append(entry)
            continue
        text = os.fspath(entry)
        form, colon, place = text.partition(":")
        if colon and form in ("conll", "tsv", "text"):
            found.append({"file": str(Path(place).absolute()), "format": form})
        else:
            found.append(text if text == "train" else str(Path(text).absolute()))
    return found


def _variant(family: str, name: str, argument: str) -> str:
    """Give the stage of a family, such as ``quantize.static``.

    Raises
    ------
    ArgumentError
        When it has none of that name, with the nearest.
    """
    if f"{family}.{name}" not in stage_modules():
        known = also_called(f"{family}.")
        raise ArgumentError(f"there is no {argument} {name!r}{meant(name, known, known)}")
    return f"{family}.{name}"


def _apply(
    stage: str,
    model: StrPath,
    output: StrPath,
    given: Mapping[str, Any],
    teacher: StrPath | None = None,
) -> StageResult:
    options, fields = split_options(given)
    recipe = options.build(model, stage, fields, teacher=teacher)
    with reporting(options.progress) as reporter:
        before, after = apply_one(recipe, Path(output), options.store_path, reporter)
    return stage_result(stage, Path(output), before, after)
