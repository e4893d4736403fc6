"""A sentence encoder through a whole recipe: from texts without labels to a bundle's vectors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import in_process
from sentence_models import scored_pairs, sentences, write_lines, write_sentence_model
from serving import running

import edgecompress
from edgecompress.errors import DataError

RECIPE = """
name: sentences
task: feature-extraction
teacher: {model: st}
data: {format: jsonl, train: texts.jsonl, validation: dev.jsonl, test: test.jsonl}
stages:
  - prune.structured: {heads: 0.5, ffn: 0}
  - vectors: {dimensions: 12}
  - distil: {epochs: 3, learning_rate: 1e-3, layer_map: uniform}
  - export
  - quantize.dynamic
profile:
  {min_duration_ms: 100, warmup_ms: 0, max_warmup_ms: 50, min_count: 20, cold_starts: 0,
   attempts: 1}
budget: {spearman: {max_drop: 20%}}
minimize: size
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder where the recipe was run."""
    folder = tmp_path_factory.mktemp("sentences")
    write_sentence_model(folder / "st", prompts={"query": "market "}, seed=5)
    write_lines(folder / "texts.jsonl", [{"text": text} for text in sentences(80)])
    for name, seed in (("dev", 1), ("test", 2)):
        write_lines(folder / f"{name}.jsonl", scored_pairs(60, seed))
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
    assert found["spearman", "test"]["value"] > 0.3
    low, high = found["spearman_drop", "test"]["interval"]
    assert low <= found["spearman_drop", "test"]["value"] <= high
    # Of the teacher's vectors, which it was trained towards.
    assert 0.8 < found["agreement", "test"]["value"] < 1
    assert found["pearson", "validation"]["samples"] == 60
    card = (made / "out" / "bundle" / "evidence" / "README.md").read_text()
    assert "gives a text a vector" in card


def test_a_bundle_gives_vectors(made: Path, bundle: Any) -> None:
    one = bundle.predict("Amina je Kano")
    assert one.vector.shape == (12,) and one.vector.dtype == np.float32
    assert np.linalg.norm(one.vector) == pytest.approx(1, abs=1e-5)
    several = bundle.predict(["Amina je Kano", "leo"])
    assert np.allclose(several[0].vector, one.vector, atol=1e-6)
    alike = bundle.similarity("Amina je Kano", "leo")
    assert alike == pytest.approx(float(several[0].vector @ several[1].vector), abs=1e-5)
    assert bundle.similarity("leo na", "leo na") == pytest.approx(1, abs=1e-6)
    prompted = bundle.answer({"text": "leo", "prompt": "query"}).vector
    assert np.array_equal(prompted, bundle.predict("market leo").vector)
    with pytest.raises(DataError, match="is empty, and nothing has no vector"):
        bundle.predict(" ")


def test_the_command_line_and_the_service_give_them(made: Path, bundle: Any) -> None:
    said = in_process("predict", "out/bundle", "Amina je Kano", "--json", cwd=made)
    vector = json.loads(said.stdout)["vector"]
    assert np.array_equal(np.array(vector, np.float32), bundle.predict("Amina je Kano").vector)
    assert "12 numbers: " in in_process("predict", "out/bundle", "leo", cwd=made).stdout
    write_lines(made / "asked.jsonl", [{"text": "leo", "text_pair": "leo na", "id": 3}])
    said = in_process("predict", "out/bundle", "--input", "asked.jsonl", "--json", cwd=made)
    answer = json.loads(said.stdout)
    assert answer["id"] == 3 and answer["similarity"] == bundle.similarity("leo", "leo na")
    for line, fault in ((" ", "text is empty"), ("leo", "its vectors have 12 numbers, not 99")):
        write_lines(made / "asked.jsonl", [{"text": "leo"}, {"text": line, "dimensions": 99}])
        said = in_process("predict", "out/bundle", "--input", "asked.jsonl", "--json", cwd=made)
        assert said.returncode == 2 and f"asked.jsonl:2: {fault}" in said.stderr
        assert len(said.stdout.splitlines()) == 1
    with running(made / "out" / "bundle") as server:
        assert server.predict(text="Amina je Kano").json["vector"] == vector
        assert len(server.predict(texts=["leo", "na"]).json["answers"]) == 2
        assert server.predict(text="leo", text_pair="leo na").json["similarity"] == pytest.approx(
            answer["similarity"]
        )
        refused = server.predict(text="")
        assert refused.status == 422 and "is empty" in refused.json["error"]


def test_vectors_are_given_shorter_and_in_int8_where_that_is_asked_for(
    made: Path, bundle: Any
) -> None:
    whole = bundle.predict("Amina je Kano").vector
    short = whole[:5] / np.linalg.norm(whole[:5])
    asked = {"text": "Amina je Kano", "dimensions": 5, "precision": "int8"}
    found = bundle.answer(asked).to_json()
    assert found.keys() == {"text", "vector"}
    assert found["vector"] == np.rint(short * 127 / np.abs(short).max()).tolist()
    assert np.allclose(bundle.answer({"text": "Amina je Kano", "dimensions": 5}).vector, short)
    other = bundle.predict("leo").vector[:5]
    alike = float(short @ other) / np.linalg.norm(other)
    pair = {"text": "Amina je Kano", "text_pair": "leo"}
    assert bundle.answer({**pair, "dimensions": 5}).similarity == pytest.approx(alike, abs=1e-6)
    coarse = bundle.answer({**pair, "dimensions": 5, "precision": "int8"}).similarity
    assert coarse == pytest.approx(alike, abs=0.03) and coarse != pytest.approx(alike, abs=1e-7)
    set_ = ("--set", "dimensions=5", "--set", "precision=int8")
    said = in_process("predict", "out/bundle", "Amina je Kano", "--json", *set_, cwd=made)
    assert json.loads(said.stdout)["vector"] == found["vector"]
    said = in_process("predict", "out/bundle", "Amina je Kano", *set_, cwd=made)
    assert said.stdout.startswith(f"5 numbers: {found['vector'][0]}, ")
    with running(made / "out" / "bundle") as server:
        assert server.predict(**asked).json["vector"] == found["vector"]
        refused = server.predict(text="leo", precision="int4")
        assert (refused.status, '"float32" or "int8"' in refused.json["error"]) == (422, True)
    with pytest.raises(DataError, match="vectors have 12 numbers, not 13; ask for fewer"):
        bundle.answer({"text": "leo", "dimensions": 13})


def test_two_bundles_are_compared(made: Path) -> None:
    command = ("bundle", "diff", "out/bundle", "out/bundle", "--recipe", "recipe.yaml", "--json")
    found = in_process(*command, cwd=made)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout)["answers"]["asked"] == 60


def test_one_line_compresses_a_folder_by_texts_alone(made: Path) -> None:
    """Nobody scored them: the model's own similarities are what is kept."""
    write_lines(made / "bare.jsonl", [{"text": text} for text in sentences(60, 4)])
    fields = (
        *("min_duration_ms=20", "warmup_ms=1", "cold_starts=0", "max_warmup_ms=2"),
        *("min_count=10", "attempts=1"),
    )
    done = in_process(
        "compress", "st", "--data", "bare.jsonl", "-o", "small", "--store", "store", "--max-drop",
        "20%", *(word for one in fields for word in ("--set", f"profile.{one}")),
        "--set", "stages=[{any: [[export, quantize.dynamic]]}]", cwd=made,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    pairs = [json.loads(line) for line in (made / "small" / "answered.jsonl").open()]
    assert len(pairs) > 60 and set(pairs[0]) == {"text", "text_pair", "score"}
    assert all(-1.01 < one["score"] < 1.01 for one in pairs)
    rows = json.loads((made / "small" / "results.json").read_text())["rows"]
    own = [m["value"] for m in rows[0]["measurements"] if m["metric"] == "spearman"]
    assert min(own) > 0.99  # the teacher's own order


def test_the_adapters_of_the_page(made: Path, bundle: Any) -> None:
    page = (Path(__file__).parents[1] / "docs" / "embeddings.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n# adapters.py\n(.*?)```", page, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "adapters.py", "exec"), names)
    texts, folder = ["Amina je Kano", "leo"], str(made / "out" / "bundle")
    vectors = names["BundleEncoder"](folder).encode(texts)
    assert np.allclose(vectors, [bundle.predict(text).vector for text in texts])
    one = names["BundleEncoder"](folder).encode("leo", prompt_name="query")
    assert np.array_equal(one, bundle.predict("market leo").vector)
    chain = names["BundleEmbeddings"](folder)
    assert np.allclose(chain.embed_documents(texts), vectors)
    assert np.allclose(chain.embed_query("leo"), vectors[1])


def failed(folder: Path, recipe: str) -> subprocess.CompletedProcess[str]:
    (folder / "other.yaml").write_text(recipe)
    return in_process("run", "other.yaml", "-o", "no", "--store", "store", cwd=folder)


def test_what_cannot_be_done_is_said(made: Path) -> None:
    write_lines(made / "bare.jsonl", [{"text": text} for text in sentences(30, 4)])
    done = failed(made, RECIPE.replace("validation: dev.jsonl", "validation: bare.jsonl"))
    assert (
        done.returncode == 2
        and "validation: no example is a pair of texts with a score" in done.stderr
    )


def test_a_graph_of_anothers_keeps_the_prompt_and_the_longest_input(tmp_path: Path) -> None:
    st, graph, pairs = tmp_path / "st", tmp_path / "graph", tmp_path / "pairs.jsonl"
    write_sentence_model(st, prompts={"query": "market berlin "}, usual="query", limit=6)
    write_lines(pairs, scored_pairs(20))
    options: dict[str, Any] = {"task": "feature-extraction", "store": tmp_path / "store"}
    edgecompress.export(st, tmp_path / "model.onnx", progress=False, **options)
    shutil.copytree(st, graph, ignore=shutil.ignore_patterns("*.safetensors"))
    (tmp_path / "model.onnx").rename(graph / "model.onnx")
    found = [
        {one.metric: one.value for one in measured.measurements}["pearson"]
        for measured in (
            edgecompress.evaluate(model, validation=pairs, progress=False, **options)
            for model in (st, graph)
        )
    ]
    assert found[1] == pytest.approx(found[0], abs=1e-4)
