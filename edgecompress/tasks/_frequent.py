"""What answers by counting alone, for tasks whose classes are the tokens of the vocabulary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edgecompress.tasks.answers import Answers
from edgecompress.tasks.base import Floor, Task
from edgecompress.tasks.rows import IGNORED
from edgecompress.texts import running_text
from edgecompress.values import Example


def most_frequent(
    task: Task, known: Sequence[Example], processor: Any, called: str
) -> Floor | None:
    """Give every token its share of `known`, whatever stands around its place.

    Each token of the vocabulary is counted once more (Laplace's rule of succession), so that none
    is impossible.

    Parameters
    ----------
    task : Task
        Its `decode` takes log probabilities of right tokens beside likeliest tokens, (places, 2).
    known : sequence of Example
    processor : Processor or None
    called : str
        What a token is to the task: a piece, a token.
    """
    if processor is None:
        return None
    texts = [running_text(example) for example in known]
    tokens = np.concatenate([np.zeros(0, np.int64), *processor.encode_text(texts)])
    if not len(tokens):
        return None
    tokenizer = processor.tokenizer
    size = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values())
    counts = np.bincount(tokens, minlength=size)
    best = int(counts.argmax())
    logs = np.log((counts + 1) / (counts.sum() + len(counts)))

    def answers(examples: Sequence[Example]) -> Answers:
        rows = task.rows(examples, processor, ())
        taught = [row.target["labels"] for row in rows]
        right = [labels[labels != IGNORED] for labels in taught]
        given = [np.stack((logs[ids], np.full(len(ids), best)), axis=-1) for ids in right]
        return task.decode(given, rows)

    said = tokenizer.decode([best]) or tokenizer.id_to_token(best)
    return Floor(f"always the most frequent {called}", f"«{said}» in every place", answers)
