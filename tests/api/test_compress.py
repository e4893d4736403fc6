"""`edgecompress compress`: a model and a file of data in; a recipe, a report and a bundle out."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from commands import in_process
from helpers import labelled_texts, tagged_examples
from small_encoders import write_encoder

from edgecompress.bundle import verify_bundle
from edgecompress.engine.found_data import look_at_data
from edgecompress.engine.found_model import FoundModel, look_at_model
from edgecompress.engine.proposal import checked, proposed
from edgecompress.errors import ArgumentError, DataError, RecipeError
from edgecompress.report.document import from_json
from edgecompress.results import RunResult
from edgecompress.texts import label_of, tags_of, text_of, words_of
from edgecompress.values import Example

QUICK = (
    "--set", "profile.min_duration_ms=20", "--set", "profile.warmup_ms=1",
    "--set", "profile.max_warmup_ms=2", "--set", "profile.min_count=10",
    "--set", "profile.cold_starts=0", "--set", "profile.attempts=1",
)  # fmt: skip
ONE = ("--set", "stages=[{any: [[export, quantize.dynamic]]}]")
MADE = 60


def taught(folder: Path, task: str, examples: Sequence[Example]) -> Path:
    """Write a tiny BERT in Hugging Face's form that answers `examples` rightly, by a few steps."""
    import torch

    from edgecompress.processors import TextProcessor
    from edgecompress.surgery.model import load_module, save_module
    from edgecompress.tasks import task as find_task

    made = write_encoder(folder / "made", "Bert", task)
    module = load_module(made.model).train()
    module.resize_token_embeddings(module.config.vocab_size + 8)  # room for BERT's [MASK]
    rows = find_task(task).rows(examples, TextProcessor.load(made.preprocessor), made.labels)
    batch = rows.batch(range(len(rows)), ("input_ids", "attention_mask"))
    feed = {key: torch.from_numpy(value) for key, value in batch.items()}
    wide = feed["input_ids"].shape[1]
    labels = torch.full((len(rows), wide), -100)
    for place, row in enumerate(rows.rows):
        label = torch.as_tensor(row.target["labels"]).reshape(-1)
        labels[place, : len(label)] = label
    labels = labels if task == "token-classification" else labels[:, 0]
    torch.manual_seed(1)
    optimizer = torch.optim.AdamW(module.parameters(), 5e-3)
    for _ in range(60):
        loss = module(**feed, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss) < 0.05
    save_module(module.eval(), folder / "model")
    shutil.copytree(made.preprocessor, folder / "model", dirs_exist_ok=True)
    shutil.rmtree(folder / "made")
    return folder / "model"


def write_csv(file: Path, rows: Sequence[dict[str, Any]]) -> Path:
    with file.open("w", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return file


def write_lines(file: Path, rows: Sequence[Any]) -> Path:
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def texts_file(folder: Path, examples: Sequence[Example]) -> Path:
    file = folder / "texts.txt"
    file.write_text("".join(f"{text_of(one)}\n" for one in examples))
    return file


@pytest.fixture(scope="module")
def examples() -> tuple[Example, ...]:
    return labelled_texts(MADE)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, examples) -> Path:
    return taught(tmp_path_factory.mktemp("classifier"), "text-classification", examples)


@pytest.fixture(scope="module")
def reviews(tmp_path_factory: pytest.TempPathFactory, examples) -> Path:
    rows = [{"no": n, "headline": text_of(one), "category": label_of(one)}
            for n, one in enumerate(examples)]  # fmt: skip
    return write_csv(tmp_path_factory.mktemp("data") / "reviews.csv", rows)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


def result_of(out: Path) -> RunResult:
    return from_json((out / "results.json").read_text())


def on_one_line(said: str) -> str:
    return " ".join(said.split())


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


def test_a_tagger_takes_a_text_file_of_either_kind(tmp_path):
    model = FoundModel("tagger", False, "token-classification", ("O", "B-PER"))
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"Ya tafi Kano {n}\n" for n in range(30)))
    found = look_at_data(texts, model)
    assert (found.document["format"], found.labelled) == ("text", False)
    tagged = tmp_path / "tagged.txt"
    tagged.write_text("".join(f"Amina{n} B-PER\nje O\n\n" for n in range(30)))
    found = look_at_data(tagged, model)
    assert (found.document["format"], found.labelled) == ("conll", True)


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


@pytest.fixture(scope="module")
def exported(classifier, store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as Optimum writes it, and as sentence-transformers and the hub have it."""
    place = tmp_path_factory.mktemp("exported")
    done = in_process("export", classifier, "-o", place / "graph", "--store", store)
    assert done.returncode == 0, done.stderr
    shutil.copytree(place / "graph" / "model", place / "folder" / "onnx")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copyfile(classifier / name, place / "folder" / name)
    return place / "folder"


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
    while not list(store.glob("scratch/*/epoch-*")):
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


def test_what_cannot_be_guessed_is_asked_for(classifier, reviews, examples, tmp_path):
    def refused(*arguments: object) -> str:
        done = in_process("compress", *arguments, "-o", tmp_path / "out")
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        assert not (tmp_path / "out").exists()
        return on_one_line(done.stderr)

    headless = shutil.copytree(classifier, tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    assert "--task" in refused(headless, "--data", reviews)

    unnamed = shutil.copytree(classifier, tmp_path / "unnamed")
    names = {"id2label": {"0": "LABEL_0", "1": "LABEL_1"}, "label2id": None}
    (unnamed / "config.json").write_text(json.dumps(config | names))
    assert "--labels LABEL_0=person" in refused(unnamed, "--data", reviews)

    nameless = shutil.copyfile(reviews, tmp_path / "reviews")
    assert "--format" in refused(classifier, "--data", nameless)
    rows = [{"a": text_of(one), "b": text_of(one), "c": label_of(one)} for one in examples]
    strange = write_csv(tmp_path / "strange.csv", rows)
    assert "--columns text=COLUMN" in refused(classifier, "--data", strange)
    assert "no such file (--data)" in refused(classifier, "--data", tmp_path / "nothing.csv")
    few = write_csv(tmp_path / "few.csv", [{"text": "Kano", "label": "place"}] * 3)
    assert "too few" in refused(classifier, "--data", few)
    assert "20ms@pi5" in refused(classifier, "--data", reviews, "--max-latency", "@pi5")
    assert "unknown target" in refused(classifier, "--data", reviews, "--max-latency", "9ms@pi17")
    assert "30m" in refused(classifier, "--data", reviews, "--time", "soon")
    assert "has no unit" in refused(classifier, "--data", reviews, "--max-size", "25")


def test_numbers_of_classes_are_the_models(classifier, examples, tmp_path):
    model = look_at_model(str(classifier), None, {})

    def look(first: int) -> Any:
        rows = [{"text": text_of(one), "label": first + (label_of(one) == "place")}
                for one in examples]  # fmt: skip
        return look_at_data(write_csv(tmp_path / f"from-{first}.csv", rows), model)

    found = look(0)
    assert [label_of(one) for one in found.examples] == [label_of(one) for one in examples]
    with pytest.raises(DataError, match="--labels person=1"):  # ratings: nobody knows which is 1
        look(1)


def test_labels_rename_the_classes(classifier, examples, tmp_path):
    names = {"person": "P", "place": "L"}
    model = look_at_model(str(classifier), None, names)
    rows = [{"text": text_of(one), "label": names[label_of(one)]} for one in examples]
    found = look_at_data(write_csv(tmp_path / "letters.csv", rows), model)
    assert model.labels == ("P", "L")
    assert {label_of(one) for one in found.examples} == {"P", "L"}


def test_a_model_without_a_head_is_fine_tuned_first(classifier, reviews, examples, tmp_path):
    headless = shutil.copytree(classifier, tmp_path / "headless")
    config = json.loads((headless / "config.json").read_text())
    (headless / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    model = look_at_model(str(headless), "text-classification", {})
    assert "fine-tuned first" in model.words
    document = proposed(model, look_at_data(reviews, model), max_drop="1%")
    assert document["teacher"] == {"model": str(headless), "finetune": {}}
    assert checked(document).teacher_finetune is not None
    alone = write_lines(tmp_path / "alone.jsonl", [{"text": text_of(one)} for one in examples])
    with pytest.raises(DataError, match="give labelled ones"):
        look_at_data(alone, model)


def test_splits_of_their_own_are_not_drawn(classifier, reviews, examples, tmp_path):
    model = look_at_model(str(classifier), None, {})
    rows = [{"headline": text_of(one), "category": label_of(one)} for one in examples[:9]]
    own = write_csv(tmp_path / "test.csv", rows)
    found = look_at_data(reviews, model, splits={"validation": (), "test": (own,)})
    assert found.document["test"] == [str(own)]
    assert found.document["split"] == {"validation": 0.2}
    alone = write_lines(tmp_path / "alone.jsonl", [{"text": text_of(one)} for one in examples])
    with pytest.raises(ArgumentError, match="leave --validation and --test out"):
        look_at_data(alone, model, splits={"test": (shutil.copyfile(alone, tmp_path / "b.jsonl"),)})
    with pytest.raises(RecipeError, match=r"^data: .*a test set stays unseen"):
        look_at_data(reviews, model, splits={"test": (reviews,)})
    with pytest.raises(RecipeError, match="columns"):  # it has none
        look_at_data(texts_file(tmp_path, examples), model, columns={"text": "a"})


def test_a_folder_of_datasets_keeps_its_splits_and_names(classifier, examples, tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({
        "sentence": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["place", "person"]),  # not in the model's order
    })  # fmt: skip
    rows = {"sentence": [text_of(one) for one in examples],
            "label": [int(label_of(one) == "person") for one in examples]}  # fmt: skip
    data = datasets.Dataset.from_dict(rows, features)
    datasets.DatasetDict({"train": data, "test": data.select(range(9))}).save_to_disk(
        tmp_path / "d"
    )
    found = look_at_data(tmp_path / "d", look_at_model(str(classifier), None, {}))
    assert found.document == {"format": "datasets", "root": str(tmp_path / "d"),
                              "split": {"validation": 0.2}}  # fmt: skip
    assert [label_of(one) for one in found.examples] == [label_of(one) for one in examples]


def test_the_fleet_that_names_a_target_stands_in_the_recipe(
    classifier, reviews, tmp_path, monkeypatch
):
    (tmp_path / "targets.yaml").write_text("pi5: ssh://pi@raspberrypi.local\n")
    monkeypatch.chdir(tmp_path)
    model = look_at_model(str(classifier), None, {})
    wishes = {"max_drop": "1%", "max_latency": "20ms@pi5"}
    document = proposed(model, look_at_data(reviews, model), **wishes)
    assert document["fleet"] == str(tmp_path / "targets.yaml")
    assert document["budget"]["latency_p50@pi5"] == {"max": "20ms"}
    assert checked(document).fields.targets == ["local", "pi5"]


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
    assert [row.error for row in rows] == [None] * 4
    verify_bundle(tmp_path / "out" / "bundle")
