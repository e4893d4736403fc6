"""Open a bundle to ask it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgecompress.bundle import load_manifest, verify_bundle
from edgecompress.errors import BundleError, DataError
from edgecompress.runtime.predictor import Predictor


def load(
    path: str | Path,
    *,
    threads: int | Literal["auto"] | None = None,
    batch: int | None = None,
    verify: bool = True,
) -> Predictor:
    """Open a bundle.

    Parameters
    ----------
    path : str or Path
        The bundle's directory.
    threads : int or "auto", optional
        Threads within an operator. When left out, what `Predictor.tune` has found on this machine
        before, and else one per physical core; ``"auto"`` has it found now if it is not known.
    batch : int, optional
        Most rows to give to the model at once. When left out, 1 for a model whose answers depend
        on what else is in a batch (see `Predictor.batch`), and else `BATCH`.
    verify : bool
        Whether to compare the core with its digests first.

    Raises
    ------
    BundleError
        When the bundle is damaged, has no text side, or ONNX Runtime refuses its model.
    """
    from edgecompress.tasks import lacks_files, load_processor, task

    for name, value in (("threads", threads), ("batch", batch)):
        if isinstance(value, int) and value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    directory = Path(path)
    manifest = verify_bundle(directory, evidence=False) if verify else load_manifest(directory)
    lacking = "task" if manifest.task is None else "tokenizer"
    try:
        kind = task(manifest.task) if manifest.task is not None else None
        if kind is None or lacks_files(kind.name, manifest.preprocessor):
            raise BundleError(
                f"{directory}: has no {lacking}, so it cannot answer from text; open "
                f"{manifest.model} with onnxruntime"
            )
        folder = directory / manifest.preprocessor if manifest.preprocessor else None
        processor = load_processor(kind.name, folder)
    except DataError as error:
        raise BundleError(f"{directory}: {error}") from None
    if not kind.forms:
        raise BundleError(
            f"{directory}: {manifest.task} {kind.refusal}; open {manifest.model} with onnxruntime"
        )
    fixed = threads if isinstance(threads, int) else None
    predictor = Predictor(directory, manifest, kind, processor, threads=fixed, batch=batch)
    if threads == "auto" and not predictor.tuned:
        predictor.tune()
    return predictor
