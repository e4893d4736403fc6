"""Answer questions from a bundle with onnxruntime, tokenizers and numpy; never torch.

A text goes the same way here as in evaluation: the same encoding, the session that the bundle's
settings ask for, the same reading of the logits, and one row at a time where a batch would change
answers. So what was measured is what is deployed.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from edgecompress.bundle.digests import core_digest
from edgecompress.bundle.manifest import Manifest, newer_runtime
from edgecompress.errors import BundleError, DataError
from edgecompress.generation.states import begins
from edgecompress.models.session import (
    ORT_ERRORS,
    VERSION,
    bare_session,
    first_line,
    input_specs,
    session_options,
)
from edgecompress.runtime import threads as thread_counts
from edgecompress.runtime.batching import as_text, length_batches, size_of
from edgecompress.runtime.beside import Beside, read_beside, with_beside
from edgecompress.runtime.generated import check_graph, pieces_of, whole
from edgecompress.runtime.prediction import Prediction
from edgecompress.values import Example, Json

if TYPE_CHECKING:
    from edgecompress.processors import Processor
    from edgecompress.tasks import Rows, Task
    from edgecompress.tasks.asking import Field, Form

Question = str | bytes | Path | Sequence[str] | Mapping[str, Any] | Example
"""What a bundle may be asked; its task says which of these it takes."""

BATCH = 8
"""Rows of a batch where batches do not change answers (docs/runtime.md has what it gains)."""

_AHEAD = 16  # batches of texts that are sorted by length together
_AHEAD_CHARACTERS = 1_000_000  # of such texts: bounds memory where texts are long
_LOGITS = ("tensor(float)", "tensor(float16)", "tensor(double)")
_DTYPES = ("int64", "int32", "uint8", "bool", "float32", "float16")


class Predictor:
    """A bundle that is open; made by `load`. Several threads may ask it at the same time.

    Attributes
    ----------
    manifest : Manifest
        What the bundle says of itself: labels, task, recipe, steps.
    threads : int
        Threads within an operator.
    tuned : bool
        Whether that number was given or measured on this machine, and not assumed.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        task: Task,
        processor: Processor,
        *,
        threads: int | None,
        batch: int | None,
    ) -> None:
        self.manifest = manifest
        self._directory, self._model = directory, directory / manifest.model
        self._task, self._processor = task, processor
        self._beside: Json = {}
        self._classes = task.outputs[0].kind == "categorical" and task.labelled
        known = threads or thread_counts.remembered(self._memory())
        self.tuned = known is not None
        self._open(known or thread_counts.usable_cores())
        if task.generates:
            check_graph(self._session, self._model)
        inputs = [found for found in input_specs(self._session) if not begins(found)]
        self._dtypes = {found.name: found.dtype for found in inputs}
        for name, dtype in self._dtypes.items():
            if dtype not in _DTYPES or not processor.gives(name, np.dtype(dtype).type):
                what = f"an input {name!r} that no {processor.kind} gives"
                raise BundleError(f"{self._model}: wants {what}")
        sizes = {found.shape[0] for found in inputs if found.shape}
        self._fixed_batch = any(isinstance(size, int) for size in sizes)
        if self._fixed_batch and (batch or 1) > 1:
            raise DataError(f"{self._model}: takes one row at a time; leave batch {batch} out")
        self._batch = 1 if self._fixed_batch else batch
        outputs = {found.name: found for found in self._session.get_outputs()}
        wanted = task.outputs[0].name
        self._output = wanted if wanted in outputs else next(iter(outputs), "")
        answer = outputs.get(self._output)
        if answer is None or answer.type not in _LOGITS:
            said = "nothing" if answer is None else answer.type
            raise BundleError(f"{self._model}: answers with {said}, not with scores of classes")
        self._check_classes((answer.shape or [None])[-1])

    def __repr__(self) -> str:
        return f"<Predictor {self.manifest.name!r}: {self.manifest.task}>"

    @property
    def batch(self) -> int:
        """Most rows that the model is given at once.

        1 for a graph that quantizes activations while it runs (dynamic int8): their range is taken
        over the whole batch, so that an answer would depend on its neighbours, and the bundle was
        judged one row at a time. Other models give the same answers up to rounding. Also 1 where
        rows differ so that they cannot stand in one batch (images that keep their proportions).
        """
        if self._batch is None:
            from edgecompress.runtime.operators import batches_change_answers

            alone = batches_change_answers(self._model) or not self._processor.stacks
            self._batch = 1 if alone else BATCH
        return self._batch

    @overload  # a str is an iterable of str too; the first overload wins, here and below
    def predict(self, text: str) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, text: Iterable[str]) -> list[Prediction]: ...

    def predict(self, text: str | Iterable[str]) -> Prediction | list[Prediction]:
        """Answer for one text, or for each of several, in their order.

        Texts of any length: what does not fit the model at once is read in windows. For token
        classification a text is first split into words at blanks and punctuation.

        Raises
        ------
        TypeError
            When `text` is neither text nor an iterable of it.
        DataError
            When a text is not valid Unicode.
        """
        if isinstance(text, str):
            return self.answer(text)
        return list(self.stream(as_text(item) for item in text))

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
        return self.answer(tuple(words))

    def similarity(self, a: str, b: str) -> float:
        """Say how near two texts are, by the cosine of their vectors: from -1 to 1.

        Raises
        ------
        DataError
            When the bundle compares no texts.
        """
        found = self.answer({"text": a, "text_pair": b})
        if found.similarity is None:
            raise DataError(f"this bundle does {self._task.name}, and compares no texts")
        return found.similarity

    def answer(self, question: Question) -> Prediction:
        """Answer whatever the bundle's task takes: a text, words, a mapping, an example.

        Raises
        ------
        DataError
            When it takes something else; the text says what.
        """
        return self._answer([self._example(question)])[0]

    def pieces(self, question: Question) -> Generator[str, None, Prediction]:
        """Answer a question piece by piece, as soon as each is certain; `answer` gives the whole.

        Raises
        ------
        DataError
            When the bundle's task answers all at once, or takes something else.
        """
        if not self.streams:
            raise DataError(f"this bundle does {self._task.name}, and answers all at once")
        return self._pieces(self._example(question))

    def _pieces(self, example: Example) -> Generator[str, None, Prediction]:
        return pieces_of(self._task, self._session, self._model, example, self._processor)

    def always(self, settings: Beside) -> None:
        """Put settings beside every question that does not say them itself (temperature=0.7).

        Raises
        ------
        DataError
            When the bundle's task takes none of this name, or another value.
        """
        self._beside = read_beside(settings, self._task)

    @property
    def options(self) -> tuple[Field, ...]:
        """What may stand beside a question."""
        return self._task.options

    @property
    def streams(self) -> bool:
        """Whether answers can come piece by piece."""
        return self._task.streams

    def describe(self, said: Prediction) -> str:
        """Write an answer for a person, on one line or a few."""
        return self._task.describe(said.said)

    @property
    def forms(self) -> tuple[Form, ...]:
        """What a question may hold."""
        return self._task.forms

    @property
    def takes_text(self) -> bool:
        """Whether a line of text alone can be a question."""
        return any(len(form) == 1 and form[0].fits("") for form in self.forms)

    def stream(self, texts: Iterable[Question]) -> Iterator[Prediction]:
        """Answer texts, or lists of words, one after the other, in their order and lazily.

        Mappings and examples are answered, too, as `answer` takes them.

        No more is read ahead than 16 batches, which are sorted by length together; with a `batch`
        of 1 nothing is. So memory does not grow with the number of texts.

        Raises
        ------
        TypeError, DataError
            As `predict` and `predict_words`.
        """
        waiting = (self._example(item) for item in texts)
        for first in waiting:
            chunk, size = [first], size_of(first)
            wanted = self.batch * _AHEAD if self.batch > 1 else 1
            while len(chunk) < wanted and size < _AHEAD_CHARACTERS:
                following = next(waiting, None)
                if following is None:
                    break
                chunk.append(following)
                size += size_of(following)
            yield from self._answer(chunk)

    def tune(self, limit_s: float = thread_counts.LIMIT_S) -> dict[int, float]:
        """Measure with how many threads short inputs are answered soonest here, and remember it.

        The answers stay the same; `threads` becomes the smallest number that none beats by more
        than 5 %. On a machine with one usable core nothing is measured.

        Parameters
        ----------
        limit_s : float
            Seconds of inferences; the model is opened once per number beside that.

        Returns
        -------
        dict of int to float
            Median milliseconds of a phrase and a sentence, by the number of threads.
        """
        tried = thread_counts.counts(thread_counts.usable_cores())
        if len(tried) == 1:
            self._use(tried[0])
            return {}
        examples = () if self._task.generates else self._task.trial()
        if not examples:
            return {}
        rows = self._task.rows(examples, self._processor, self.manifest.labels)

        def prepare(count: int) -> Any:
            self._use(count)
            return lambda: self._logits(rows, 1)

        times = thread_counts.fastest(prepare, tried, limit_s=limit_s)
        count = thread_counts.choose(times)
        self._use(count)
        thread_counts.remember(self._memory(), count, times)
        return times

    def _use(self, threads: int) -> None:
        if threads != self.threads:
            self._open(threads)
        self.tuned = True

    def _open(self, threads: int) -> None:
        try:
            options = session_options(self.manifest.session, threads)
            self._session = bare_session(self._model, self.manifest.session, options)
        except ORT_ERRORS as error:
            made_with = newer_runtime(self.manifest, VERSION)
            hint = f"it was made with {made_with}: install onnxruntime {made_with} or later"
            raise BundleError(
                f"{self._model}: ONNX Runtime {VERSION} cannot open it ({first_line(error)})"
                + (f"; {hint}" if made_with else "")
            ) from None
        self.threads = threads

    def _memory(self) -> Path | None:
        # The list of the core's digests stands for all of them.
        try:
            core = core_digest(self._directory)
        except OSError:  # not verified, and not needed to answer
            core = str(self._directory.absolute())
        return thread_counts.memory_file(core, VERSION)

    def _example(self, item: Question) -> Example:
        given = item.inputs if isinstance(item, Example) else item
        asked = with_beside(given, self._beside, self._task)
        one = isinstance(asked, str | bytes | Mapping) or hasattr(asked, "__array__")
        return self._task.ask(tuple(asked) if isinstance(asked, Iterable) and not one else asked)

    def _answer(self, examples: Sequence[Example]) -> list[Prediction]:
        if any(map(self._task.in_turns, examples)):
            return [whole(self._pieces(one)) for one in examples]
        rows = self._task.rows(examples, self._processor, self.manifest.labels)
        answers = self._task.decode(self._logits(rows, self.batch if len(rows) > 1 else 1), rows)
        return [
            Prediction(self._task.say(answer, example), self._task.unsent, answer)
            for answer, example in zip(answers, examples, strict=True)
        ]

    def _logits(self, rows: Rows, batch: int) -> list[np.ndarray[Any, Any]]:
        """Run the model: what it answers to each row without its padding, float32."""
        lengths = rows.lengths.tolist()
        masked = "attention_mask" in self._dtypes
        logits: list[np.ndarray[Any, Any]] = [np.empty(0)] * len(rows)
        session = self._session  # `tune` may replace it meanwhile

        def ask(feed: Mapping[str, Any]) -> dict[str, Any]:
            dtypes = self._dtypes
            typed = {name: one.astype(dtypes[name], copy=False) for name, one in feed.items()}
            return dict(zip([self._output], session.run([self._output], typed), strict=True))

        for numbers in length_batches(lengths, batch, padding=masked):
            feed = rows.batch(numbers, tuple(self._dtypes))
            try:
                output = self._task.play(ask, feed)[self._output]
            except ORT_ERRORS as error:
                raise BundleError(
                    f"{self._model}: ONNX Runtime failed on this text ({first_line(error)})"
                ) from None
            steps = (max(lengths[number] for number in numbers),) if rows.stepwise else ()
            if self._task.outputs[0].candidates:
                steps = output.shape[1:2]
            width = len(self.manifest.labels) if self._classes else output.shape[-1]
            output = self._checked(output, (len(numbers), *steps, width))
            for number, values in zip(numbers, output, strict=True):
                logits[number] = self._task.compact(values, rows.rows[number])
        return logits

    def _checked(self, output: np.ndarray[Any, Any], wanted: tuple[int, ...]) -> Any:
        """Give logits as float32 (rows, classes) or (rows, steps, classes), if they are some.

        A graph may leave its shapes open, so that they are known only now.
        """
        if output.shape and len(output.shape) == len(wanted):
            self._check_classes(output.shape[-1])
        if output.shape != wanted:
            raise BundleError(
                f"{self._model}: answers in the shape {list(output.shape)}, and "
                f"{self._task.name} wants {list(wanted)}"
            )
        output = np.asarray(output, dtype=np.float32)
        if not np.isfinite(output).all():
            raise BundleError(f"{self._model}: its answer holds numbers that are not finite")
        return output

    def _check_classes(self, classes: object) -> None:
        labels = len(self.manifest.labels)
        if self._classes and isinstance(classes, int) and classes != labels:
            raise BundleError(
                f"{self._model}: answers with {classes} classes, the manifest has {labels} labels"
            )
