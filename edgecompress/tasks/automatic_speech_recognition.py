"""The words that are said in a sound (Whisper); errors in words and in characters.

A sound is read in windows, as long as the model takes at once and cut where it is quietest; their
transcripts are put together. A model answers a window with one array of tokens: what asks it again
and again is part of the model (`edgecompress.models.joining`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError, StageError
from edgecompress.metrics import Metric
from edgecompress.modules.speech_files import decoding_of, write_decoding
from edgecompress.processors.sounds import Waveform, sound_seconds
from edgecompress.tables import Need
from edgecompress.tasks._transcripts import CER, WER, edits, normalized
from edgecompress.tasks.answers import Answer, Answers, Findings, Score
from edgecompress.tasks.asking import Form
from edgecompress.tasks.base import Floats, Floor, Task
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.sounds import AUDIO, sound_from, sound_of
from edgecompress.tasks.taught import Output
from edgecompress.texts import Wording
from edgecompress.values import Example, Json

TRIAL_SECONDS = (1.0, 5.0)


class AutomaticSpeechRecognition(Task):
    """The transcript of a sound."""

    name: ClassVar[str] = "automatic-speech-recognition"
    also_called: ClassVar[tuple[str, ...]] = ("asr", "speech-recognition", "speech-to-text")
    auto_class: ClassVar[str] = "AutoModelForSpeechSeq2Seq"
    architectures: ClassVar[tuple[str, ...]] = ("WhisperForConditionalGeneration",)
    metrics: ClassVar[tuple[Metric, ...]] = (WER, CER)
    outputs: ClassVar[tuple[Output, ...]] = (Output("tokens", "vector", candidates=True),)
    labelled: ClassVar[bool] = False
    answers: ClassVar[Need] = "welcome"
    target: ClassVar[str] = "text"
    processor: ClassVar[str] = "speech"
    forms: ClassVar[tuple[Form, ...]] = ((AUDIO,),)
    sample: ClassVar[str] = "speech.wav"
    does: ClassVar[str] = "writes down what is said in a sound (automatic speech recognition)"
    windows: ClassVar[str] = "which are cut where it is quietest, and whose words are put together"
    unchanged: ClassVar[str] = "encoders with a decoder cannot be cut, trained or distilled yet"
    in_parts: ClassVar[bool] = True
    proposed: ClassVar[tuple[Any, ...]] = (
        ["export", "quantize.dynamic", "join"],
        [
            "export",
            {"quantize.dynamic": {"part": "encoder"}},
            {"quantize.weights": {"part": "decoder", "embedding_bits": 8}},
            "join",
        ],
        [
            "export",
            {"quantize.dynamic": {"part": "encoder"}},
            {"quantize.weights": {"part": "decoder"}},
            "join",
        ],
    )

    def head_class(self, config: Any) -> type | None:
        """Give transformers' own, asked in a loop; only Whisper's is known."""
        head: Any = super().head_class(config) if config.model_type == "whisper" else None
        if head is None:
            return None
        # By its name, as it imports torch: what a task is for hangs on none (see surgery/model.py).
        made: type = import_module("edgecompress.modules.transcriber").transcriber_of(head)
        return made

    def complete(self, config: Any, source: Path) -> None:
        """Note in the configuration how the model is asked."""
        config.decoding = decoding_of(source).to_json()

    def take_files(self, source: Path, folder: Path) -> None:
        """Take how the model is asked."""
        write_decoding(decoding_of(source), folder)

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: it has no classes."""
        if any("audio" not in one.inputs for one in examples):
            raise DataError(f"{self.name} needs sounds; name their column (data.columns: audio)")
        return ()

    def finished(
        self,
        inputs: Mapping[str, Any],
        target: Any,
        told: bool,  # noqa: ARG002
    ) -> tuple[Mapping[str, Any], Any]:
        """Take a transcript for what it is: words, and no class."""
        return inputs, target if target is None else Wording(target)

    def check_judged(self, examples: Sequence[Example]) -> None:
        """Refuse examples none of which says what is right."""
        if examples and not any(normalized(str(one.target or "")) for one in examples):
            raise DataError(
                "no sound has a transcript, by which the model is judged; name its column "
                "(data.columns: text)"
            )

    def stepwise(self, row: Row) -> bool:  # noqa: ARG002
        """Say that an answer is as long as its transcript, whatever its row is."""
        return False

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - there are none
    ) -> Rows:
        """Turn each window that is not silent into a row."""
        self.label_names(examples)
        nobody = {"labels": np.full(1, np.nan, np.float32)}
        found = []
        for number, example in enumerate(examples):
            sound = sound_of(example)
            for start, stop in processor.windows(sound):
                feed = processor.window_feed(sound, start, stop)
                found.append(Row(feed, number, processor.cost(sound), target=nobody))
        return Rows(tuple(found), examples, self, processor, ())

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each sound its transcript, empty where it is silent.

        The confidence is the tokens' mean probability (geometric).
        """
        how = rows.processor.decoding
        texts: list[list[str]] = [[] for _ in rows.examples]
        scores: list[list[float]] = [[] for _ in rows.examples]
        for row, values in zip(rows, outputs, strict=True):
            if values.ndim != 2 or values.shape[-1] != 2 or np.isnan(values).any():
                raise StageError(
                    f"the model gives {list(values.shape)} for a window, and {self.name} reads a "
                    "token and its probability a step; put `join` behind the export"
                )
            kept = values[len(how.forced) :]
            ends = np.flatnonzero(kept[:, 0] == how.end)
            said = kept[: ends[0] if len(ends) else None]
            scores[row.example] += kept[: ends[0] + 1 if len(ends) else None, 1].tolist()
            texts[row.example].append(rows.processor.text(said[:, 0].astype(np.int64)).strip())
        return Answers(
            tuple((" ".join(filter(None, each)),) for each in texts),
            tuple(np.exp(np.array([sum(one) / max(1, len(one))])) for one in scores),
        )

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
        return Example({"audio": sound_from(found.inputs["audio"])})

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the transcript, and the mean probability of its tokens."""
        sound = sound_of(example)
        named = {"audio": str(sound)} if isinstance(sound, Path) else {}
        return {**named, "text": answer.labels[0], "score": float(answer.confidence[0])}

    def describe(self, said: Json) -> str:
        """Write the transcript on one line."""
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


def _named(example: Example, number: int) -> str:
    found: Mapping[str, Any] = example.inputs
    sound = found["audio"]
    return example.id or (sound.name if isinstance(sound, Path) else str(number + 1))
