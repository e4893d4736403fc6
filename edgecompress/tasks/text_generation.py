"""Text that goes on from a text or a chat, token by token; perplexity on texts that exist.

Models are judged by the probability that they give to each token of a text, read in windows of
`WINDOW` tokens that do not see each other; perplexity is the inverse of its geometric mean
(Jelinek et al., 1977, "Perplexity: a measure of the difficulty of speech recognition tasks").
"""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from edgecompress.errors import DataError
from edgecompress.generation.chat import is_messages
from edgecompress.generation.decoding import CachedDecoder, Graph, generate
from edgecompress.generation.likelihoods import likelihoods
from edgecompress.generation.sampling import Sampling
from edgecompress.generation.text import pieces_of_text
from edgecompress.metrics import ANSWERS, Metric
from edgecompress.processors.prompts import take_prompt_files
from edgecompress.tasks._frequent import most_frequent
from edgecompress.tasks.answers import Answer, Answers, Findings
from edgecompress.tasks.asking import TEXT, Field, Form
from edgecompress.tasks.base import Floats, Floor, Task, check_outputs
from edgecompress.tasks.rows import IGNORED, Row, Rows
from edgecompress.texts import running_text
from edgecompress.values import Example, Json

WINDOW = 512
"""Most tokens of a text that are judged together."""
COMPACT = 2
"""Columns of what is kept of the outputs: log probability of the right token, likeliest token."""


def _number(low: float, high: float, *, whole: bool = False) -> Any:
    kinds = int if whole else int | float

    def fits(value: Any) -> bool:
        return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high

    return fits


def _is_stop(value: Any) -> bool:
    listed = [value] if isinstance(value, str) else value
    return isinstance(listed, list | tuple) and all(isinstance(x, str) and x for x in listed)


MESSAGES = Field(
    "messages",
    'a list of objects with a "role" (system, user or assistant) and a "content"',
    '[{"role": "user", "content": "…"}]',
    is_messages,
    "messages",
)
SETTINGS = (
    Field("max_new_tokens", "a whole number from 1", "128", _number(1, 10**6, whole=True), ""),
    Field("temperature", "a number from 0 (the likeliest token)", "0.7", _number(0, 100), ""),
    Field("top_k", "a whole number from 0 (all tokens)", "50", _number(0, 10**7, whole=True), ""),
    Field("top_p", "a number from 0 to 1", "0.9", _number(0, 1), ""),
    Field("repetition_penalty", "a number above 0", "1.1", _number(1e-3, 1e3), ""),
    Field("stop", "a string or a list of strings, none of them empty", '["\\n"]', _is_stop, ""),
    Field("seed", "a whole number from 0", "0", _number(0, 2**63, whole=True), ""),
)


def _logs(answer: Answer, example: Example) -> tuple[float, int]:  # noqa: ARG001
    """Sum the log probabilities of a text's tokens, and count these."""
    # A probability that is 0 in float64 counts as the smallest that is not.
    known = np.log(np.maximum(answer.confidence, np.finfo(np.float64).tiny))
    return known.sum(), len(answer.confidence)


def _perplexity(counts: Floats) -> Floats:
    found: Floats = np.exp(-counts[..., 0] / np.maximum(counts[..., 1], 1))
    return found


def _bits(answer: Answer, example: Example) -> tuple[float, int]:
    return _logs(answer, example)[0], len(running_text(example).encode("utf-8", "replace"))


def _bits_per_byte(counts: Floats) -> Floats:
    found: Floats = -counts[..., 0] / np.maximum(counts[..., 1], 1) / math.log(2)
    return found


PERPLEXITY = Metric(
    "perplexity",
    "Perplexity",
    f"inverse of the geometric mean of the probabilities given to the tokens of texts, in windows "
    f"of {WINDOW} tokens",
    "",
    needs=ANSWERS,
    counts=_logs,
    value=_perplexity,
)
BITS_PER_BYTE = Metric(
    "bits_per_byte",
    "Bits per byte",
    "the same over the bytes of the texts, so that models with other tokenizers compare",
    "bit",
    needs=ANSWERS,
    counts=_bits,
    value=_bits_per_byte,
)


class TextGeneration(Task):
    """Text that goes on from a text or a chat."""

    name: ClassVar[str] = "text-generation"
    also_called: ClassVar[tuple[str, ...]] = ("causal-lm", "llm", "language-model", "completion")
    auto_class: ClassVar[str] = "AutoModelForCausalLM"
    processor: ClassVar[str] = "prompts"
    metrics: ClassVar[tuple[Metric, ...]] = (PERPLEXITY, BITS_PER_BYTE)
    labelled: ClassVar[bool] = False
    redraws: ClassVar[bool] = True
    generates: ClassVar[bool] = True
    streams: ClassVar[bool] = True
    likelihoods: ClassVar[str] = "labels"
    forms: ClassVar[tuple[Form, ...]] = ((TEXT,), (MESSAGES,))
    records: ClassVar[tuple[Form, ...]] = ((TEXT,),)
    options: ClassVar[tuple[Field, ...]] = SETTINGS
    sample: ClassVar[str] = "The capital of France is"
    does: ClassVar[str] = "goes on from a text or a chat"
    windows: ClassVar[str] = "which do not see each other"
    architectures: ClassVar[tuple[str, ...]] = ("ForCausalLM", "LMHeadModel")
    proposed: ClassVar[tuple[Any, ...]] = (
        ["export", {"quantize.weights": {"linear_bits": 8, "embedding_bits": 8}}],
        [
            "export",
            {"quantize.weights": {"linear_bits": 4, "offsets": True, "embedding_bits": 8}},
        ],
    )

    def take_files(self, source: Path, folder: Path) -> None:
        """Take the chat template and what ends an answer."""
        take_prompt_files(source, folder)

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: the classes are the tokens of the vocabulary."""
        if not any(running_text(example) for example in examples):
            raise DataError(f"the data holds no text; {self.name} needs some")
        return ()

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - the classes are the tokenizer's tokens
    ) -> Rows:
        """Turn texts into windows of at most `WINDOW` tokens, each token teaching the next one.

        Where the tokenizer puts no token before a text, a window begins with the last token of the
        one before, so that all tokens but the first of a text are judged. In a row's `place`,
        ``positions`` int64 (tokens,) are the places where the next token is asked for.
        """
        found = []
        before = np.array(processor.prefix, np.int64)
        size = min(WINDOW, processor.max_length)
        texts = [running_text(example) for example in examples]
        for number, ids in enumerate(processor.encode_text(texts)):
            room = size - len(before)
            step = room if len(before) else room - 1
            for start in range(0, max(1, len(ids) - (not len(before))), step):
                row = np.concatenate((before, ids[start : start + room]))
                if len(row) < 2:
                    continue
                label = np.append(row[1:], IGNORED)
                label[: max(0, len(before) - 1)] = IGNORED
                place = {"positions": np.flatnonzero(label != IGNORED)}
                found.append(Row({"input_ids": row}, number, len(row), place, {"labels": label}))
        return Rows(tuple(found), examples, self, processor, ())

    def compact(self, output: Floats, row: Row) -> Floats:
        """Keep of a row's logits what is read of them, float64 (judged tokens, 2)."""
        if output.shape[-1] == COMPACT:
            return output
        at = row.place["positions"]
        return self.compact_at(output[at], row.target["labels"][at])

    def compact_at(self, outputs: Floats, labels: NDArray[np.int64]) -> Floats:
        """Keep of logits (tokens, vocabulary) what is read of them, float64 (tokens, 2)."""
        return likelihoods(outputs, labels)

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give the likeliest token in the place of each, and the probability of the right one.

        Parameters
        ----------
        outputs : sequence of float (length, vocabulary) or (judged tokens, 2)
            Whole, or what `compact` keeps of them.
        rows : Rows
        """
        check_outputs(outputs, rows)
        kept: list[list[Floats]] = [[] for _ in rows.examples]
        for row, values in zip(rows, outputs, strict=True):
            kept[row.example].append(self.compact(values, row))
        whole = [np.concatenate(each) if each else np.zeros((0, COMPACT)) for each in kept]
        return Answers(
            tuple(tuple(map(str, each[:, 1].astype(np.int64).tolist())) for each in whole),
            tuple(np.exp(each[:, 0]) for each in whole),
        )

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:
        """Give every token its share of `known`, whatever stands before it.

        Each token of the vocabulary is counted once more (Laplace), so that none is impossible.
        """
        return most_frequent(self, known, processor, "token")

    def generate(
        self, graph: Graph, example: Example, processor: Any
    ) -> Generator[str, None, Answer]:
        """Answer a question piece by piece; the answer as a whole comes with the end.

        Raises
        ------
        DataError
            When the prompt is empty, or longer than the model takes.
        """
        inputs = example.inputs
        chat = "messages" in inputs
        text = processor.chat(inputs["messages"]) if chat else inputs["text"]
        (ids,) = processor.encode_text([text])
        prefix = np.array(processor.prefix, np.int64)
        if not chat or not np.array_equal(ids[: len(prefix)], prefix):
            ids = np.concatenate((prefix, ids))  # a chat template writes it itself, mostly
        room = processor.max_length - len(ids)
        if not len(ids):
            raise DataError("the prompt is empty, and this model needs a token to go on from")
        if room < 1:
            raise DataError(
                f"the prompt has {len(ids)} tokens, and the model takes {processor.max_length} "
                "together with its answer; shorten it"
            )
        how = sampling_of(inputs, processor.followed)
        how = replace(how, max_new_tokens=min(how.max_new_tokens, room))
        tokens: list[int] = []

        def noted() -> Generator[int, None, None]:
            for token in generate(CachedDecoder(graph), ids, how, processor.ends):
                tokens.append(token)
                yield token

        pieces = []
        for piece in pieces_of_text(processor.tokenizer, noted(), how.stop):
            pieces.append(piece)
            yield piece
        details = {"tokens": np.array(tokens, np.int64), "prompt_tokens": len(ids)}
        return Answer(("".join(pieces),), np.ones(1), details)

    def say(self, answer: Answer, example: Example) -> Json:
        """Say the answer in JSON, beside what was asked, with the number of tokens of both."""
        asked = {key: example.inputs[key] for key in ("text", "messages") if key in example.inputs}
        counts = {
            "prompt_tokens": int(answer.details["prompt_tokens"]),
            "tokens": len(answer.details["tokens"]),
        }
        return {**asked, "answer": answer.labels[0], **counts}

    def describe(self, said: Json) -> str:
        """Write the answer."""
        return str(said["answer"])

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give the answer as a whole."""
        return answer.labels[0]


def sampling_of(inputs: Mapping[str, Any], followed: Mapping[str, Any]) -> Sampling:
    """Give how tokens are chosen: as the question says, else as Sampling does.

    Of the model's own settings the repetition penalty is followed, as it is part of what the model
    answers when always the likeliest token is taken.
    """
    given = {one.name: inputs[one.name] for one in fields(Sampling) if one.name in inputs}
    own = followed.get("repetition_penalty")
    if "repetition_penalty" not in given and isinstance(own, int | float) and own > 0:
        given["repetition_penalty"] = float(own)
    if "stop" in given:
        given["stop"] = (given["stop"],) if isinstance(given["stop"], str) else given["stop"]
    return Sampling(**given)
