"""`edgecompress compress`: a model and a file of data in; a recipe, a report and a bundle out."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from glob import glob

import yaml
from commands import in_process
from compressing import MADE, ONE, QUICK, on_one_line, result_of, taught, write_lines
from helpers import tagged_examples
from pages import blocks, page
from trained_tokenizers import candidate as tiny_model
from trained_tokenizers import texts

import edgecompress
from edgecompress.bundle import verify_bundle
from edgecompress.engine import proposal
from edgecompress.engine.found_data import look_at_data
from edgecompress.engine.found_model import look_at_model
from edgecompress.engine.proposal import proposed
from edgecompress.texts import label_of, tags_of, text_of, words_of


def test_a_csv_of_two_classes_becomes_a_bundle_before_the_time_is_over(
    classifier, reviews, store, tmp_path
):
    out = tmp_path / "out"
    done = in_process("compress", classifier, "--data", reviews, "-o", out, "--store", store,
                      "--time", "0.1s", "--max-drop", "20%", *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = on_one_line(done.stderr)
    assert "bert PyTorch, text-classification, 2 classes: person, place" in said
    assert "csv, 60 examples; text from 'headline', label from 'category'; 2 labels" in said
    result = result_of(out)
    candidates = [row for row in result.rows if row.kind == "candidate"]
    assert [row.tried for row in candidates] == [True] + [False] * (len(candidates) - 1)
    assert result.winner == candidates[0].name
    assert len(candidates) > 4
    assert all("time of 0.1 s was over" in str(row.error) for row in candidates[1:])
    written = (out / "report.md").read_text()
    assert "What was left out" in written
    assert f"{len(candidates) - 1} more were left out: the time of 0.1 s was over" in written
    verify_bundle(out / "bundle")
    answer = in_process("predict", out / "bundle", "Kano ta je", "--json")
    assert json.loads(answer.stdout)["label"] == "place"
    # What was written is a recipe like any other.
    recipe = yaml.safe_load((out / "recipe.yaml").read_text())
    assert recipe["data"]["split"] == {"validation": 0.2, "test": 0.2}
    assert recipe["budget"] == {"accuracy": {"max_drop": "20%"}}
    again = in_process("check", out / "recipe.yaml")
    assert again.returncode == 0, again.stderr
    order = [" ".join(row.chain) for row in candidates]
    assert "prune" not in "".join(order[:3])
    assert "distil" not in "".join(order[:4])
    assert "distil" in order[-1]


def test_a_wish_that_nothing_meets_names_the_nearest(classifier, reviews, store, tmp_path):
    done = in_process("compress", classifier, "--data", reviews, "-o", tmp_path / "out",
                      "--store", store, "--max-size", "1kB", "--max-latency", "1s",
                      *ONE, *QUICK)  # fmt: skip
    assert done.returncode == 3, done.stderr
    result = result_of(tmp_path / "out")
    assert "nearest is quantize.dynamic" in result.verdict.reason
    assert "allowed at most 0.001 MB" in result.verdict.reason
    assert {limit.key for limit in result.budget} == {"accuracy", "size", "latency_p50@local"}
    assert not (tmp_path / "out" / "bundle").exists()


def test_texts_without_labels_are_judged_by_agreement(classifier, examples, store, tmp_path):
    file = write_lines(tmp_path / "texts.jsonl", [{"text": text_of(one)} for one in examples])
    done = in_process("compress", classifier, "--data", file, "-o", tmp_path / "out",
                      "--store", store, "--max-drop", "20%", *ONE, *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "accuracy is agreement with it" in on_one_line(done.stderr)
    assert "agreement with the model" in (tmp_path / "out" / "report.html").read_text()
    (tmp_path / "out").rename(tmp_path / "moved")  # the recipe and its data go together
    again = in_process("check", tmp_path / "moved" / "recipe.yaml")
    assert again.returncode == 0, again.stderr
    assert "the model's own answers" in on_one_line(again.stdout)
    (tmp_path / "moved").rename(tmp_path / "out")
    rows = map(json.loads, (tmp_path / "out" / "answered.jsonl").read_text().splitlines())
    told = [row["label"] for row in rows]
    assert sum(a == label_of(b) for a, b in zip(told, examples, strict=True)) > 0.9 * len(told)
    teacher = next(row for row in result_of(tmp_path / "out").rows if row.name == "teacher")
    assert {m.value for m in teacher.measurements if m.metric == "accuracy"} == {1.0}


def test_tagged_json_lines(store, tmp_path):
    sentences = tagged_examples(MADE)
    model = taught(tmp_path / "tagger", "token-classification", sentences)
    rows = [{"tokens": words_of(one), "ner": tags_of(one)} for one in sentences]
    file = write_lines(tmp_path / "sentences.jsonl", rows)
    done = in_process("compress", model, "--data", file, "-o", tmp_path / "out",
                      "--store", store, "--max-drop", "20%", *ONE, *QUICK)  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = on_one_line(done.stderr)
    assert "words from 'tokens', tags from 'ner'; 2 labels: " in said
    answer = in_process("predict", tmp_path / "out" / "bundle", "Amina je Kano", "--json")
    assert "Amina" in answer.stdout


def test_interrupted_after_the_first_candidate_it_gives_the_best_so_far(
    classifier, reviews, store, tmp_path
):
    out = tmp_path / "out"
    command = [
        sys.executable, "-m", "edgecompress", "compress", classifier, "--data", reviews, "-o", out,
        "--store", store, "--max-drop", "20%", *QUICK, "--set",
        "stages=[{any: [[export, quantize.dynamic], [{prune.structured: {ffn: 0.5}}, "
        "{distil: {epochs: 100000}}, export]]}]",
    ]  # fmt: skip
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    limit = time.monotonic() + 240
    while not glob(f"{store}/scratch/*/epoch-*"):  # noqa: PTH207 - Path.glob fails in a race
        assert time.monotonic() < limit
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    assert "interrupted; the best of what is done is chosen" in on_one_line(said)
    result = result_of(out)
    assert result.winner == "quantize.dynamic"
    left = next(row for row in result.rows if row.kind == "candidate" and not row.tried)
    assert left.error == "left out: interrupted"
    verify_bundle(out / "bundle")


def test_a_body_without_a_head_is_fine_tuned_and_becomes_a_bundle(
    classifier, reviews, store, tmp_path
):
    bare = shutil.copytree(classifier, tmp_path / "bare")
    config = json.loads((bare / "config.json").read_text())
    (bare / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    done = in_process("compress", bare, "--data", reviews, "--task", "text-classification",
                      "-o", tmp_path / "out", "--store", store, "--max-drop", "20%", *ONE, *QUICK,
                      "--set", "teacher.finetune={epochs: 12, learning_rate: 1.0e-3}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "its head is new and is fine-tuned first" in on_one_line(done.stderr)
    answer = in_process("predict", tmp_path / "out" / "bundle", "Kano ta je", "--json")
    assert json.loads(answer.stdout)["label"] == "place"


def test_a_large_vocabulary_is_cut_by_the_stages_that_are_written(tmp_path, store, monkeypatch):
    """Those of the recipe that cut it, run on a tokenizer of a few hundred pieces."""
    made = tiny_model(tmp_path / "made", "Bert", "wordpiece")
    folder = shutil.copytree(made.model.directory, tmp_path / "model")
    shutil.copytree(made.preprocessor, folder, dirs_exist_ok=True)
    file = write_lines(tmp_path / "texts.jsonl", [{"text": text} for text in texts(60, seed=3)])
    monkeypatch.setattr(proposal, "LARGE", 100)
    monkeypatch.setattr(proposal, "KEPT", 200)
    model = look_at_model(str(folder), None, {})
    document = proposed(model, look_at_data(file, model), max_drop="100%")
    chains = [chain for chain in document["stages"][0]["any"] if "vocabulary" in str(chain)]
    assert [[next(iter(one)) for one in chain if isinstance(one, dict)] for chain in chains] == [
        ["vocabulary.trim", "quantize.smooth", "quantize.static"],
        ["prune.structured", "vocabulary.trim", "quantize.smooth", "quantize.static"],
        ["prune.structured", "vocabulary.share", "distil", "quantize.dynamic"],
    ]
    trimmed = [one for one in chains[0] if one != "fuse"]  # which takes its time to measure
    shared = [{"vocabulary.share": {"rows": 100}}, "export", chains[2][-1]]
    found = edgecompress.compress(
        folder, tmp_path / "out", data=file, max_drop="100%", progress=False, store=store,
        settings=[*QUICK[1::2], f"stages={json.dumps([{'any': [trimmed, shared]}])}"],
    )  # fmt: skip
    rows = [row for row in found.rows if row.kind == "candidate"]
    assert [(row.chain[0].partition("(")[0], row.error) for row in rows] == [
        ("vocabulary.trim", None),
        ("vocabulary.share", None),
    ]


def test_the_page_does_what_it_says(classifier, reviews, store, tmp_path, monkeypatch):
    """The block of docs/compress.md, with fewer candidates and shorter measuring."""
    shutil.copytree(classifier, tmp_path / "MODEL")
    shutil.copyfile(reviews, tmp_path / "reviews.csv")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGECOMPRESS_STORE", str(store))
    [block] = blocks(page("compress.md"), "python")
    quick = f"settings={[*ONE[1::2], *QUICK[1::2]]!r}"
    found: dict[str, object] = {}
    changed = block.replace('max_drop="2%"', f'max_drop="20%", {quick}')
    assert changed != block
    exec(compile(changed, "docs/compress.md", "exec"), found)
    assert found["found"].winner == "quantize.dynamic"
    verify_bundle(found["found"].bundle)
