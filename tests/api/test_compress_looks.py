"""What `edgecompress compress` finds out of a model and a file, and what it asks for."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest
from commands import in_process
from compressing import on_one_line, texts_file, write_csv, write_lines

from edgecompress.engine.found_data import look_at_data
from edgecompress.engine.found_model import FoundModel, look_at_model
from edgecompress.engine.proposal import checked, proposed
from edgecompress.errors import ArgumentError, DataError, RecipeError
from edgecompress.texts import label_of, text_of


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
    third = write_csv(tmp_path / "third.csv", [
        {"text": text_of(one), "label": ("person", "place", "thing")[number % 3]}
        for number, one in enumerate(examples)])  # fmt: skip
    assert "leave the examples of thing out" in refused(classifier, "--data", third)
    latin = tmp_path / "latin.csv"
    latin.write_bytes(reviews.read_bytes().replace(b"headline", "h\xe9adline".encode("latin-1")))
    assert "name its encoding (data.encoding)" in refused(classifier, "--data", latin)
    encoded = ("--data", latin, "--set", "data.encoding=latin-1", "--max-drop", "all")
    assert "héadline" in refused(classifier, *encoded, "--columns", "text=headline")
    same = write_csv(tmp_path / "same.csv", [{"text": "Kano", "label": "place"}] * 30)
    assert "all 30 examples have the label place" in refused(classifier, "--data", same)
    assert f"did you mean {classifier}?" in refused(classifier.parent, "--data", reviews)
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


def test_a_tagger_asks_for_its_words(tmp_path):
    model = FoundModel("tagger", False, "token-classification", ("O", "B-PER"))
    rows = [{"w": ["Amina", "je"], "t": ["B-PER", "O"]}] * 30
    with pytest.raises(DataError, match="--columns words=COLUMN"):
        look_at_data(write_lines(tmp_path / "rows.jsonl", rows), model)


def test_columns_that_may_hold_the_labels_are_named(classifier, examples, tmp_path):
    rows = [{"text": text_of(one), "stars": label_of(one)} for one in examples]
    file = write_csv(tmp_path / "stars.csv", rows)
    model = look_at_model(str(classifier), None, {})
    assert (
        "no labels (if they are in stars: --columns label=COLUMN)"
        in look_at_data(file, model).words
    )
    assert look_at_data(file, model, columns={"label": "stars"}).labelled


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
