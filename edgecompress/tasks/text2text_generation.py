"""A text for a text: a translation, a summary, an answer (T5, BART, Marian and their like)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from edgecompress.errors import DataError
from edgecompress.metrics import Metric
from edgecompress.tasks._wordings import CHRF, EXACT, plain
from edgecompress.tasks.answers import Answer, Answers, Findings
from edgecompress.tasks.base import Floats, Floor
from edgecompress.tasks.rows import Row, Rows
from edgecompress.tasks.written import Written, certainty, is_told, nobody
from edgecompress.texts import text_of
from edgecompress.values import Example, Json

KINDS = {
    "t5": "T5ForConditionalGeneration",
    "mt5": "MT5ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
    "marian": "MarianMTModel",
    "pegasus": "PegasusForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration",
}
"""Types of models that answer it, and the class of each: others end alike and read no texts."""


class Text2TextGeneration(Written):
    """A text that is written for a text."""

    name: ClassVar[str] = "text2text-generation"
    also_called: ClassVar[tuple[str, ...]] = (
        "text-to-text", "seq2seq", "translation", "summarization",
    )  # fmt: skip
    auto_class: ClassVar[str] = "AutoModelForSeq2SeqLM"
    architectures: ClassVar[tuple[str, ...]] = tuple(KINDS.values())
    metrics: ClassVar[tuple[Metric, ...]] = (CHRF, EXACT)
    target: ClassVar[str] = "target"
    processor: ClassVar[str] = "sources"
    does: ClassVar[str] = "writes a text for a text, such as its translation"

    def head_class(self, config: Any) -> type | None:
        """Give transformers' own, asked in a loop."""
        head: Any = super().head_class(config) if config.model_type in KINDS else None
        if head is None:
            return None
        # By its name, as it imports torch: what a task is for hangs on none (see surgery/model.py).
        made: type = import_module("edgecompress.modules.transcriber").writer_of(head)
        return made

    def label_names(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Give none: it has no classes."""
        if not any(text_of(example).strip() for example in examples):
            raise DataError(f"the data holds no text; {self.name} needs some")
        return ()

    def check_judged(self, examples: Sequence[Example]) -> None:
        """Refuse examples none of which says what is right."""
        if not is_told(examples):
            raise DataError(
                "no text has the one that is to be written for it, by which the model is judged; "
                "name its column (data.columns: target)"
            )

    def rows(
        self,
        examples: Sequence[Example],
        processor: Any,
        classes: Sequence[str],  # noqa: ARG002 - there are none
    ) -> Rows:
        """Turn each text into a row.

        Raises
        ------
        DataError
            When a text is longer than the model takes.
        """
        found = []
        encoded = processor.encode_text([text_of(example) for example in examples])
        for number, (example, ids) in enumerate(zip(examples, encoded, strict=True)):
            if len(ids) > processor.capacity:
                where = f" ({example.source})" if example.source else ""
                raise DataError(
                    f"a text has {len(ids)} tokens{where}, and the model takes "
                    f"{processor.capacity}; shorten it, as nothing is cut off unasked"
                )
            row = processor.with_specials(ids)
            found.append(Row({"input_ids": row}, number, len(row), target=nobody()))
        return Rows(tuple(found), examples, self, processor, ())

    def decode(self, outputs: Sequence[Floats], rows: Rows) -> Answers:
        """Give each text the one that is written; its confidence is its tokens' mean probability.

        The mean is geometric.
        """
        how = rows.processor.decoding
        given = [self.written(one, how.end, len(how.forced)) for one in outputs]
        return Answers(
            tuple((rows.processor.text(said).strip(),) for said, _ in given),
            tuple(certainty(logs) for _, logs in given),
        )

    def floor(self, known: Sequence[Example], processor: Any) -> Floor | None:  # noqa: ARG002
        """Write the most frequent text for every one."""
        counted = Counter(plain(one.target) for one in known if isinstance(one.target, str))
        if not counted:
            return None
        (best, _), *_ = counted.most_common(1)
        return Floor(
            "always the most frequent text",
            f"«{best[:60]}»",
            lambda examples: Answers(((best,),) * len(examples), (np.ones(1),) * len(examples)),
        )

    def say(self, answer: Answer, example: Example) -> Json:
        """Say what was asked, what is written, and the mean probability of its tokens."""
        score = float(answer.confidence[0])
        return {"text": text_of(example), "answer": answer.labels[0], "score": score}

    def describe(self, said: Json) -> str:
        """Write the text."""
        return str(said["answer"])

    def findings(self, answer: Answer, example: Example) -> Findings:  # noqa: ARG002
        """Give the text as it is compared."""
        return plain(answer.labels[0])
