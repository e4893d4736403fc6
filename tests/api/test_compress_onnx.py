"""`edgecompress compress` of graphs that others exported, on this machine and on a hub."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
from commands import in_process
from compressing import QUICK, on_one_line, result_of, texts_file
from fake_hub import serving
from strange_graphs import strange_graph

from edgecompress.bundle import verify_bundle


def test_a_folder_with_an_onnx_file_gets_int8_forms_only(exported, reviews, store, tmp_path):
    done = in_process("compress", exported, "--data", reviews, "-o", tmp_path / "out",
                      "--store", store, "--max-drop", "20%", "--time", "0.1s", *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "bert ONNX, text-classification, 2 classes" in on_one_line(done.stderr)
    result = result_of(tmp_path / "out")
    stages = [stage for row in result.rows for stage in row.chain]
    assert stages
    assert all(stage.startswith("quantize.") for stage in stages)
    answer = in_process("predict", tmp_path / "out" / "bundle", "Amina je", "--json")
    assert json.loads(answer.stdout)["label"] == "person"


def test_a_folder_with_an_onnx_file_is_evaluated_and_quantized(exported, reviews, store, tmp_path):
    described = "columns: {text: headline, label: category}, split: {validation: 0.2, test: 0.2}"
    data = f"data={{format: csv, train: {reviews}, {described}}}"
    more = ("--store", store, "--set-recipe", data, "--json")
    scored = in_process("evaluate", exported, *more)
    assert scored.returncode == 0, scored.stderr
    values = {m["metric"]: m["value"] for m in map(json.loads, scored.stdout.splitlines())}
    assert values["accuracy"] > 0.9
    done = in_process("quantize", exported, "-o", tmp_path / "int8", "--store", store)
    assert done.returncode == 0, done.stderr
    described = json.loads((tmp_path / "int8" / "candidate.json").read_text())
    assert described["task"] == "text-classification"
    assert described["labels"] == ["person", "place"]
    assert (tmp_path / "int8" / "preprocessor" / "tokenizer.json").is_file()


def test_a_graph_whose_task_is_not_known_is_judged_by_its_size(exported, examples, store, tmp_path):
    """As an export of sentence-transformers is: a graph and a tokenizer, and vectors come out."""
    folder = shutil.copytree(exported, tmp_path / "sentences")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    texts = texts_file(tmp_path, examples)
    done = in_process("compress", folder, "--data", texts, "-o", tmp_path / "out",
                      "--store", store, *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no task that is known, so that nothing is scored" in on_one_line(done.stderr)
    rows = [row for row in result_of(tmp_path / "out").rows if row.kind == "candidate"]
    assert [row.error for row in rows] == [None] * 5
    verify_bundle(tmp_path / "out" / "bundle")


def test_a_graph_alone_is_judged_on_given_inputs(tmp_path, store):
    graph = strange_graph("constants", tmp_path / "model.onnx", 0)
    chance = np.random.default_rng(0)
    x = chance.standard_normal((12, 3, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "inputs.npz", x=x)
    done = in_process("compress", graph, "--data", tmp_path / "inputs.npz", "-o", tmp_path / "out",
                      "--store", store, *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [row for row in result_of(tmp_path / "out").rows if row.kind == "candidate"]
    assert any(row.error is None for row in rows)
    verify_bundle(tmp_path / "out" / "bundle")
    done = in_process("compress", graph, "--data", tmp_path / "inputs.npz", "-o",
                      tmp_path / "again", "--task", "text-classification")  # fmt: skip
    assert done.returncode == 2
    assert "name the folder" in on_one_line(done.stderr)


def test_texts_need_a_tokenizer(exported, reviews, examples, tmp_path):
    def refused(model: object, data: object) -> str:
        done = in_process("compress", model, "--data", data, "-o", tmp_path / "out")
        assert done.returncode == 2, done.stderr
        assert not (tmp_path / "out").exists()
        return on_one_line(done.stderr)

    graph = exported / "onnx" / "model.onnx"
    for data in (reviews, texts_file(tmp_path, examples)):
        assert "no tokenizer lies beside the graph; name a folder" in refused(graph, data)
    bare = shutil.copytree(exported, tmp_path / "bare")
    (bare / "tokenizer.json").unlink()
    assert "copy tokenizer.json there" in refused(bare, reviews)


def in_a_process(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return on_one_line(done.stdout)


def test_of_the_hub_only_what_is_read_is_fetched(exported, classifier, tmp_path):
    graphs = shutil.copytree(exported, tmp_path / "hub" / "org" / "graphs")
    (graphs / "onnx" / "model.onnx_data").write_bytes(b"weights beside it")
    shutil.copytree(classifier, tmp_path / "hub" / "org" / "both")
    shutil.copytree(exported / "onnx", tmp_path / "hub" / "org" / "both" / "onnx")
    for place in ("graphs", "both"):
        for name in ("onnx/model_q4.onnx", "tf_model.h5", "model.fp16.safetensors", "run.py"):
            (tmp_path / "hub" / "org" / place / name).write_bytes(f"{place} {name}".encode())
    (tmp_path / "hub" / "org" / "other").mkdir()
    (tmp_path / "hub" / "org" / "other" / "model.gguf").write_bytes(b"GGUF")
    code = (
        "from edgecompress.engine.found_model import look_at_model\n"
        "from edgecompress.engine.recipe import starts_as_onnx\n"
        "for name in ('org/graphs', 'org/both', 'org/other', 'org/none'):\n"
        "    try: print(name, look_at_model(name, None, {}).words, starts_as_onnx(name))\n"
        "    except Exception as error: print(error)\n"
    )
    cache = {"HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    with serving(tmp_path / "hub") as (address, fetched):
        said = in_a_process(code, HF_ENDPOINT=address, **cache)
    assert "org/graphs bert ONNX, of the hub, 5 files of" in said
    assert "text-classification, 2 classes: person, place True org/both bert PyTorch" in said
    assert "'org/other' of the hub has no weights that are read" in said
    assert "model.gguf" in said
    assert "no such model on the hub" in said
    graph = ["onnx/model.onnx", "onnx/model.onnx_data"]
    assert {name for name in fetched if "/" in name} == set(graph)
    assert fetched.count("onnx/model.onnx") == 1
    assert not any(name.endswith((".h5", ".py")) or "fp16" in name for name in fetched)
    # What was fetched is read again without a hub.
    again = in_a_process(code, HF_ENDPOINT="http://127.0.0.1:9", **cache)
    assert "org/graphs bert ONNX, of the hub, 5 files of" in again
    assert "org/both bert PyTorch, of the hub" in again
