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
preprocessor: {doc_stride: 100, max_answer_len: 4}
data: {format: squad, train: train.json, validation: dev.json, test: test.json}
stages:
  - prune.structured: {heads: 0, ffn: 0.5, importance: taylor}
  - distil: {epochs: 3, learning_rate: 2e-3, layer_map: uniform}
  - export
  - fuse
  - quantize.dynamic
  - tune.answers
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


def test_how_passages_are_read_travels_with_the_bundle(made: Path) -> None:
    settings = json.loads((made / "out" / "bundle" / "preprocessor" / "passages.json").read_text())
    assert (settings["doc_stride"], settings["max_answer_len"]) == (100, 4)
    result = json.loads((made / "out" / "results.json").read_text())
    (row,) = [one for one in result["rows"] if one["name"] == result["winner"]]
    step = next(one for one in row["steps"] if one["stage"] == "tune.answers")
    chosen = step["decisions"]["settings"]["no_answer_threshold"]
    assert settings["no_answer_threshold"] == chosen
    assert step["measured"]["after"] >= step["measured"]["before"] > 0.5


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


def test_a_graph_of_another_program_gives_its_scores_in_two_outputs(made: Path) -> None:
    """It is taken with its tokenizer, and answers as the model of PyTorch does."""
    import torch
    import transformers

    for name in ("theirs", "apart"):
        write_question_model(made / name, "question-answering")
    theirs = transformers.AutoModelForQuestionAnswering.from_pretrained(made / "apart").eval()
    ids = torch.ones((2, 9), dtype=torch.int64)
    inputs = ("input_ids", "attention_mask", "token_type_ids")
    outputs = ("start_logits", "end_logits")
    torch.onnx.export(
        theirs, (ids, ids, ids * 0), str(made / "apart" / "model.onnx"), dynamo=False,
        input_names=list(inputs), output_names=list(outputs), opset_version=17,
        dynamic_axes={name: {0: "batch", 1: "length"} for name in (*inputs, *outputs)},
    )  # fmt: skip
    (made / "apart" / "model.safetensors").unlink()
    words = ("--task", "question-answering", "--validation", "dev.json", "--store", "store")
    words = (*words, "--format", "squad", "--json")
    done = in_process("evaluate", "apart", "--teacher", "theirs", *words, cwd=made)
    assert done.returncode == 0, done.stderr
    found = {one["metric"]: one for one in map(json.loads, done.stdout.splitlines())
             if one.get("slice") is None}  # fmt: skip
    assert found["agreement"]["value"] == 1 and found["f1_drop"]["value"] == 0
    assert found["f1"]["samples"] == 60


def test_outputs_are_joined_in_old_graphs_and_beside_tensors_of_that_name(tmp_path: Path) -> None:
    import numpy as np
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    from edgecompress.models.joined import gives, join_outputs

    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Identity", ["x"], ["logits"]),
        helper.make_node("Abs", ["logits"], ["a"]),
        helper.make_node("Neg", ["logits"], ["b"]),
    ]
    for opset in (11, 13, 18):
        graph = helper.make_graph(
            nodes, "apart", [value("x", TensorProto.FLOAT, ["batch", "length"])],
            [value(name, TensorProto.FLOAT, ["batch", "length"]) for name in ("a", "b")],
        )  # fmt: skip
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 6
        onnx.save(model, tmp_path / "apart.onnx")
        assert gives(tmp_path / "apart.onnx", ("a", "b"))
        assert not gives(tmp_path / "apart.onnx", ("a", "c"))
        join_outputs(tmp_path / "apart.onnx", ("a", "b"), "logits", tmp_path / "one.onnx")
        onnx.checker.check_model(str(tmp_path / "one.onnx"), full_check=True)
        session = ort.InferenceSession(tmp_path / "one.onnx", providers=["CPUExecutionProvider"])
        assert [(one.name, one.shape) for one in session.get_outputs()] == [
            ("logits", ["batch", "length", 2])]  # fmt: skip
        x = np.array([[-1.0, 2.0, 3.0]], np.float32)
        assert np.array_equal(session.run(None, {"x": x})[0], np.stack((np.abs(x), -x), -1))


def test_what_a_recipe_says_of_passages_is_checked(made: Path) -> None:
    for old, new, said in (
        ("doc_stride: 100", "doc_strid: 8", "did you mean 'doc_stride'"),
        ("max_answer_len: 4", "max_answer_len: no", "max_answer_len must be a number of tokens"),
        ("question-answering", "text-classification", "it says how an ONNX file's inputs are made"),
    ):
        (made / "wrong.yaml").write_text(RECIPE.replace(old, new))
        done = in_process("check", "wrong.yaml", cwd=made)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    classes = RECIPE.replace("question-answering", "masked-lm").replace("preprocessor:", "#")
    (made / "wrong.yaml").write_text(classes)
    done = in_process("check", "wrong.yaml", cwd=made)
    assert done.returncode == 2 and "tune.answers" in done.stderr, done.stderr
