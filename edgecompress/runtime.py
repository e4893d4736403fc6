"""Answer questions from a bundle with onnxruntime, tokenizers and numpy; never torch.

A text goes the same way here as in evaluation: the same encoding, one row at a time, the session
that the bundle's settings ask for, the same reading of the logits. So what was measured is what is
deployed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from edgecompress.bundle import load_manifest, verify_bundle
from edgecompress.errors import BundleError, DataError
from edgecompress.manifest import Manifest
from edgecompress.prediction import Entity, Prediction, find_entities
from edgecompress.values import Example, SessionSettings

if TYPE_CHECKING:
    from edgecompress.tasks import Encoded, Preprocessor, Task

__all__ = ["Entity", "Prediction", "Predictor", "load"]

_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")
_DTYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_ERRORS_ONLY = 3  # onnxruntime's severity: 0 verbose … 3 error, 4 fatal


def load(path: str | Path, *, threads: int | None = None, verify: bool = True) -> Predictor:
    """Open a bundle.

    Parameters
    ----------
    path : str or Path
        The bundle's directory.
    threads : int, optional
        Threads within an operator; all cores when left out.
    verify : bool
        Whether to compare the core with its digests first.

    Raises
    ------
    BundleError
        When the bundle is damaged, has no text side, or ONNX Runtime refuses its model.
    """
    from edgecompress.tasks import Preprocessor, task

    if threads is not None and threads < 1:
        raise ValueError(f"threads must be at least 1, not {threads}")
    directory = Path(path)
    manifest = verify_bundle(directory, evidence=False) if verify else load_manifest(directory)
    if manifest.task is None or manifest.preprocessor is None:
        raise BundleError(
            f"{directory}: has no {'task' if manifest.task is None else 'tokenizer'}, so it cannot "
            f"answer from text; open {manifest.model} with onnxruntime"
        )
    try:
        kind = task(manifest.task)
        preprocessor = Preprocessor.load(directory / manifest.preprocessor)
    except DataError as error:
        raise BundleError(f"{directory}: {error}") from None
    model = directory / manifest.model
    session = _open_session(model, manifest.session, threads)
    return Predictor(manifest, kind, preprocessor, session, model)


class Predictor:
    """A bundle that is open; made by `load`.

    Attributes
    ----------
    manifest : Manifest
        What the bundle says of itself: labels, task, recipe, steps.
    """

    def __init__(
        self,
        manifest: Manifest,
        task: Task,
        preprocessor: Preprocessor,
        session: Any,
        model: Path,
    ) -> None:
        self.manifest = manifest
        self._task, self._preprocessor, self._session = task, preprocessor, session
        self._model = model
        self._dtypes = {found.name: _DTYPES.get(found.type) for found in session.get_inputs()}
        unknown = [name for name, kind in self._dtypes.items() if name not in _INPUTS or not kind]
        if unknown:
            raise BundleError(f"{model}: wants an input {unknown[0]!r} that no text gives")
        outputs = {found.name: found.shape for found in session.get_outputs()}
        self._output = "logits" if "logits" in outputs else next(iter(outputs))
        self._check_classes((outputs[self._output] or [None])[-1])

    def __repr__(self) -> str:
        return f"<Predictor {self.manifest.name!r}: {self.manifest.task}>"

    @overload  # a str is an iterable of str too; the first overload wins, here and below
    def predict(self, text: str) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, text: Iterable[str]) -> list[Prediction]: ...

    def predict(self, text: str | Iterable[str]) -> Prediction | list[Prediction]:
        """Answer for one text, or for each of several.

        Texts of any length: what does not fit the model at once is read in windows. For token
        classification a text is first split into words at blanks and punctuation.

        Raises
        ------
        TypeError
            When `text` is neither text nor an iterable of it.
        DataError
            When a text is not valid Unicode.
        """
        if not isinstance(text, str):
            return [self.predict(_text(item)) for item in text]
        if self._task.name != "token-classification":
            return self._classify(text)
        from edgecompress.tasks.token_classification import split_words

        return self._tag(text, split_words(text))

    def predict_words(self, words: Sequence[str]) -> Prediction:
        """Tag a text that is split into words already.

        Returns
        -------
        Prediction
            Its `text` is the words joined by blanks, to which the entities' offsets refer.

        Raises
        ------
        DataError
            When the bundle does not tag words.
        """
        if isinstance(words, str):
            raise TypeError("words must be a list of words, not one text; use predict for texts")
        if self._task.name != "token-classification":
            raise DataError(f"this bundle does {self._task.name}; it takes texts, not words")
        spans, at = [], 0
        for word in words:
            spans.append((at, at + len(_text(word))))
            at += len(word) + 1
        return self._tag(" ".join(words), spans)

    def _classify(self, text: str) -> Prediction:
        example = self._task.example(text)
        encoded = self._task.encode([example], self._preprocessor, self.manifest.labels)
        logits = self._logits(encoded)
        answers = self._task.decode(logits, encoded, self.manifest.labels)
        from edgecompress.tasks.base import softmax

        # As `decode`: the mean over the text's windows, in float64.
        mean = np.stack(logits).sum(axis=0, dtype=np.float64) / len(logits)
        probabilities = softmax(mean).tolist()
        return Prediction(
            text=text,
            label=answers.labels[0][0],
            score=float(answers.confidence[0][0]),
            scores=dict(zip(self.manifest.labels, probabilities, strict=True)),
        )

    def _tag(self, text: str, spans: Sequence[tuple[int, int]]) -> Prediction:
        words = tuple(text[start:end] for start, end in spans)
        if not words:
            return Prediction(text=text)
        encoded = self._task.encode(
            [Example(words=words)], self._preprocessor, self.manifest.labels
        )
        answers = self._task.decode(self._logits(encoded), encoded, self.manifest.labels)
        tags = answers.labels[0]
        entities = find_entities(text, spans, tags, answers.confidence[0].tolist())
        return Prediction(text=text, entities=entities, words=words, tags=tags)

    def _logits(self, encoded: Encoded) -> list[np.ndarray[Any, Any]]:
        from onnxruntime.capi import onnxruntime_pybind11_state as state

        logits = []
        for row in range(len(encoded)):
            feed = self._task.feed(encoded, [row], self._preprocessor, tuple(self._dtypes))
            typed = {name: value.astype(self._dtypes[name]) for name, value in feed.items()}
            try:
                (output,) = self._session.run([self._output], typed)
            except (state.Fail, state.InvalidArgument, state.RuntimeException) as error:
                raise BundleError(
                    f"{self._model}: ONNX Runtime failed on this text ({_first_line(error)})"
                ) from None
            self._check_classes(output.shape[-1])  # a graph may leave their number open
            logits.append(np.asarray(output[0], dtype=np.float32))
        return logits

    def _check_classes(self, classes: object) -> None:
        labels = len(self.manifest.labels)
        if isinstance(classes, int) and classes != labels:
            raise BundleError(
                f"{self._model}: answers with {classes} classes, the manifest has {labels} labels"
            )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text must be a str, not {type(value).__name__}")
    return value


def _open_session(model: Path, settings: SessionSettings, threads: int | None) -> Any:
    # Read when onnxruntime is imported; without it, it writes below the user's cache folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    level = {"disable": "ORT_DISABLE_ALL"}.get(
        settings.graph_optimization_level, f"ORT_ENABLE_{settings.graph_optimization_level.upper()}"
    )
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.intra_op_num_threads = threads or 0  # 0: one per physical core
    options.inter_op_num_threads = 1
    options.log_severity_level = _ERRORS_ONLY
    # onnxruntime's exceptions share no base but Exception.
    refusals: tuple[type[Exception], ...] = (RuntimeError, ValueError)
    refusals += tuple(
        found
        for found in vars(state).values()
        if isinstance(found, type) and issubclass(found, Exception)
    )
    try:
        for key, value in settings.config_entries:
            options.add_session_config_entry(key, value)
        return ort.InferenceSession(
            os.fspath(model),
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=list(settings.disabled_optimizers) or None,
        )
    except refusals as error:
        raise BundleError(
            f"{model}: ONNX Runtime {ort.__version__} cannot open it ({_first_line(error)})"
        ) from None


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
