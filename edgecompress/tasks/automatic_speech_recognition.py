"""The words that are said in a sound (Whisper); errors in words and in characters.

A sound is read in windows, as long as the model takes at once and cut where it is quietest; their
transcripts are put together. A model answers a window with one array of tokens: what asks it again
and again is part of the model (`edgecompress.models.joining`). Where times are asked for, each
window begins where the last segment before it ended.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.processors.sounds import Waveform, sound_seconds
from edgecompress.tasks._segments import clock, segments_of
from edgecompress.tasks._transcripts import CER, WER, edits, normalized
from edgecompress.tasks.answers import Answer, Answers, Findings, Score
from edgecompress.tasks.asking import Field, Form
from edgecompress.tasks.base import Floats, Floor
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.sounds import AUDIO, sound_from, sound_of
from edgecompress.tasks.written import Written, certainty, nobody
from edgecompress.values import Example, Json

TRIAL_SECONDS = (1.0, 5.0)
TIMES = Field(
    "timestamps", "true or false", "true", lambda value: isinstance(value, bool), "timestamps"
)
"""Whether an answer says when each of its parts is said."""


class AutomaticSpeechRecognition(Written):
    """The transcript of a sound."""

    name: ClassVar[str] = "automatic-speech-recognition"
    also_called: ClassVar[tuple[str, ...]] = ("asr", "speech-recognition", "speech-to-text")
    auto_class: ClassVar[str] = "AutoModelForSpeechSeq2Seq"
    architectures: ClassVar[tuple[str, ...]] = ("WhisperForConditionalGeneration",)
    metrics: ClassVar[tuple[Metric, ...]] = (WER, CER)
    target: ClassVar[str] = "text"
    processor: ClassVar[str] = "speech"
    forms: ClassVar[tuple[Form, ...]] = ((AUDIO,),)
    options: ClassVar[tuple[Field, ...]] = (TIMES,)
    streams: ClassVar[bool] = True
    sample: ClassVar[str] = "speech.wav"
    does: ClassVar[str] = "writes down what is said in a sound (automatic speech recognition)"
    windows: ClassVar[str] = "which are cut where it is quietest, and whose words are put together"

    def head_class(self, config: Any) -> type | None:
        """Give transformers' own, asked in a loop; only Whisper's is known."""
        head: Any = super().head_class(config) if config.model_type == "whisper" else None
        if head is None:
            return None
        # By its name, as it imports torch: what a task is for hangs on none (see surgery/model.py).
        made: type = import_module("edgecompress.modules.transcriber").transcriber_of(head)
        return made

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: it has no classes."""
        if any("audio" not in one.inputs for one in examples):
            raise DataError(f"{self.name} needs sounds; name their column (data.columns: audio)")
        return ()

    def check_judged(self, examples: Sequence[Example]) -> None:
        """Refuse examples none of which says what is right."""
        if examples and not any(normalized(str(one.target or "")) for one in examples):
            raise DataError(
                "no sound has a transcript, by which the model is judged; name its column "
                "(data.columns: text)"
            )

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - there are none
    ) -> Rows:
        """Turn each window that is not silent into a row."""
        self.label_names(examples)
        found = []
        for number, example in enumerate(examples):
            sound = sound_of(example)
            for start, stop in processor.windows(sound):
                feed = processor.window_feed(sound, start, stop)
                found.append(Row(feed, number, processor.cost(sound), target=nobody()))
        return Rows(tuple(found), examples, self, processor, ())

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each sound its transcript, empty where it is silent.

        The confidence is the tokens' mean probability (geometric).
        """
        how = rows.processor.decoding
        texts: list[list[str]] = [[] for _ in rows.examples]
        scores: list[list[float]] = [[] for _ in rows.examples]
        for row, values in zip(rows, outputs, strict=True):
            said, logs = self.written(values, how.end, len(how.forced))
            scores[row.example] += logs
            texts[row.example].append(rows.processor.text(said).strip())
        return Answers(
            tuple((" ".join(filter(None, each)),) for each in texts),
            tuple(map(certainty, scores)),
        )

    def in_turns(self, example: Example) -> bool:
        """Say whether times are asked for, by which windows are moved."""
        return bool(example.inputs.get(TIMES.name))

    def generate(
        self, graph: Any, example: Example, processor: Any
    ) -> Generator[str, None, Answer]:
        """Write window by window: its words, or a line for each of its segments.

        Raises
        ------
        DataError
            When times are asked for and the model writes none.
        """
        if self.in_turns(example):
            return (yield from self._timed(graph, example, processor))
        rows = self.rows([example], processor, ())
        outputs: list[Floats] = []
        for number in range(len(rows)):
            feed = rows.batch([number], processor.settings.inputs)
            outputs.append(graph(feed)["tokens"][0])
            (text,) = self.decode(outputs[-1:], rows.subset(np.array([number]))).labels[0]
            if text:
                yield f" {text}" if number else text
        return next(iter(self.decode(outputs, rows)))

    def _timed(self, graph: Any, example: Example, processor: Any) -> Generator[str, None, Answer]:
        how, sound = processor.decoding, sound_of(example)
        if how.times is None or TIMES.name not in {one.name for one in graph.optional}:
            raise DataError(
                "this model writes no times: its generation_config.json named no "
                "no_timestamps_token_id when it was joined; leave timestamps out"
            )
        samples, rate = processor.samples(sound), processor.settings.sampling_rate
        found: list[Json] = []
        scores: list[float] = []
        start = 0
        while start < len(samples):
            stop = min(start + int(processor.window), len(samples))
            moved = stop
            if not processor.silent(samples[start:stop]):
                window = processor.window_feed(sound, start, stop)
                feed = processor.batch([window], processor.settings.inputs)
                values = graph({**feed, TIMES.name: np.array(True)})["tokens"][0]
                said, logs = self.written(values, how.end, len(how.forced) - 1)
                scores += logs
                segments, next_one = segments_of(said, how.times)
                for begin, end, tokens in segments:
                    text = processor.text(tokens).strip()
                    last = stop if end is None else start + end * processor.time_samples
                    times = (start + begin * processor.time_samples, last)
                    if text:
                        said_at = [round(min(one, len(samples)) / rate, 2) for one in times]
                        found.append({"start": said_at[0], "end": said_at[1], "text": text})
                        yield ("\n" if len(found) > 1 else "") + _line(found[-1])
                if next_one:
                    moved = min(stop, start + next_one * processor.time_samples)
            start = moved
        whole = " ".join(one["text"] for one in found)
        return Answer((whole,), certainty(scores), {"segments": found})

    def seconds(self, example: Example) -> float:
        """Give how long the sound is."""
        return sound_seconds(sound_of(example))

    def agreement(self, a: Answers, b: Answers) -> float:
        """Give the share of words that two models write alike."""
        differing = total = 0
        for (one,), (other,) in zip(a.labels, b.labels, strict=True):
            words = [normalized(text).split() for text in (one, other)]
            differing += edits(*words)
            total += max(map(len, words))
        return 1 - differing / total if total else 1.0

    def by_label(
        self,
        answers: Answers,
        examples: Sequence[Example],
        labels: Sequence[str],  # noqa: ARG002
    ) -> list[Score]:
        """Score the worst transcript, the one with most wrong words."""
        counted = [
            (*WER.counts(answer, example), number)  # type: ignore[misc]
            for number, (answer, example) in enumerate(zip(answers, examples, strict=True))
        ]
        wrong, words, number = max(counted, default=(0, 0, 0), key=lambda one: one[0])
        if not wrong or not words:
            return []
        return [Score(WER.name, wrong / words, f"worst:{_named(examples[number], number)}", 1)]

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:  # noqa: ARG002
        """Write nothing: every word is missing."""
        if not any(isinstance(one.target, str) for one in known):
            return None
        return Floor(
            "never a word",
            "nothing",
            lambda examples: Answers((("",),) * len(examples), (np.ones(1),) * len(examples)),
        )

    def ask(self, question: Any) -> Example:
        """Make an example of a path, of a file's bytes or of a waveform."""
        found = super().ask(question)
        return Example({**found.inputs, "audio": sound_from(found.inputs["audio"])})

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the transcript, and the mean probability of its tokens."""
        sound = sound_of(example)
        named = {"audio": str(sound)} if isinstance(sound, Path) else {}
        said = {**named, "text": answer.labels[0], "score": float(answer.confidence[0])}
        return said | {key: answer.details[key] for key in ("segments",) if key in answer.details}

    def describe(self, said: Json) -> str:
        """Write the transcript on one line, or each of its segments on one."""
        if said.get("segments"):
            return "\n".join(map(_line, said["segments"]))
        return " ".join(str(said["text"]).split()) or "(no words)"

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give the words as they are compared."""
        return normalized(answer.labels[0]) or "no words"

    def trial(self) -> tuple[Example, ...]:
        """Give two made-up sounds."""
        random, rate = np.random.default_rng(0), 16000
        return tuple(
            Example(
                {"audio": Waveform(random.normal(0, 0.1, round(one * rate)).astype("f4"), rate)}
            )
            for one in TRIAL_SECONDS
        )


def _line(segment: Mapping[str, Any]) -> str:
    times = "–".join(clock(segment[name]) for name in ("start", "end"))
    return f"{times}  {' '.join(segment['text'].split())}"


def _named(example: Example, number: int) -> str:
    found: Mapping[str, Any] = example.inputs
    sound = found["audio"]
    return example.id or (sound.name if isinstance(sound, Path) else str(number + 1))
