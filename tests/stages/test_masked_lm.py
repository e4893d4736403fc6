"""The task masked-lm through stages that are made for any task: export, evaluate, the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher

from edgecompress.engine.opening import open_start
from edgecompress.engine.pipeline import Pipeline
from edgecompress.engine.recipe import build_recipe
from edgecompress.engine.splits import Splits
from edgecompress.errors import BundleError, DataError
from edgecompress.stages.evaluate import Evaluate
from edgecompress.stages.export import Export
from edgecompress.store import Store
from edgecompress.surgery.model import load_module
from edgecompress.texts import text_example, text_of
from edgecompress.values import Candidate, Example
from edgecompress.yamlfile import YamlFile

TEXTS = tuple(text_example(text=text_of(one), source=one.source) for one in labelled_texts(30))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    tiny_teacher(folder, TEXTS, "masked-lm").save(folder)
    return folder


def test_it_is_exported_and_answers_the_same(model: Path, tmp_path: Path):
    given = Candidate.load(model)
    exported = Export().apply(given, small_context(tmp_path, train=TEXTS, validation=TEXTS))
    context = small_context(tmp_path / "b", validation=TEXTS, teacher=given)
    found = {(one.metric, one.slice): one.value for one in Evaluate().observe(exported, context)}
    assert found["agreement", None] == 1
    assert found["likelihood_drop", None] == pytest.approx(0, abs=1e-6)
    assert 0 < found["likelihood", None] < 0.1
    assert ("likelihood", "file:hau") in found and ("accuracy", None) in found


def test_a_bundle_of_it_is_no_predictor(
    model: Path, tmp_path: Path, make_bundle: Callable[..., Path]
):
    from edgecompress import load

    exported = Export().apply(Candidate.load(model), small_context(tmp_path, train=TEXTS))
    with pytest.raises(BundleError, match="masked-lm guesses hidden words"):
        load(make_bundle(exported))


def start(
    model: Path, store: Path, task: str, train: tuple[Example, ...], *stages: str
) -> Candidate:
    document = {"name": "body", "task": task, "model": str(model), "stages": list(stages)}
    if stages:
        document["data"] = {"format": "conll", "root": ".", "train": ["x"], "validation": ["x"]}
    recipe = build_recipe(YamlFile(document, None, {}), complete=False)
    pipeline = Pipeline(recipe, Store(store), Splits(train, train, (("train", "x"),)))
    try:
        return open_start(pipeline)
    finally:
        pipeline.close()


def test_a_recipe_of_another_task_takes_the_body(model: Path, tmp_path: Path):
    given = Candidate.load(model)
    found = start(model, tmp_path, "token-classification", tagged_examples(10), "finetune")
    assert found.labels == ("O", "B-LOC", "B-PER")
    body = load_module(found.model).base_model.state_dict()
    before = load_module(given.model).base_model.state_dict()
    assert all(bool((body[name] == value).all()) for name, value in before.items())
    again = start(model, tmp_path, "masked-lm", TEXTS)
    assert again.task == "masked-lm" and again.model == given.model


def test_other_weights_are_another_body(model: Path, tmp_path: Path):
    first = start(model, tmp_path, "token-classification", tagged_examples(10), "finetune")
    other = tmp_path / "other"
    tiny_teacher(other, TEXTS, "masked-lm", intermediate_size=32).save(other)
    second = start(other, tmp_path, "token-classification", tagged_examples(10), "finetune")
    assert first.model != second.model


def test_an_onnx_candidate_has_no_body_to_take(model: Path, tmp_path: Path):
    given = Candidate.load(model)
    context = small_context(tmp_path / "c", train=TEXTS, validation=TEXTS)
    exported = Export().apply(given, context)
    folder = context.folder
    (folder / "preprocessor").symlink_to(given.preprocessor)
    replace(exported, preprocessor=folder / "preprocessor").save(folder)
    with pytest.raises(DataError, match="the model answers masked-lm"):
        start(folder, tmp_path, "token-classification", tagged_examples(10))
