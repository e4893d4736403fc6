"""Samples of an encoder and of its decoder, which are the parts of a model that writes.

The encoder is given what the rows of examples hold. The decoder is given what the encoder makes of
it, and the tokens that the model writes, all at once: a token's values are the same whether those
before it are read beside it or come out of the cache.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgecompress.context import Context
from edgecompress.errors import StageError
from edgecompress.values import Candidate, Json, OnnxModel

if TYPE_CHECKING:
    from edgecompress.models.runner import SessionRunner
    from edgecompress.tasks import Rows
    from edgecompress.values import Feed

WRITTEN = "written.npz"


def part_data(
    rows: Rows, whole: Candidate, part: str, context: Context, name: str
) -> tuple[Json, Callable[[], Iterator[Feed]]]:
    """Give the samples of a part, one for each row.

    Parameters
    ----------
    rows : Rows
        Of the whole model, which is asked them one by one.
    whole : Candidate
    part : str
        ``encoder`` or ``decoder``.
    context : Context
        Its `cached` keeps what was written.
    name : str
        The stage's, for errors.

    Returns
    -------
    key : dict
        JSON that says where they come from.
    feeds : callable
        Gives them, one after the other; each time the same.

    Raises
    ------
    StageError
        When these parts are no encoder and decoder that write an answer together, or nothing says
        how they are asked.
    """
    from edgecompress.models.graph import signature
    from edgecompress.models.inputs import typed_feed
    from edgecompress.onnx_files import model_digests

    graphs = whole.model.graphs if isinstance(whole.model, OnnxModel) else {}
    if {*graphs} != {"encoder", "decoder"} or whole.preprocessor is None:
        raise StageError(
            f"{name} runs each part on what examples give it, which is known of an encoder and a "
            f"decoder with their tokenizer, and not of {', '.join(graphs)}; give files of `inputs`"
        )
    specs = signature(graphs["encoder"])
    numbers = range(len(rows))
    if part == "encoder":
        return {"rows": rows.digest()}, lambda: (typed_feed(rows, [row], specs) for row in numbers)
    digests = {name: model_digests(graph) for name, graph in graphs.items()}
    key: Json = {"rows": rows.digest(), "parts": digests}
    kept = context.cached(
        {"kind": "written", **key}, lambda folder: _write(rows, whole, context, folder)
    )
    with np.load(kept / WRITTEN) as found:
        tokens = [found[str(row)] for row in numbers]

    def feeds() -> Iterator[Feed]:
        from edgecompress.models.runner import open_onnx

        encoder, decoder = (open_onnx(graphs[one]) for one in ("encoder", "decoder"))
        for row in numbers:
            yield _decoder_feed(encoder, decoder, typed_feed(rows, [row], specs), tokens[row])

    return key, feeds


def _write(rows: Rows, whole: Candidate, context: Context, folder: Path) -> None:
    """Keep what the model has read of its own when it was done, int64 (1, tokens) of each row."""
    from edgecompress.models.inputs import typed_feed
    from edgecompress.models.joining import OUTPUT, join
    from edgecompress.models.runner import open_onnx
    from edgecompress.modules.decoding import decoding_of

    if not isinstance(whole.model, OnnxModel) or whole.preprocessor is None:
        raise StageError("only an ONNX model of parts that says how it is asked writes")
    how = decoding_of(whole.preprocessor)
    graph = OnnxModel(context.scratch / "joined" / "model.onnx")
    graph.directory.mkdir(parents=True, exist_ok=True)
    join(whole.model.graphs, how, graph.path)
    runner = open_onnx(graph)
    found = {}
    for row in range(len(rows)):
        context.progress(row, len(rows), "what it writes")
        values = runner(typed_feed(rows, [row], runner.specs))[OUTPUT][0, :, 0].astype(np.int64)
        ends = np.flatnonzero(values[len(how.forced) :] == how.end)
        last = len(how.forced) + ends[0] if len(ends) else len(values) - 1
        found[str(row)] = np.array([[how.start, *values[:last]]], np.int64)
    np.savez(folder / WRITTEN, **found)  # type: ignore[arg-type]
    shutil.rmtree(graph.directory)


def _decoder_feed(
    encoder: SessionRunner, decoder: SessionRunner, given: Feed, tokens: np.ndarray
) -> Feed:
    from edgecompress.generation.states import beginning
    from edgecompress.models.joining import GIVEN_MASK, MASK

    feed = {"input_ids": tokens, **beginning(decoder.specs)}
    if MASK in given:
        feed[GIVEN_MASK] = given[MASK]
    for name, value in encoder(given).items():
        feed[name.replace("present.", "past_key_values.")] = value
    return feed
