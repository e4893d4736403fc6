"""What a task is: how examples become rows of ids, and how logits become answers and scores.

One task per file; its file's name, with dashes, is its name: ``token_classification.py`` is
``token-classification``. Everything here needs numpy only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError, StageError
from edgecompress.metrics import Metric
from edgecompress.tables import Need
from edgecompress.tasks.answers import Answer, Answers, Findings, Score
from edgecompress.tasks.asking import TEXT, Field, Form, read_question
from edgecompress.tasks.compare import agreement
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.scoring import scores, value_of
from edgecompress.tasks.taught import Taught
from edgecompress.texts import text_of
from edgecompress.values import Example, Feed, Json

Floats = NDArray[np.floating[Any]]

SAID = ("text", "text_pair")
TRIAL_WORDS = (10, 40)  # short inputs: a phrase and a sentence


@dataclass(frozen=True)
class Floor:
    """What answers without looking at the input: whoever learned anything gives better answers.

    Attributes
    ----------
    name : str
        What it does, in plain words that fit every data set: its row in results is called so.
    says : str
        What it answers on this data, for a sentence.
    answers : callable
        Gives its answers to examples.
    """

    name: str
    says: str
    answers: Callable[[Sequence[Example]], Answers]


class Task(Taught, ABC):
    """A kind of question: how to encode it, what to learn from, how to read and score answers."""

    name: ClassVar[str]
    """As recipes write it."""
    also_called: ClassVar[tuple[str, ...]] = ()
    """What others call it (a pipeline, a usual data set): who writes that is told its name."""
    metrics: ClassVar[tuple[Metric, ...]]
    """What its answers are scored by; the first stands for the task."""
    label_metric: ClassVar[Metric | None] = None
    """What `by_label` gives of every label; None where it gives nothing of labels."""
    labelled: ClassVar[bool] = True
    """Whether its classes are the labels of the data."""
    processor: ClassVar[str] = "text"
    """The kind of processor that makes its rows."""
    forms: ClassVar[tuple[Form, ...]] = ((TEXT,),)
    """What a question may hold: one of these, the usual one first; none where nothing is asked."""
    records: ClassVar[tuple[Form, ...]] = ()
    """What a record of data may hold, where it is not what a question may."""
    options: ClassVar[tuple[Field, ...]] = ()
    """What may stand beside any question."""
    generates: ClassVar[bool] = False
    """Whether a model gives logits for the next token, and is asked again and again."""
    streams: ClassVar[bool] = False
    """Whether answers can come piece by piece (`generate`)."""
    likelihoods: ClassVar[str] = ""
    """Of the outputs nothing is read but the likeliest class, and how likely the right one is among
    a row's `Row.target` of this name; empty for tasks that read more. Machines then give back no
    more than that."""
    refusal: ClassVar[str] = ""
    """Why nothing can be asked, where there are no forms."""
    target: ClassVar[str] = "label"
    """What the right answer is called in data."""
    unsent: ClassVar[tuple[str, ...]] = ()
    """Keys of what `say` gives that Python is given and JSON is not."""
    sample: ClassVar[str] = "Jamhuri ya Kenya"
    """What a person may ask on a command line; any text does, this one suits what we ship."""
    does: ClassVar[str] = ""
    """What a model of it does, in words that go on from «it»."""
    windows: ClassVar[str] = ""
    """What happens to the windows of a long input, in words that go on from them."""
    answers: ClassVar[Need] = "ignored"
    """Whether records hold the right answer, where it is none of the classes (not `labelled`)."""
    kept: ClassVar[tuple[str, ...]] = ()
    """Arrays among the details of answers by which these are scored."""

    @abstractmethod
    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give the classes that `examples` hold, in a stable order.

        Raises
        ------
        DataError
            When the examples are not of this task.
        """

    @abstractmethod
    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        """Turn examples into rows; of those that nobody labelled, the labels are `IGNORED`.

        Parameters
        ----------
        examples : sequence of Example
        processor : Processor
            Of the kind that `processor` names.
        classes : sequence of str

        Raises
        ------
        DataError
            When an example holds a label that is not among `classes`.
        """

    def compact_at(self, outputs: Floats, labels: NDArray[np.int64]) -> Floats:  # noqa: ARG002
        """Keep of the outputs at places that have labels what `decode` reads, where `redraws`."""
        return outputs

    def play(self, runner: Callable[[Mapping[str, Any]], Feed], feed: Mapping[str, Any]) -> Feed:
        """Ask a model about a batch: here once; what generates asks again and again."""
        return runner(feed)

    def compact(self, output: Floats, row: Row) -> Floats:
        """Keep of a row's output what `decode` reads of it: here what is no padding.

        Parameters
        ----------
        output : float (length, …) or (…)
            Of one row of a batch; the first axis is that of steps where rows are `stepwise`.
        """
        return output[: row.cost] if self.stepwise(row) else output

    def stepwise(self, row: Row) -> bool:
        """Whether the answer to a row has a part for each of its steps, by the row's target."""
        first = self.outputs[0]
        return row.target[first.target].ndim > (first.kind == "vector")

    @abstractmethod
    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Read the answers from the outputs.

        Parameters
        ----------
        outputs : sequence of float (length, classes) or (classes,)
            One per row, as `compact` leaves them.
        rows : Rows
        """

    def agreement(self, a: Answers, b: Answers) -> float:
        """Say how far two models answer alike, from 0 to 1: the share of equal labels."""
        return agreement(a, b)

    def texts(self, example: Example, processor: Any) -> Sequence[str]:  # noqa: ARG002
        """Give the texts whose pieces stand in rows of their own, in the order of the rows."""
        return (text_of(example),)

    def timed(self, example: Example) -> Example:
        """Give what is timed of an example: one question as a device is asked it."""
        return example

    def seconds(self, example: Example) -> float:  # noqa: ARG002
        """Give how long what an example holds lasts, where time goes by in it (a sound)."""
        return 0.0

    def finished(self, inputs: Mapping[str, Any], target: Any, told: bool) -> tuple[Any, Any]:  # noqa: ARG002
        """Hold the values of a record against each other; `told`: the data has right answers."""
        return inputs, target

    def check_judged(self, examples: Sequence[Example]) -> None:  # noqa: ARG002
        """Refuse examples by which no answer can be judged (DataError)."""
        return

    def score(
        self, answers: Answers, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[Score]:
        """Compare answers with the right ones: over all, per label and per data file."""
        parts = self.by_label(answers, examples, labels)
        return scores(self.metrics, answers, examples, labels, parts)

    def by_label(
        self,
        answers: Answers,  # noqa: ARG002
        examples: Sequence[Example],  # noqa: ARG002
        labels: Sequence[str],  # noqa: ARG002
    ) -> list[Score]:
        """Score parts of the answers by what is right there (``label:PER``); none, mostly."""
        return []

    def of_label(self, label: str) -> Metric | None:  # noqa: ARG002
        """Give `label_metric` of one label as a sum over examples; None where it is no sum."""
        return None

    def quality(
        self, answers: Answers, examples: Sequence[Example], labels: Sequence[str]
    ) -> float:
        """Give the first metric over all, turned so that more is better: what training climbs."""
        value, _ = value_of(self.metrics[0], answers, examples, labels)
        return value if self.metrics[0].higher_is_better else -value

    def tuned(self, answers: Answers, examples: Sequence[Example]) -> Json | None:  # noqa: ARG002
        """Choose settings of the processor by which answers are read better; None for none.

        Parameters
        ----------
        answers : Answers
            To validation examples.
        examples : sequence of Example

        Returns
        -------
        dict or None
            ``settings`` as `Processor.settle` takes them, and the first metric ``before`` and
            ``after``.
        """
        return None

    @abstractmethod
    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:
        """Give what answers every example alike: the figure that a model must beat.

        Parameters
        ----------
        known : sequence of Example
            Whose classes (or pieces) are counted: the training split.
        processor : Processor or None
            Tokenizer of the model that is judged, for a task whose classes are its pieces.

        Returns
        -------
        Floor or None
            None where `known` holds nothing to count, or the processor that is needed is None.
        """

    def ask(self, question: Any) -> Example:
        """Make an example of a question: a mapping in one of `forms`, or a value of one alone.

        With a mapping may stand what the task takes beside a question (`options`).

        Raises
        ------
        DataError
            When it is none; the text says what the task takes.
        """
        if not self.forms:
            raise DataError(f"{self.name} {self.refusal or 'is asked nothing'}")
        given = {}
        if isinstance(question, Mapping):
            known = {one.name: one for one in self.options}
            given = {key: question[key] for key in question if key in known}
            question = {key: value for key, value in question.items() if key not in known}
            for key, value in given.items():
                if not known[key].fits(value):
                    raise DataError(f"{key} must be {known[key].what}")
        return Example({**read_question(question, self.forms, self.name), **given})

    def in_turns(self, example: Example) -> bool:  # noqa: ARG002
        """Whether what a model is asked next hangs on what it has answered: `generate` asks it."""
        return self.generates

    def generate(
        self, graph: Any, example: Example, processor: Any
    ) -> Generator[str, None, Answer]:
        """Answer a question piece by piece, where it `streams`; what it returns is the whole.

        `graph` is a `generation.decoding.Graph`; of a model of several parts a mapping of them.
        """
        raise NotImplementedError(f"{self.name} generates nothing")

    def say(self, answer: Answer, example: Example) -> Json:
        """Say an answer in JSON: the label, its probability, and that of every class.

        A text that was asked about stands first, and so do both of a pair.
        """
        texts = {key: example.inputs[key] for key in SAID if key in example.inputs}
        said = {**texts, "label": answer.labels[0], "score": float(answer.confidence[0])}
        names, scores = (answer.details.get(key) for key in ("classes", "scores"))
        if scores is not None and names is not None:
            said["scores"] = dict(zip(names, scores.tolist(), strict=True))
        return said

    def describe(self, said: Json) -> str:
        """Write what `say` gives for a person, on one line or a few."""
        text = "  ".join(" ".join(str(said[key]).split()) for key in SAID if key in said)
        return f"{said['label']}  {said['score']:.1%}  {text}".rstrip()

    def right(self, example: Example) -> Answer | None:
        """Give the answer that would be right; None where nobody has said it."""
        if example.target is None:
            return None
        labels = example.target if isinstance(example.target, tuple) else (str(example.target),)
        return Answer(labels, np.ones(len(labels)))

    def answered(self, examples: Sequence[Example], answers: Answers) -> list[Json]:
        """Write a model's own answers as the records of labelled data."""
        said = [each if self.target == "tags" else each[0] for each in answers.labels]
        pairs = zip(examples, said, strict=True)
        return [{**one.inputs, self.target: right} for one, right in pairs]

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give what of an answer is compared with another's: the label, or what was found."""
        return answer.labels[0]

    def scope(self, labels: Sequence[str]) -> str:  # noqa: ARG002
        """Say what a model with these classes cannot answer, for its card; empty for nothing."""
        return ""

    def trial(self) -> tuple[Example, ...]:
        """Give two short inputs, by which the number of threads is chosen; none where it cannot."""
        words = [tuple(str(number % 100) for number in range(count)) for count in TRIAL_WORDS]
        return tuple(self.ask(" ".join(each)) for each in words) if (TEXT,) in self.forms else ()


def softmax(logits: Floats) -> NDArray[np.float64]:
    """Softmax over the last axis in float64, safe from overflow: (…, classes) to the same."""
    shifted = logits.astype(np.float64) - np.max(logits, axis=-1, keepdims=True)
    powers: NDArray[np.float64] = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True)


def label_id(ids: dict[str, int], label: str, example: Example) -> int:
    """Look a label's class up.

    Raises
    ------
    DataError
        When it is not a class, saying where it stands and which ones there are.
    """
    found = ids.get(label)
    if found is None:
        where = f" (in {example.source})" if example.source else ""
        known = ", ".join(list(ids)[:20])
        raise DataError(f"label {label!r}{where} is none of the model's: {known}")
    return found


def check_outputs(outputs: Sequence[Floats], rows: Rows) -> None:
    """Check that there is one array for each row, all of it numbers.

    Raises
    ------
    ValueError
        When the rows do not match.
    StageError
        When a number is NaN or infinite: no answer can be read from such a model.
    """
    if len(outputs) != len(rows):
        raise ValueError(f"{len(outputs)} arrays of outputs for {len(rows)} rows")
    for row, values in enumerate(outputs):
        if not np.isfinite(values).all():
            raise StageError(
                f"the model gives NaN or infinite logits (input row {row}); "
                "the step before broke it: try a gentler setting there"
            )
