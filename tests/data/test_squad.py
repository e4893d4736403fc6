"""Questions about passages from files: SQuAD's JSON, and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from question_models import questions, write_squad

from edgecompress.data import data_config
from edgecompress.errors import DataError
from edgecompress.passages import RightAnswers
from edgecompress.tasks import task, wanted
from edgecompress.values import Example

CONTEXT = "Ada wrote  the first program in 1843, and Ada died in 1852."


def read(root: Path, name: str, form: str, **fields: Any) -> tuple[Example, ...]:
    data = data_config({"format": form, "root": root, "train": name, **fields})
    return data.for_task(wanted(task("question-answering"))).read("train")


def squad(root: Path, **question: Any) -> tuple[Example, ...]:
    asked = {"id": "q7", "question": "who?", "answers": [], **question}
    write_squad(root / "a.json", [{"context": CONTEXT, **asked}])
    return read(root, "a.json", "squad")


def test_both_versions_are_read(tmp_path: Path) -> None:
    records = questions(20)
    write_squad(tmp_path / "a.json", records)
    found = read(tmp_path, "a.json", "squad")
    for one, record in zip(found, records, strict=True):
        assert one.inputs == {key: record[key] for key in ("question", "context")}
        assert one.id == record["id"] and one.source == "a"
        places = [(each["text"], each["answer_start"]) for each in record["answers"]]
        assert list(zip(one.target.texts, one.target.starts, strict=True)) == places
    plausible = [{"text": "Ada", "answer_start": 0}]
    (none,) = squad(tmp_path, is_impossible=True, answers=plausible)
    assert none.target == RightAnswers()
    (first,) = squad(tmp_path, answers=[{"text": "Ada", "answer_start": 42}])
    assert first.target == RightAnswers(("Ada",), (42,))
    (old,) = squad(tmp_path)  # version 1.1 has no is_impossible
    assert old.target == RightAnswers()
    document = json.loads((tmp_path / "a.json").read_text())
    del document["data"][0]["paragraphs"][0]["qas"][0]["answers"]
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert read(tmp_path, "a.json", "squad")[0].target is None


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ({"answers": [{"text": "Ada", "answer_start": 4}]},
         "the question q7: the answer 'Ada' does not stand at character 4, where 'wro' is; it "
         "stands at 0"),
        ({"answers": [{"text": "Bob", "answer_start": 4}]}, "nor anywhere in the passage"),
        ({"answers": [{"text": "Ada", "answer_start": -1}]}, "a number from 0, not '-1'"),
        ({"answers": [{"text": "Ada", "answer_start": 0.5}]}, "a number from 0, not '0.5'"),
        ({"answers": [{"text": "", "answer_start": 4}]}, "must be a text that is not empty"),
        ({"answers": ["Ada", {"text": 3}]}, "must be a text that is not empty"),
        ({"answers": None}, r"data\[0\].paragraphs\[0\].qas\[0\] has no list 'answers'"),
        ({"question": " "}, "has no text 'question'"),
        ({"is_impossible": False}, "q7 has no answer and is not is_impossible"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_file_and_the_question(
    question: dict[str, Any], said: str, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said) as raised:
        squad(tmp_path, **question)
    assert "a.json" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("document", [[], {"data": {}}, {"data": [3]}, {"data": [{}]}, "x"])
def test_other_json_is_refused(document: Any, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match="so that this is no SQuAD file"):
        read(tmp_path, "a.json", "squad")


def lines(root: Path, **record: Any) -> tuple[Example, ...]:
    (root / "a.jsonl").write_text(
        json.dumps({"question": "who?", "context": CONTEXT, **record}) + "\n"
    )
    return read(root, "a.jsonl", "jsonl")


def test_records_hold_answers_in_all_usual_forms(tmp_path: Path) -> None:
    twice = RightAnswers(("Ada", "Ada"), (0, 42))
    starts = {"answer_start": [0, 42]}
    assert lines(tmp_path, answer=["Ada", "Ada"], **starts)[0].target == twice
    assert lines(tmp_path, answers={"text": ["Ada", "Ada"], **starts})[0].target == twice
    each = [{"text": "Ada", "answer_start": at} for at in (0, 42)]
    assert lines(tmp_path, answers=each)[0].target == twice
    assert lines(tmp_path, answer="Ada")[0].target == RightAnswers(("Ada",), (0,))
    assert lines(tmp_path, answer="Ada", answer_start=42)[0].target.starts == (42,)
    for nothing in ("", None, [], {"text": [], "answer_start": []}):
        assert lines(tmp_path, answer=nothing)[0].target == RightAnswers()
    (bare,) = lines(tmp_path, answer_start=3)
    assert bare.target is None and bare.inputs == {"question": "who?", "context": CONTEXT}
    with pytest.raises(DataError, match=r"a.jsonl:1: .*'Bob' does not stand in the passage"):
        lines(tmp_path, answer="Bob")
    with pytest.raises(DataError, match="2 answers have 1 starts"):
        lines(tmp_path, answer=["Ada", "Ada"], answer_start=0)


def test_a_table_names_its_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f'q;p;a;s\nwho?;"{CONTEXT}";Ada;42\nwhy?;"{CONTEXT}";;\n')
    columns = {"question": "q", "context": "p", "answer": "a", "answer_start": "s"}
    found = read(tmp_path, "a.csv", "csv", columns=columns)
    assert [one.target for one in found] == [RightAnswers(("Ada",), (42,)), RightAnswers()]
    assert found[0].inputs["context"] == CONTEXT  # its blanks stay, or the places would move
    with pytest.raises(DataError, match=r"a.csv.*there is no column 'question'"):
        read(tmp_path, "a.csv", "csv")
