"""Batches and threads: which models may be asked in batches, and that no answer changes by it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from attention_model import write_attention
from lookup_models import MAX_LENGTH, WORD_LANGUAGES, WORD_TAGS
from onnx import helper
from onnxruntime.capi import onnxruntime_pybind11_state

from edgecompress.errors import DataError
from edgecompress.runtime import load, predictor
from edgecompress.runtime.operators import batches_change_answers, operator_types
from edgecompress.runtime.prediction import Prediction
from edgecompress.runtime.predictor import BATCH
from edgecompress.values import Candidate, OnnxModel

MakeBundle = Callable[..., Path]


@pytest.fixture(scope="module")
def attention(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    folder = tmp_path_factory.mktemp("attention")
    kinds = {"tags": "token-classification", "text": "text-classification"}
    return {
        name: write_attention(folder / name, kind, quantized)
        for short, kind in kinds.items()
        for name, quantized in (
            (short, ""),
            (f"{short}-int8", "dynamic"),
            (f"{short}-static", "static"),
        )
    }


@pytest.fixture(scope="module")
def texts() -> list[str]:
    """Of every length up to six windows, in no order."""
    chance = random.Random(3)
    words = (*WORD_TAGS, *WORD_LANGUAGES, "other")
    lengths = [*range(1, 3 * MAX_LENGTH), 5 * MAX_LENGTH, 6 * MAX_LENGTH] * 2
    found = ["", *(" ".join(chance.choices(words, k=length)) for length in lengths)]
    chance.shuffle(found)
    return found


def probabilities(said: Prediction) -> list[float]:
    return list(said.scores.values()) or [entity.score for entity in said.entities]


@pytest.mark.parametrize("name", ["tags", "text", "tags-static", "text-static"])
@pytest.mark.parametrize("batch", [None, 3, 64])
def test_padding_changes_no_answer(
    attention: dict[str, Candidate],
    texts: list[str],
    make_bundle: MakeBundle,
    name: str,
    batch: int | None,
) -> None:
    bundle = make_bundle(attention[name])
    alone = [load(bundle, batch=1, threads=1).predict(text) for text in texts]
    together = load(bundle, batch=batch, threads=1).predict(texts)
    for one, other in zip(alone, together, strict=True):
        assert (one.text, one.label, one.tags) == (other.text, other.label, other.tags)
        assert probabilities(other) == pytest.approx(probabilities(one), abs=1e-5)
    assert len({said.label or said.tags for said in alone}) > 1


@pytest.mark.parametrize("name", ["tags-int8", "text-int8"])
def test_dynamic_int8_is_asked_one_row_at_a_time(
    attention: dict[str, Candidate], texts: list[str], make_bundle: MakeBundle, name: str
) -> None:
    bundle = make_bundle(attention[name])
    predictor = load(bundle, threads=1)
    assert predictor.batch == 1
    assert predictor.predict(texts) == [predictor.predict(text) for text in texts]
    # Why: a neighbour moves the range that activations are quantized over.
    batched = load(bundle, threads=1, batch=8)
    assert batched.batch == 8
    changed = zip(predictor.predict(texts), batched.predict(texts), strict=True)
    assert any(
        not np.allclose(probabilities(one), probabilities(other), atol=1e-4)
        for one, other in changed
        if len(one.entities) == len(other.entities)
    )


def test_batches_are_taken_where_they_change_nothing(
    attention: dict[str, Candidate], tagger: Candidate, make_bundle: MakeBundle
) -> None:
    assert load(make_bundle(attention["tags"], "fp32")).batch == BATCH
    assert load(make_bundle(attention["tags-static"], "static")).batch == BATCH
    assert load(make_bundle(tagger, "lookup")).batch == BATCH
    with pytest.raises(ValueError, match="batch must be at least 1"):
        load("anywhere", batch=0)


def test_rows_given_to_the_model_are_batches(
    attention: dict[str, Candidate],
    texts: list[str],
    make_bundle: MakeBundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    predictor = load(make_bundle(attention["tags"]), threads=1, batch=4)
    session, shapes = predictor._session, []

    class Spy:
        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            shapes.append(feed["input_ids"].shape)
            return session.run(names, feed)

    monkeypatch.setattr(predictor, "_session", Spy())
    predictor.predict(texts)
    rows, full = sum(rows for rows, _ in shapes), sum(rows == 4 for rows, _ in shapes)
    assert rows > len(texts)  # windows
    assert full > len(shapes) / 2
    assert all(length <= MAX_LENGTH for _, length in shapes)


def test_a_graph_with_a_fixed_batch_is_asked_one_row_at_a_time(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    assert isinstance(tagger.model, OnnxModel)
    model = onnx.load(str(tagger.model.path))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    onnx.save(model, str(tmp_path / "fixed.onnx"))
    bundle = make_bundle(replace(tagger, model=OnnxModel(tmp_path / "fixed.onnx")))
    predictor = load(bundle)
    assert predictor.batch == 1
    assert len(predictor.predict(["je Abuja", "je", "Abuja"])) == 3
    with pytest.raises(DataError, match="takes one row at a time; leave batch 2 out"):
        load(bundle, batch=2)


def test_without_a_mask_only_rows_of_one_length_share_a_batch(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    assert isinstance(tagger.model, OnnxModel)
    model = onnx.load(str(tagger.model.path))
    mask = next(value for value in model.graph.input if value.name == "attention_mask")
    model.graph.input.remove(mask)
    onnx.save(model, str(tmp_path / "maskless.onnx"))
    bundle = make_bundle(replace(tagger, model=OnnxModel(tmp_path / "maskless.onnx")))
    predictor = load(bundle, batch=8)
    session, shapes = predictor._session, []

    class Spy:
        def run(self, names: list[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
            shapes.append(feed["input_ids"].shape)
            return session.run(names, feed)

    predictor._session = Spy()
    predictor.predict(["je", "je Abuja", "Abuja", "je je"])
    assert sorted(shapes) == [(2, 3), (2, 4)]


def test_a_stream_is_answered_as_it_comes(
    attention: dict[str, Candidate], make_bundle: MakeBundle
) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        while True:
            taken += 1
            yield "je Abuja"

    one_by_one = load(make_bundle(attention["tags-int8"], "int8"), threads=1).stream(endless())
    for expected in (1, 2, 3):
        assert next(one_by_one).text == "je Abuja"
        assert taken == expected
    taken = 0
    batched = load(make_bundle(attention["tags"], "fp32"), threads=1, batch=2)
    next(batched.stream(endless()))
    assert taken == 2 * 16


def test_long_texts_are_not_gathered(
    attention: dict[str, Candidate], make_bundle: MakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predictor, "_AHEAD_CHARACTERS", 20)
    taken = []
    words = ["Abuja je"] * 9
    stream = load(make_bundle(attention["text"]), threads=1).stream(
        taken.append(text) or text for text in words
    )
    next(stream)
    assert len(taken) == 3
    assert len(list(stream)) == 8


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("name", ["tags", "text", "tags-int8", "text-int8"])
def test_the_number_of_threads_changes_no_answer(
    attention: dict[str, Candidate],
    texts: list[str],
    make_bundle: MakeBundle,
    name: str,
    count: int,
) -> None:
    bundle = make_bundle(attention[name])
    assert load(bundle, threads=count).predict(texts) == load(bundle, threads=1).predict(texts)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("edgecompress.runtime.threads.usable_cores", lambda: 3)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    return tmp_path / "cache"


def test_the_number_of_threads_is_found_once(
    tagger: Candidate, make_bundle: MakeBundle, memory: Path
) -> None:
    bundle = make_bundle(tagger)
    fresh = load(bundle)
    assert (fresh.threads, fresh.tuned) == (3, False)
    assert not memory.exists()
    before = fresh.predict("je Abuja")
    times = fresh.tune(limit_s=0.05)
    assert set(times) <= {1, 2, 3}
    assert 3 in times
    assert fresh.tuned
    assert fresh.predict("je Abuja") == before
    again = load(bundle)
    assert (again.threads, again.tuned) == (fresh.threads, True)
    assert again._session.get_session_options().intra_op_num_threads == fresh.threads
    assert (load(bundle, threads=2).threads, load(bundle, threads=2).tuned) == (2, True)
    (file,) = (memory / "edgecompress" / "threads").iterdir()
    file.write_text("damaged")
    assert not load(bundle).tuned


def test_auto_measures_when_nothing_is_remembered(
    classifier: Candidate, make_bundle: MakeBundle, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "edgecompress.runtime.threads.fastest", lambda *_, **__: {1: 2.0, 2: 1.0, 3: 1.1}
    )
    bundle = make_bundle(classifier)
    assert load(bundle, threads="auto").threads == 2
    monkeypatch.setattr(
        "edgecompress.runtime.threads.fastest", lambda *_, **__: pytest.fail("again")
    )
    assert load(bundle, threads="auto").threads == 2


def test_a_place_that_cannot_be_written_is_no_error(
    tagger: Candidate, make_bundle: MakeBundle, memory: Path
) -> None:
    memory.write_text("a file where the folder should be")
    predictor = load(make_bundle(tagger))
    predictor.tune(limit_s=0.01)
    assert predictor.tuned
    assert predictor.predict("Abuja").entities


def test_one_core_needs_no_measuring(
    tagger: Candidate, make_bundle: MakeBundle, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgecompress.runtime.threads.usable_cores", lambda: 1)
    predictor = load(make_bundle(tagger))
    assert predictor.tune() == {}
    assert (predictor.threads, predictor.tuned) == (1, True)
    assert not memory.exists()


def test_operators_are_found_in_subgraphs_and_functions(tmp_path: Path) -> None:
    def graph(operator: str, *attributes: onnx.AttributeProto) -> onnx.GraphProto:
        made = helper.make_node(operator, ["x"], ["y"])
        made.attribute.extend(attributes)
        return helper.make_graph([made], operator, [], [])

    inner = helper.make_attribute("then_branch", graph("DynamicQuantizeLinear"))
    nested = helper.make_attribute("body", graph("If", inner))
    function = helper.make_function(
        "own", "F", ["x"], ["y"], [helper.make_node("Neg", ["x"], ["y"])], []
    )
    model = helper.make_model(graph("Loop", nested), functions=[function])
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = operator_types(tmp_path / "model.onnx")
    assert found == {"Loop", "If", "DynamicQuantizeLinear", "Neg"}
    assert batches_change_answers(tmp_path / "model.onnx")
    for text in (b"", b"\xff" * 20):
        (tmp_path / "broken.onnx").write_bytes(text)
        with pytest.raises(DataError, match=r"broken\.onnx: not an ONNX model"):
            operator_types(tmp_path / "broken.onnx")


def test_the_operators_that_are_known_to_be_dynamic_exist() -> None:
    from edgecompress.runtime.operators import DYNAMIC

    schemas = onnxruntime_pybind11_state.get_all_operator_schema()
    known = {schema.name for schema in schemas}
    assert known >= DYNAMIC
