"""A model that finds answers through a whole recipe: trained, made smaller, and asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import in_process
from question_models import questions, write_question_model, write_squad
from serving import running

import edgecompress
from edgecompress.errors import DataError

RECIPE = """
name: questions
task: question-answering
teacher: {model: body, finetune: {epochs: 10, learning_rate: 5e-3, batch_size: 16}}
data: {format: squad, train: train.json, validation: dev.json, test: test.json}
stages:
  - prune.structured: {heads: 0, ffn: 0.5, importance: taylor}
  - distil: {epochs: 3, learning_rate: 2e-3, layer_map: uniform}
  - export
  - fuse
  - quantize.dynamic
profile:
  {min_duration_ms: 100, warmup_ms: 0, max_warmup_ms: 50, min_count: 20, cold_starts: 0,
   attempts: 1}
budget: {f1: {max_drop: 30%}}
minimize: size
"""
CONTEXT = "waka na leo jiya Amina sokoni alienda Kano"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the recipe was run."""
    folder = tmp_path_factory.mktemp("questions")
    write_question_model(folder / "body")
    for name, count, seed in (("train", 240, 0), ("dev", 60, 1), ("test", 60, 2)):
        write_squad(folder / f"{name}.json", questions(count, seed))
    (folder / "recipe.yaml").write_text(RECIPE)
    done = in_process("run", "recipe.yaml", "-o", "out", "--store", "store", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def bundle(made: Path) -> Any:
    return edgecompress.load(made / "out" / "bundle")


def test_what_was_lost_is_measured(made: Path) -> None:
    result = json.loads((made / "out" / "results.json").read_text())
    rows = {row["name"]: row for row in result["rows"]}
    found = {
        (one["metric"], one["split"]): one
        for one in rows[result["winner"]]["measurements"]
        if one["slice"] is None
    }
    assert found["f1", "test"]["value"] > 0.7 and found["f1", "test"]["samples"] == 60
    assert found["exact_match", "test"]["value"] <= found["f1", "test"]["value"]
    low, high = found["f1_drop", "test"]["interval"]
    assert low <= found["f1_drop", "test"]["value"] <= high
    card = (made / "out" / "bundle" / "evidence" / "README.md").read_text()
    assert "finds the part of a passage that answers a question" in card


def test_a_bundle_answers(bundle: Any) -> None:
    said = bundle.answer({"question": "je", "context": CONTEXT}).to_json()
    assert said["answer"] == CONTEXT[said["start"] : said["end"]] == "Amina"
    assert 0 <= said["no_answer"] <= 1 and 0 < said["score"] <= 1
    assert bundle.answer({"question": "ta", "context": CONTEXT}).said["answer"] == "Kano"
    none = bundle.answer({"question": "ta", "context": CONTEXT.replace("Kano", "leo")})
    assert none.said["answer"] == "" and "start" not in none.said
    far = f"{'leo na jiya ' * 12}{CONTEXT}"
    assert bundle.answer({"question": "ta", "context": far}).said["start"] == len(far) - 4
    with pytest.raises(DataError, match="it takes a question with a context, not str"):
        bundle.predict("leo")
    with pytest.raises(DataError, match="context must be a text that is not empty"):
        bundle.answer({"question": "je", "context": " "})


def test_the_command_line_and_the_service_answer(made: Path, bundle: Any) -> None:
    asked = {"question": "je", "context": CONTEXT}
    said = in_process("predict", "out/bundle", json.dumps(asked), "--json", cwd=made)
    answer = json.loads(said.stdout)
    assert answer == bundle.answer(asked).to_json()
    plain = in_process("predict", "out/bundle", json.dumps(asked), cwd=made).stdout
    assert "Amina  [17:22]" in plain
    (made / "asked.jsonl").write_text(json.dumps({**asked, "id": 3}) + "\n")
    said = in_process("predict", "out/bundle", "--input", "asked.jsonl", "--json", cwd=made)
    assert json.loads(said.stdout)["answer"] == "Amina"
    with running(made / "out" / "bundle") as server:
        assert server.predict(**asked).json["answer"] == "Amina"
        refused = server.predict(question="je")
        assert (
            refused.status == 422 and '{"question": "…", "context": "…"}' in refused.json["error"]
        )


def test_one_line_compresses_a_folder_by_questions_alone(made: Path) -> None:
    """Nobody has answered them: the model's own answers are what is kept."""
    asked = [{key: one[key] for key in ("question", "context")} for one in questions(60, 4)]
    (made / "bare.jsonl").write_text("".join(json.dumps(one) + "\n" for one in asked))
    write_question_model(made / "hub", "question-answering")
    fields = (
        *("min_duration_ms=20", "warmup_ms=1", "cold_starts=0", "max_warmup_ms=2"),
        *("min_count=10", "attempts=1"),
    )
    done = in_process(
        "compress", "hub", "--data", "bare.jsonl", "-o", "small", "--store", "store", "--max-drop",
        "50%", *(word for one in fields for word in ("--set", f"profile.{one}")),
        "--set", "stages=[{any: [[export, quantize.dynamic]]}]", cwd=made,
    )  # fmt: skip
    assert done.returncode in (0, 4), done.stdout + done.stderr  # few questions prove little
    lines = [json.loads(line) for line in (made / "small" / "answered.jsonl").open()]
    assert [one["question"] for one in lines] == [one["question"] for one in asked]
    for one in lines:
        texts, starts = one["answer"]["text"], one["answer"]["answer_start"]
        assert [one["context"][at : at + len(text)] for text, at in
                zip(texts, starts, strict=True)] == texts  # fmt: skip
    rows = json.loads((made / "small" / "results.json").read_text())["rows"]
    own = [m["value"] for m in rows[0]["measurements"] if m["metric"] == "f1"]
    assert min(own) == 1
