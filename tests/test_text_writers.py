"""Models that write a text for a text: exported in parts, quantized, joined, asked."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import transformers
from commands import in_process
from helpers import small_context
from serving import running
from text_writers import END, PAD, PIECES, TEXTS, write_text_writer

import edgecompress
from edgecompress.data.calibration import CalibrationSet
from edgecompress.models.graph import signature
from edgecompress.models.runner import open_onnx
from edgecompress.models.session import open_session
from edgecompress.quantization.observe.calibration_data import example_data
from edgecompress.surgery.model import load_module
from edgecompress.tasks import rows_of, task
from edgecompress.tasks._wordings import chrf_of_counts, gram_counts
from edgecompress.tasks.answers import Answer
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate, Example, OnnxModel

NAME = "text2text-generation"
EXAMPLES = tuple(Example({"text": text}) for text in TEXTS)
SPLITS = ("train.csv", "dev.csv", "test.csv")
RECIPE = """
name: writer
task: text2text-generation
teacher: {model: hf}
data:
  {format: csv, root: ., train: train.csv, validation: dev.csv, test: test.csv, seen_test: accept}
stages:
  - export
  - any:
      - [quantize.dynamic: {force: true}]
      - - quantize.dynamic: {part: encoder, force: true}
        - quantize.weights: {part: decoder, linear_bits: 8, force: true}
  - join
profile:
  {min_duration_ms: 100, warmup_ms: 0, max_warmup_ms: 50, min_count: 5, cold_starts: 0,
   attempts: 1}
minimize: size
"""


def theirs(folder: Path, rows: Any) -> list[list[int]]:
    """Give what transformers' own `generate` writes, the token before the first one left out."""
    module = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    given = (torch.from_numpy(row.feed["input_ids"])[None] for row in rows)
    return [module.generate(one, do_sample=False, num_beams=1)[0, 1:].tolist() for one in given]


def words(tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(END)] if END in tokens else tokens


@pytest.fixture(scope="module", params=["t5", "marian"])
def ran(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where a recipe was run, on right answers that are transformers' own."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    write_text_writer(folder / "hf", request.param)
    made = import_teacher(str(folder / "hf"), NAME, None, folder / "teacher")
    rows = rows_of(made, EXAMPLES)
    said = [rows.processor.text(words(one)).strip() for one in theirs(folder / "hf", rows)]
    assert len(set(said)) > 4, said
    lines = [f"{text},{right}" for text, right in zip(TEXTS, said, strict=True)]
    for name in SPLITS:
        (folder / name).write_text("\n".join(["text,target", *lines]) + "\n")
    (folder / "recipe.yaml").write_text(RECIPE)
    done = in_process("run", "recipe.yaml", "-o", "out", "--store", "store", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def kept(folder: Path, *stages: str) -> Candidate:
    made = map(Candidate.load, (one.parent for one in (folder / "store").rglob("candidate.json")))
    wanted = ("teacher", *stages)
    return next(one for one in made if tuple(step.stage for step in one.steps) == wanted)


def test_a_graph_writes_what_transformers_writes(ran: Path) -> None:
    joined, teacher = kept(ran, "export", "join"), kept(ran)
    assert isinstance(joined.model, OnnxModel)
    rows = rows_of(joined, EXAMPLES)
    right = theirs(ran / "hf", rows)
    feed = rows.batch(range(len(rows)), ("input_ids", "attention_mask"))  # of several lengths
    (found,) = open_session(joined.model).run(None, feed)
    assert [words(one) for one in found[:, :, 0].astype(int).tolist()] == list(map(words, right))
    with torch.inference_mode():
        module = load_module(teacher.model).eval()
        answer = module(**{name: torch.from_numpy(one) for name, one in feed.items()})
    np.testing.assert_allclose(answer.tokens.numpy(), found, rtol=1e-4, atol=1e-4)


def test_the_table_of_pieces_is_stored_once(ran: Path) -> None:
    graph = onnx.load(kept(ran, "export", "join").model.path).graph
    assert len([one for one in graph.initializer if {16, PIECES} == {*one.dims}]) == 1


def test_a_recipe_ends_with_a_bundle_that_answers(ran: Path) -> None:
    rows = {one["name"]: one for one in json.loads((ran / "out/results.json").read_text())["rows"]}
    scored = {
        name: {one["metric"]: one["value"] for one in row["measurements"] if not one["slice"]}
        for name, row in rows.items()
    }
    assert scored["onnx-fp32"]["chrf"] == scored["teacher"]["exact_text"] == 1
    assert 0 <= scored["always the most frequent text"]["chrf"] < 1
    assert scored["onnx-fp32"]["latency_p50"] > 0
    bundle = ran / "out" / "bundle"
    said = in_process("predict", bundle, TEXTS[0])
    assert said.returncode == 0, said.stderr
    found = edgecompress.load(bundle).answer(TEXTS[0]).to_json()
    assert found["answer"] == said.stdout.strip() and 0 < found["score"] <= 1
    long = in_process("predict", bundle, " ".join(TEXTS))
    assert long.returncode == 2 and "has 36 tokens, and the model takes" in long.stderr
    assert in_process("bundle", "verify", bundle).returncode == 0


def test_a_service_answers_with_texts_and_refuses_what_it_cannot_write(ran: Path) -> None:
    bundle = ran / "out" / "bundle"
    ours = edgecompress.load(bundle)
    with running(bundle) as server:
        assert server.predict(text=TEXTS[0]).json == ours.answer(TEXTS[0]).to_json()
        several = server.predict(texts=list(TEXTS[:3])).json["answers"]
        assert several == [ours.answer(text).to_json() for text in TEXTS[:3]]
        for asked, status, said in (
            ({"text": " ".join(TEXTS)}, 422, "has 36 tokens, and the model takes"),
            ({"words": ["ba"]}, 422, 'send {"text": '),
            ({"text": 3}, 422, "text must be"),
            ({"text": TEXTS[0], "stream": True}, 422, "unknown key 'stream'"),
            ({"text": TEXTS[0], "top_k": 2}, 422, "unknown key 'top_k'"),
        ):
            refused = server.predict(**asked)
            assert refused.status == status and said in refused.json["error"], refused.json
        assert server.predict(text=TEXTS[1]).json == ours.answer(TEXTS[1]).to_json()


def test_a_decoder_is_calibrated_on_what_the_model_writes(ran: Path, tmp_path: Path) -> None:
    parts, joined = kept(ran, "export"), kept(ran, "export", "join")
    assert isinstance(parts.model, OnnxModel) and isinstance(joined.model, OnnxModel)
    decoder = parts.model.graphs["decoder"]
    context = replace(small_context(tmp_path, train=EXAMPLES), whole=(parts, "decoder"))
    part = Candidate(decoder, steps=parts.steps)
    data = example_data("quantize.static", None, None, part, context, signature(decoder))
    whole, alone = open_onnx(joined.model), open_onnx(decoder)
    rows = rows_of(parts, CalibrationSet(name="random").select(EXAMPLES, context.seed, None))
    for number, feed in enumerate(data.feeds()):
        given = rows.batch([number], ("input_ids", "attention_mask"))
        wrote = whole(given)["tokens"][0, :, 0].astype(int).tolist()
        read = feed["input_ids"][0].tolist()
        assert read[1:] == wrote[: len(read) - 1]
        last = alone(feed)["logits"][0, -1]
        last[PAD] = -np.inf  # Marian never writes it
        assert last.argmax() == wrote[len(read) - 1]
    assert number + 1 == len(EXAMPLES) == data.count


def test_what_cannot_be_done_is_said_before_work_starts(tmp_path: Path) -> None:
    write_text_writer(tmp_path / "hf")
    for name in SPLITS:
        (tmp_path / name).write_text("text,target\nba be,bi\n")
    usual = RECIPE[RECIPE.index("stages:") : RECIPE.index("profile:")]
    for stages, said in (
        ("[distil: {epochs: 1}, export, join]", "distil: encoders with a decoder cannot be cut"),
        ("[export, quantize.dynamic]", "end it with join"),
    ):
        (tmp_path / "recipe.yaml").write_text(RECIPE.replace(usual, f"stages: {stages}\n"))
        done = in_process("check", "recipe.yaml", cwd=tmp_path)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    for name in SPLITS:
        (tmp_path / name).write_text("text\nba be\n")
    done = in_process("check", "recipe.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "data.columns: target" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("said", "right", "wanted"),
    [
        ("", "b", 0), ("a", "b", 0), ("a", "a", 1), ("abcdefg", "hijklmnop", 0),
        # What sacrebleu 2.6.0 gives.
        ("Niaje, dunia?", "Habari za dunia!", 0.23062033621584167),
        ("ab", "abcdefgh", 0.23404255319148938),
        ("risk assessment must be made of those who are qualified and expertise in the sector - "
         "these are the scientists .",
         "risk assessment has to be undertaken by those who are qualified and expert in that area "
         "- that is the scientists .", 0.6343165368117263),
    ],
)  # fmt: skip
def test_shared_characters_are_counted(said: str, right: str, wanted: float) -> None:
    counts = np.array(gram_counts(Answer((said,), np.ones(1)), Example({"text": ""}, right)))
    found = float(chrf_of_counts(counts.astype(float)))
    assert found == pytest.approx(wanted, abs=1e-12)
    assert task(NAME).metrics[0].name == "chrf"
