"""One label for a sound, or the words that are heard in a stream; false accepts an hour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.metrics import ANSWERS, Metric
from edgecompress.processors.sounds import Waveform, sound_seconds
from edgecompress.tasks import metrics
from edgecompress.tasks._streams import heard, window_starts
from edgecompress.tasks.answers import Answer, Answers, Score
from edgecompress.tasks.asking import Form
from edgecompress.tasks.base import Floats, check_outputs, label_id, softmax
from edgecompress.tasks.one_label import OneLabel
from edgecompress.tasks.rows import IGNORED, Row, Rows
from edgecompress.tasks.sounds import AUDIO, sound_from, sound_of
from edgecompress.texts import label_of
from edgecompress.values import Example, Json

TRIAL = ((1.0, 16000), (3.0, 16000))
"""Seconds and rates of made-up sounds: a word and a sentence."""
HOUR = 3600


def accept_counts(answer: Answer, example: Example) -> tuple[int, float]:
    """Count the words of one recording that were heard and not said, and its seconds."""
    words = [str(word) for word in answer.details.get("heard", ())]
    return sum(word != label_of(example) for word in words), float(
        answer.details.get("seconds", 0.0)
    )


def accepts_per_hour(sums: Any) -> Any:
    """Give how many there are in an hour, from sums of `accept_counts`."""
    seconds = np.asarray(sums[..., 1], np.float64)
    return HOUR * sums[..., 0] / np.where(seconds > 0, seconds, np.inf)


FALSE_ACCEPTS = Metric(
    "false_accepts", "False accepts per hour",
    "words that are heard in an hour of sound in which nobody says them",
    unit="1/h", needs=ANSWERS, optional=True, counts=accept_counts, value=accepts_per_hour,
)  # fmt: skip


class AudioClassification(OneLabel):
    """One label per sound; of a recording that is longer than a window, the words in it."""

    name: ClassVar[str] = "audio-classification"
    also_called: ClassVar[tuple[str, ...]] = ("keyword-spotting", "sound-classification")
    auto_class: ClassVar[str] = "AutoModelForAudioClassification"
    architectures: ClassVar[tuple[str, ...]] = (
        "ForAudioClassification",
        "ForSequenceClassification",  # of Wav2Vec2, HuBERT and their like
    )
    metrics: ClassVar[tuple[Metric, ...]] = (
        metrics.ACCURACY,
        metrics.MACRO_F1,
        metrics.ECE,
        FALSE_ACCEPTS,
    )
    processor: ClassVar[str] = "audio"
    forms: ClassVar[tuple[Form, ...]] = ((AUDIO,),)
    unsent: ClassVar[tuple[str, ...]] = ("scores",)
    kept: ClassVar[tuple[str, ...]] = ("heard", "seconds")
    sample: ClassVar[str] = "word.wav"
    does: ClassVar[str] = "gives a sound one label (audio classification, keyword spotting)"

    def models(self) -> tuple[type, ...]:
        """Give networks that spot keywords, which transformers lacks."""
        made = import_module("edgecompress.modules.keyword_networks")
        return (made.ResKeywordForAudioClassification,)

    def rows(self, examples: Sequence[Example], processor: Any, classes: Sequence[str]) -> Rows:
        """Give each window of each sound a row, whose array is made when it is asked for.

        A sound has one window, unless the model's files say how a stream is listened to.

        Raises
        ------
        DataError
            When a label is not among `classes`.
        """
        ids = {label: index for index, label in enumerate(classes)}
        stream, window = processor.settings.stream, processor.window
        found = []
        for number, example in enumerate(examples):
            sound, label = sound_of(example), label_of(example)
            gold = np.array(label_id(ids, label, example) if label else IGNORED, np.int64)
            seconds = sound_seconds(sound)
            starts = np.zeros(1)
            if stream is not None and window is not None:
                rate = processor.settings.sampling_rate
                starts = window_starts(seconds, window / rate, stream.stride)
            cost = processor.cost(sound)
            for start in starts.tolist():
                place = {"start": np.array(start), "seconds": np.array(seconds)}
                feed = processor.feed(sound, start)
                found.append(Row(feed, number, cost, place, {"labels": gold}))
        return Rows(tuple(found), examples, self, processor, tuple(classes))

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each sound its label, and each stream the words that are heard in it.

        Where a stream's files say how it is listened to, details are ``heard``, the words, str
        (words,), ``at``, seconds from the beginning, ``sure``, their probabilities, float64
        (words,), and ``seconds``, how long it is.
        """
        settings = rows.processor.settings
        if settings.stream is None:
            found = super().decode(outputs, rows)
            nothing = {"heard": np.zeros(0, np.str_), "seconds": np.zeros(())}
            return replace(found, details=tuple({**one, **nothing} for one in found.details))
        check_outputs(outputs, rows)
        probabilities = softmax(np.array(outputs).reshape(len(rows), len(rows.classes)))
        window = rows.processor.window / settings.sampling_rate
        made = []
        for number in range(len(rows.examples)):
            mine = np.flatnonzero(rows.example == number)
            places = [rows.rows[row].place for row in mine]
            starts = np.array([float(place["start"]) for place in places])
            seconds = places[0]["seconds"]
            made.append(
                heard(
                    probabilities[mine], starts, window, float(seconds), rows.classes,
                    settings.stream,
                )
            )  # fmt: skip
        return Answers(
            tuple(one.labels for one in made),
            tuple(one.confidence for one in made),
            tuple(one.details for one in made),
        )

    def score(
        self, answers: Answers, examples: Sequence[Example], labels: Sequence[str]
    ) -> list[Score]:
        """Score by all metrics; false accepts only where words of a stream are listened for."""
        listened = any(one.get("seconds", 0) > 0 for one in answers.details)
        found = super().score(answers, examples, labels)
        return [one for one in found if listened or one.metric != FALSE_ACCEPTS.name]

    def ask(self, question: Any) -> Example:
        """Make an example of a path, of a file's bytes, or of samples and their rate."""
        found = super().ask(question)
        return Example({"audio": sound_from(found.inputs["audio"])})

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the label and its probability, and of a stream the words with their seconds."""
        sound = sound_of(example)
        named = {"audio": str(sound)} if isinstance(sound, Path) else {}
        said = {**named, **super().say(answer, example)}
        details = answer.details
        if details.get("windows", 1) > 1:
            parts = zip(details["heard"], details["at"], details["sure"], strict=True)
            said["heard"] = [
                {"label": str(word), "at": round(float(at), 3), "score": float(sure)}
                for word, at, sure in parts
            ]
        return said

    def describe(self, said: Json) -> str:
        """Write the label, its probability and the file on one line, and a line for each word."""
        first = f"{said['label']}  {said['score']:.1%}  {said.get('audio', '')}".rstrip()
        words = said.get("heard", ())
        further = [f"  {one['at']:.2f} s  {one['label']}  {one['score']:.1%}" for one in words]
        return "\n".join([first, *further])

    def scope(self, labels: Sequence[str]) -> str:
        """Say that every sound gets a label."""
        if not labels:
            return ""
        all_of_them = f"It gives every sound one of its {len(labels)} labels"
        return f"{all_of_them}, also silence and a sound that is none of them."

    def trial(self) -> tuple[Example, ...]:
        """Give two made-up sounds."""
        random = np.random.default_rng(0)
        sounds = [
            Waveform(random.normal(0, 0.1, round(seconds * rate)).astype(np.float32), rate)
            for seconds, rate in TRIAL
        ]
        return tuple(self.ask({"audio": sound}) for sound in sounds)
