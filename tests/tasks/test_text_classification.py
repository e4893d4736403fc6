"""Labels for texts: long ones are answered by the mean of their windows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from edgecompress.errors import DataError
from edgecompress.processors import TextProcessor
from edgecompress.tasks import task, task_names
from edgecompress.tasks.base import softmax
from edgecompress.tasks.rows import IGNORED, input_ids
from edgecompress.texts import text_example, text_of, words_example

LABELS = ("ha", "pcm", "sw")
TASK = task("text-classification")


def test_rows_and_targets(preprocessor: TextProcessor) -> None:
    examples = [
        text_example(text="Rais wa Kenya", label="sw"),
        text_example(text=""),
        text_example(text=" \n"),
    ]
    encoded = TASK.rows(examples, preprocessor, LABELS)
    assert encoded.example.tolist() == [0, 1, 2]
    assert encoded.rows[1].feed["input_ids"].tolist() == [2, 3]
    targets = encoded.targets([0, 1])["labels"]
    assert targets.tolist() == [2, IGNORED]
    assert targets.dtype == np.int64


def test_long_texts_are_several_rows_and_one_answer(
    make_preprocessor: Callable[[int], TextProcessor],
) -> None:
    short = make_preprocessor(8)
    examples = [
        text_example(text="Rais wa Kenya " * 10, label="sw"),
        text_example(text="Di", label="pcm"),
    ]
    encoded = TASK.rows(examples, short, LABELS)
    (whole,) = short.encode_text([text_of(examples[0])])
    mine = np.concatenate(
        [
            row[1:-1]
            for row, owner in zip(input_ids(encoded), encoded.example, strict=True)
            if not owner
        ]
    )
    assert mine.tolist() == whole.tolist()
    assert encoded.lengths.max() <= 8
    logits = [np.array([3.0, 0.0, 1.0]) for _ in range(len(encoded))]
    logits[0] = np.array([-60.0, 0.0, 1.0])
    answers = TASK.decode(logits, encoded)
    assert answers.labels == (("sw",), ("ha",))
    mean = np.mean(logits[: np.sum(encoded.example == 0)], axis=0)
    assert answers.confidence[0] == pytest.approx(softmax(mean).max())


def test_a_tokenizer_without_specials_gives_no_empty_row(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    encoded = TASK.rows([text_example(text="")], TextProcessor.load(tmp_path), LABELS)
    assert encoded.lengths.tolist() == [1]


def test_wrong_labels_are_named(preprocessor: TextProcessor) -> None:
    with pytest.raises(DataError, match="'yo' is none of the model's: ha, pcm, sw"):
        TASK.rows([text_example(text="x", label="yo")], preprocessor, LABELS)
    with pytest.raises(DataError, match="no labels"):
        TASK.label_names([words_example(words=("a",), tags=("O",))])
    examples = [
        text_example(text="x", label="b"),
        text_example(text="y", label="a"),
        text_example(text="z"),
    ]
    assert TASK.label_names(examples) == ("a", "b")


def test_no_examples(preprocessor: TextProcessor) -> None:
    encoded = TASK.rows([], preprocessor, LABELS)
    assert TASK.decode([], encoded).labels == ()


def test_tasks_are_found_by_name() -> None:
    assert set(task_names()) >= {"masked-lm", "text-classification", "token-classification"}
    assert list(task_names()) == sorted(task_names())
    with pytest.raises(DataError, match="did you mean 'text-classification'"):
        task("text-clasification")
    with pytest.raises(DataError, match=r"there are .*masked-lm, .*text-classification"):
        task("xyz")
    assert text_of(TASK.ask("Di president")) == "Di president"


@settings(deadline=None)
@given(st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=9))
def test_softmax_is_a_distribution(logits: list[float]) -> None:
    found = softmax(np.array(logits))
    assert np.all(found >= 0)
    assert found.sum() == pytest.approx(1)
