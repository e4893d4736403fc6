"""Samples of a model's inputs that are training examples, and what a pass over samples saw."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecompress.context import Context
from edgecompress.errors import StageError
from edgecompress.values import Candidate, Json, OnnxModel, TensorSpec

if TYPE_CHECKING:
    from edgecompress.quantization.observe.histograms import Seen
    from edgecompress.values import Feed


@dataclass(frozen=True, slots=True)
class CalibrationData:
    """Samples of a model's inputs.

    Attributes
    ----------
    key : dict
        JSON that says where they come from, for the store.
    count : int
    feeds : callable
        Gives them, one after the other, without padding; each time the same.
    """

    key: Json
    count: int
    feeds: Callable[[], Iterable[Feed]]


def example_data(
    name: str,
    calibration: str | None,
    samples: int | None,
    candidate: Candidate,
    context: Context,
    specs: Sequence[TensorSpec],
) -> CalibrationData:
    """Give samples that are training examples, chosen by a calibration set.

    Parameters
    ----------
    name : str
        The stage's, for errors.
    calibration : str or None
        The set's name or path; None chooses at random.
    samples : int or None
        In place of the number that the set says.
    candidate : Candidate
        Whose preprocessor and task encode examples, where it is no part of a model.
    context : Context
    specs : sequence of TensorSpec
        The model's inputs.

    Raises
    ------
    StageError
        When there are no examples, or nothing to encode them with.
    """
    from edgecompress.data.calibration import CalibrationSet, load_calibration
    from edgecompress.models.inputs import encode_rows, typed_feed
    from edgecompress.quantization.observe.part_data import part_data

    if not context.train:
        raise StageError(
            f"{name} runs the model on training examples, and there are none: give `data`, or "
            "files of `inputs`"
        )
    chosen = load_calibration(calibration) if calibration else None
    chosen = chosen or CalibrationSet(name="random")
    whole, part = context.whole or (candidate, None)
    rows = encode_rows(whole, chosen.select(context.train, context.seed, samples))
    if rows is None:
        raise StageError(
            f"{name} needs a task and a tokenizer to read examples with, or files of `inputs`"
        )
    if part is not None:
        key, feeds = part_data(rows, whole, part, context, name)
        return CalibrationData(key, len(rows), feeds)
    total = len(rows.lengths)
    key = {"rows": rows.digest()}
    return CalibrationData(
        key, total, lambda: (typed_feed(rows, [row], specs) for row in range(total))
    )


def seen_on(
    data: CalibrationData, source: OnnxModel, names: Sequence[str], context: Context
) -> Mapping[str, Seen]:
    """Give what a pass over the samples saw; one pass serves all stages, methods and candidates.

    Parameters
    ----------
    data : CalibrationData
    source : OnnxModel
    names : sequence of str
        Tensors of the graph.
    context : Context
        Its `cached` keeps the result, its scratch folder a pass that is under way.
    """
    from edgecompress.onnx_files import model_digests
    from edgecompress.quantization.observe.histograms import collect, load_seen, save_seen
    from edgecompress.quantization.observe.observing import observing

    def build(folder: Path) -> None:
        with observing(source, names, context.scratch / "observed") as observed:
            found = collect(
                observed,
                names,
                data.feeds(),
                state=context.scratch / "seen.npz",
                progress=lambda done: context.progress(done, data.count, "ranges"),
            )
        save_seen(found, folder / "seen.npz", data.count)

    key = {
        "kind": "calibration",
        "model": model_digests(source),
        "tensors": list(names),
        **data.key,
    }
    return load_seen(context.cached(key, build) / "seen.npz")[0]
