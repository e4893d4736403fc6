"""Two texts in one row: as tokenizers put them together, classified or given a number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import write_checkpoint
from hypothesis import given
from hypothesis import strategies as st
from sentence_models import scored_pairs

from edgecompress.data import data_config
from edgecompress.engine.single import guess_task
from edgecompress.errors import DataError
from edgecompress.processors import TextProcessor
from edgecompress.processors.text import _fitting
from edgecompress.targets.torch_answers import torch_answers
from edgecompress.tasks import Answers, task, wanted
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Example

PAIRS = [Example({key: one[key] for key in ("text", "text_pair")}, one["score"])
         for one in scored_pairs(5)]  # fmt: skip
LONG = "Rais wa Kenya aliwasili Nairobi siku ya Jumatatu pamoja na mawaziri"


def test_a_row_is_what_tokenizers_make_of_both(
    make_preprocessor: Callable[[int], TextProcessor],
) -> None:
    from tokenizers import Tokenizer

    texts = ("", "Abuja", "Di president don land for Lagos", LONG, f"{LONG} {LONG}")
    for most in (9, 16, 64):
        processor = make_preprocessor(most)
        theirs = Tokenizer.from_str(processor.tokenizer.to_str())
        theirs.enable_truncation(most)
        for first in texts:
            for second in texts[1:]:
                made = processor.pair(*processor.encode_text([first, second]))
                right = theirs.encode(first, second)
                assert made["input_ids"].tolist() == right.ids
                assert made["token_type_ids"].tolist() == right.type_ids


@given(*[st.integers(0, 30)] * 3)
def test_what_is_kept_fits(first: int, second: int, room: int) -> None:
    kept = _fitting(first, second, room)
    assert kept[0] <= first and kept[1] <= second
    assert sum(kept) == min(first + second, room)


def test_a_batch_of_pairs_has_their_segments(preprocessor: TextProcessor) -> None:
    classify = task("text-classification")
    examples = [
        Example({"text": "Abuja a", "text_pair": "a - a"}, "x"),
        Example({"text": "a"}, "y"),
    ]
    rows = classify.rows(examples, preprocessor, ("x", "y"))
    given = rows.batch([0, 1], ["input_ids", "token_type_ids"])
    kinds = preprocessor.tokenizer.encode("Abuja a", "a - a").type_ids
    assert given["token_type_ids"].tolist() == [kinds, [0] * len(kinds)]


@pytest.mark.parametrize("head", ["text-classification", "text-ranking"])
def test_a_cross_encoder_gives_what_transformers_gives(head: str, tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer

    names = ("no", "yes", "maybe") if head == "text-classification" else ("LABEL_0",)
    module = write_checkpoint(tmp_path / "hf", "Bert", "text-classification", names)
    with_pairs(tmp_path / "hf" / "tokenizer.json")
    assert guess_task(tmp_path / "hf") == head
    candidate = import_teacher(str(tmp_path / "hf"), head, None, tmp_path / "in")
    found = torch_answers(candidate, PAIRS)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    for example, details in zip(PAIRS, found.details, strict=True):
        given = tokenizer(
            *example.inputs.values(), return_tensors="pt", truncation=True,
            return_token_type_ids=True,
        )  # fmt: skip
        with torch.inference_mode():
            logits = module(**given).logits[0]
        if head == "text-ranking":
            assert float(details["similarity"]) == pytest.approx(float(logits[0]), abs=1e-5)
        else:
            assert np.allclose(details["scores"], logits.softmax(-1).numpy(), atol=1e-5)


def with_pairs(file: Path) -> None:
    """Let a tokenizer of tests put two texts together."""
    from tokenizers import Tokenizer, processors

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )  # fmt: skip
    tokenizer.save(str(file))


def test_pairs_are_asked_and_answered() -> None:
    kind = task("text-ranking")
    example = kind.ask({"text": "je", "text_pair": "na"})
    rows = type("Rows", (), {"__len__": lambda _: 1, "examples": [example]})
    answer = next(iter(kind.decode([np.array([0.25])], rows())))
    said = kind.say(answer, example)
    assert json.loads(json.dumps(said)) == {"text": "je", "text_pair": "na", "score": 0.25}
    assert kind.describe(said) == "0.2500  je  na"
    with pytest.raises(DataError, match="it takes texts with text_pairs, not str"):
        kind.ask("je")


def test_a_second_text_that_is_missing_is_named(tmp_path: Path) -> None:
    def read(text: str) -> Any:
        (tmp_path / "a.csv").write_text(text)
        config = data_config({"format": "csv", "root": tmp_path, "train": "a.csv"})
        return config.for_task(wanted(task("text-ranking"))).read("train")

    with pytest.raises(DataError, match=r"a\.csv.*no column 'text_pair'|text_pair"):
        read("text,score\nje,1\n")
    with pytest.raises(DataError, match=r"a\.csv:3.*text_pair is empty"):
        read("text,text_pair,score\nje,na,1\nje,,1\n")
    assert read("text,text_pair,score\nje,na,1\n")[0].target == 1.0
    with pytest.raises(DataError, match="no example is a pair of texts with a score"):
        task("text-ranking").check_judged([Example({"text": "a", "text_pair": "b"})])


def test_a_model_agrees_with_itself_also_where_all_pairs_get_one_number() -> None:
    same, other = (
        Answers(((), ()), (np.zeros(0),) * 2, tuple({"similarity": one} for one in numbers))
        for numbers in ((0.5, 0.5), (1.0, 0.5))
    )
    asked = task("text-ranking")
    assert asked.agreement(same, same) == asked.agreement(other, other) == 1
    assert asked.agreement(same, other) == 0
