"""Predicting from a bundle: known answers, long texts, odd input, the session it asks for."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lookup_models import MAX_LENGTH, write_model
from tokenizers import Tokenizer, pre_tokenizers

import edgecompress
from edgecompress.errors import BundleError, DataError
from edgecompress.processors import TextProcessor
from edgecompress.runtime import Predictor, load
from edgecompress.runtime.prediction import Entity, Prediction
from edgecompress.tasks import Answer, task
from edgecompress.tasks.entities import tagged_spans
from edgecompress.texts import words_example
from edgecompress.values import Candidate, Example, OnnxModel, SessionSettings

MakeBundle = Callable[..., Path]

KEEPS_IDENTITY = ("optimization.disable_specified_optimizers", "EliminateIdentity")


@pytest.fixture
def tags(tagger: Candidate, make_bundle: MakeBundle) -> Predictor:
    return load(make_bundle(tagger, "tags"), threads=1)


@pytest.fixture
def languages(classifier: Candidate, make_bundle: MakeBundle) -> Predictor:
    return load(str(make_bundle(classifier, "languages")), threads=1)


def test_classifies_a_text(languages: Predictor) -> None:
    said = languages.predict("Habari ya asubuhi!")
    assert said.text == "Habari ya asubuhi!"
    assert said.label == "swa"
    assert list(said.scores) == ["hau", "swa"]
    assert sum(said.scores.values()) == pytest.approx(1)
    assert said.score == pytest.approx(said.scores["swa"]) == pytest.approx(1 / (1 + np.exp(-8)))
    assert said.entities == ()
    assert set(said.to_json()) == {"text", "label", "score", "scores"}


def test_several_texts_are_answered_in_order(languages: Predictor) -> None:
    said = languages.predict(["sannu", "habari"])
    assert [each.label for each in said] == ["hau", "swa"]
    assert languages.predict([]) == []
    assert languages.predict(iter(["sannu"])) == said[:1]


def test_finds_entities_in_raw_text(tags: Predictor) -> None:
    text = "Jiya,  Muhammadu Buhari ya je (Abuja)."
    said = tags.predict(text)
    person, place = said.entities
    assert (person.label, person.start, person.end) == ("PER", 7, 23)
    assert person.text == text[7:23] == "Muhammadu Buhari"
    assert place.text == "Abuja"
    assert text[place.start : place.end] == "Abuja"
    assert 0.9 < place.score < 1
    assert said.words[:3] == ("Jiya", ",", "Muhammadu")
    assert said.tags[:4] == ("O", "O", "B-PER", "I-PER")
    assert set(said.to_json()) == {"text", "entities"}


def test_takes_words_too(tags: Predictor, languages: Predictor) -> None:
    said = tags.predict_words(["Muhammadu", "Buhari", "je", "Abuja"])
    assert [entity.text for entity in said.entities] == ["Muhammadu Buhari", "Abuja"]
    assert said == tags.predict("Muhammadu Buhari je Abuja")
    assert tags.predict_words([]).entities == ()
    with pytest.raises(DataError, match="takes texts, not words"):
        languages.predict_words(["sannu"])
    with pytest.raises(TypeError, match="use predict"):
        tags.predict_words("sannu")


def test_nothing_is_lost_in_a_long_text(tags: Predictor, languages: Predictor) -> None:
    words = ["je"] * 50 + ["Abuja"] + ["je"] * 50 + ["Ikeja"]
    said = tags.predict(" ".join(words))
    assert [entity.text for entity in said.entities] == ["Abuja", "Ikeja"]
    assert len(said.tags) == len(words) > 5 * MAX_LENGTH
    assert languages.predict("je " * 60 + "habari " * 2).label == "swa"


def test_a_word_that_is_longer_than_the_model_is_said(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    # A tokenizer that cuts words into letters: a word of n letters has n pieces.
    assert tagger.preprocessor
    shutil.copytree(tagger.preprocessor, tmp_path / "letters")
    tokenizer = Tokenizer.from_file(str(tmp_path / "letters" / "tokenizer.json"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(tmp_path / "letters" / "tokenizer.json"))
    bundle = make_bundle(replace(tagger, preprocessor=tmp_path / "letters"))
    predictor = load(bundle)
    room = MAX_LENGTH - 2
    fits, longer = "x" * room, "y" * (room + 1)
    said = predictor.predict(f"a {fits} {longer} b {longer}")
    assert said.words == ("a", fits, longer, "b", longer)
    assert [said.text[start:end] for start, end in said.shortened] == [longer, longer]
    assert said.to_json()["shortened"] == [[13, 24], [27, 38]]
    assert predictor.predict(f"a {fits} b").shortened == ()
    assert "shortened" not in predictor.predict(f"a {fits} b").to_json()


def test_answers_are_those_of_the_evaluation(
    tags: Predictor, tagger: Candidate, tmp_path: Path
) -> None:
    sentences = [("Muhammadu", "je", "Abuja"), ("Buhari",), ("je",) * 30, ("\u200b",), ()]
    kind = task("token-classification")
    assert tagger.preprocessor
    preprocessor = TextProcessor.load(tagger.preprocessor)
    encoded = kind.rows([words_example(words=s) for s in sentences], preprocessor, tagger.labels)
    assert isinstance(tagger.model, OnnxModel)
    session = onnxruntime.InferenceSession(str(tagger.model.path))
    logits = [
        session.run(
            ["logits"],
            encoded.batch([row], ("input_ids", "attention_mask")),
        )[0][0]
        for row in range(len(encoded))
    ]
    answers = kind.decode(logits, encoded)
    assert tuple(tags.predict_words(s).tags for s in sentences) == answers.labels


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u200b", "\x00", "🙂‍↔️", "a" * 5000, "።፡", "‘’"])
def test_odd_texts_get_an_answer(tags: Predictor, languages: Predictor, text: str) -> None:
    assert tags.predict(text).entities == ()
    assert languages.predict(text).label in ("hau", "swa")


def test_text_that_is_none_is_refused(tags: Predictor, languages: Predictor) -> None:
    for predictor in (tags, languages):
        with pytest.raises(DataError, match="not valid Unicode"):
            predictor.predict("broken \ud800")
        with pytest.raises(TypeError, match="must be a str, not int"):
            predictor.predict([1])  # type: ignore[list-item]
        with pytest.raises(TypeError):
            predictor.predict(None)  # type: ignore[call-overload]


def test_predictions_are_frozen_and_travel(tags: Predictor) -> None:
    said = tags.predict("Abuja")
    with pytest.raises(FrozenInstanceError):
        said.text = "Ikeja"  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(said)) == said


def test_the_session_is_the_one_that_the_bundle_asks_for(
    tagger: Candidate, make_bundle: MakeBundle
) -> None:
    options = load(make_bundle(tagger), threads=2)._session.get_session_options()
    assert (
        options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    )
    assert options.get_session_config_entry("session.dynamic_block_base") == "4"
    assert options.intra_op_num_threads == 2
    with pytest.raises(ValueError, match="at least 1"):
        load("anywhere", threads=0)


@pytest.mark.parametrize(
    ("wanted", "left"),
    [
        (SessionSettings("disable"), {"Gather", "MatMul", "Identity"}),
        (SessionSettings("basic"), {"Gather", "MatMul"}),
        (SessionSettings("basic", ("EliminateIdentity",)), {"Gather", "MatMul", "Identity"}),
        (SessionSettings("basic", (), (KEEPS_IDENTITY,)), {"Gather", "MatMul", "Identity"}),
    ],
)
def test_graph_and_session_settings_take_effect(
    tagger: Candidate,
    make_bundle: MakeBundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    wanted: SessionSettings,
    left: set[str],
) -> None:
    class Saving(onnxruntime.SessionOptions):
        def __init__(self) -> None:
            super().__init__()
            self.optimized_model_filepath = str(tmp_path / "run.onnx")

    monkeypatch.setattr(onnxruntime, "SessionOptions", Saving)
    load(make_bundle(replace(tagger, model=replace(tagger.model, session=wanted))), threads=1)
    executed = onnx.load(str(tmp_path / "run.onnx"))
    assert {node.op_type for node in executed.graph.node} == left


def test_a_damaged_bundle_is_not_opened(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger)
    with (bundle / "model.onnx").open("ab") as stream:
        stream.write(b"\0")
    with pytest.raises(BundleError, match=r"model\.onnx: differs from its digest"):
        load(bundle)
    with pytest.raises(BundleError, match=r"model\.onnx: ONNX Runtime .* cannot open it"):
        load(bundle, verify=False)


def test_a_model_too_new_for_the_runtime_is_refused_in_words(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    shutil.copytree(tagger.model.directory, tmp_path / "newer")
    model = onnx.load(str(tmp_path / "newer" / "model.onnx"))
    model.ir_version = 99
    (tmp_path / "newer" / "model.onnx").write_bytes(model.SerializeToString())
    newer = replace(tagger, model=replace(tagger.model, path=tmp_path / "newer" / "model.onnx"))
    bundle = make_bundle(newer, versions={"onnxruntime": "99.1.0"})
    with pytest.raises(BundleError, match=r"cannot open it .*onnxruntime 99\.1\.0 or later"):
        load(bundle)
    with pytest.raises(BundleError, match=r"cannot open it \([^;]*\)$"):
        load(make_bundle(newer, "older", versions={"onnxruntime": "1.0.0"}))


def test_the_evidence_is_not_needed(tagger: Candidate, make_bundle: MakeBundle) -> None:
    bundle = make_bundle(tagger, report_html="<p>")
    shutil.rmtree(bundle / "evidence")
    assert load(bundle).predict("Abuja").entities


def test_bundles_that_cannot_answer_say_why(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    with pytest.raises(BundleError, match="has no task"):
        load(make_bundle(Candidate(tagger.model), "bare"))
    with pytest.raises(BundleError, match="has no tokenizer"):
        load(make_bundle(replace(tagger, preprocessor=None), "no-tokenizer"))
    with pytest.raises(BundleError, match="unknown task"):
        load(make_bundle(replace(tagger, task="token-clasification"), "typo"))
    with pytest.raises(BundleError, match="answers with 5 classes, the manifest has 4 labels"):
        load(make_bundle(replace(tagger, labels=tagger.labels[:4]), "labels"))
    assert tagger.preprocessor
    shutil.copytree(tagger.preprocessor, tmp_path / "bad")
    (tmp_path / "bad" / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer"):
        load(make_bundle(replace(tagger, preprocessor=tmp_path / "bad"), "bad-tokenizer"))


def test_a_failure_inside_the_model_is_one_sentence(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    small = tmp_path / "small" / "model.onnx"
    write_model(small, np.zeros((4, len(tagger.labels))), pooled=False)
    predictor = load(make_bundle(replace(tagger, model=OnnxModel(small))))
    with pytest.raises(BundleError, match="ONNX Runtime failed on this text") as caught:
        predictor.predict("Abuja")  # its id lies outside the table
    assert "\n" not in str(caught.value)


def test_classes_that_the_signature_leaves_open_are_counted(
    tagger: Candidate, make_bundle: MakeBundle, tmp_path: Path
) -> None:
    wide = tmp_path / "wide" / "model.onnx"
    write_model(wide, np.zeros((8, len(tagger.labels) + 1)), pooled=False, open_shape=True)
    predictor = load(make_bundle(replace(tagger, model=OnnxModel(wide))))
    with pytest.raises(BundleError, match="answers with 6 classes, the manifest has 5 labels"):
        predictor.predict("Abuja")


tag_names = st.sampled_from(["O", "B-PER", "I-PER", "E-PER", "S-PER", "B-LOC", "I-LOC", "B-A-B"])


@settings(deadline=None)
@given(st.lists(tag_names, max_size=12))
def test_entities_are_read_as_seqeval_reads_them(tags: list[str]) -> None:
    from seqeval.metrics.sequence_labeling import get_entities

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tagged_spans(tags) == get_entities(tags)


def test_plain_tags_join_neighbours_and_scores_are_means() -> None:
    kind, asked = task("token-classification"), Example({"words": ("a", "b", "c")})
    answer = Answer(("X", "X", "Y"), np.array([0.4, 0.6, 1.0]))
    assert Prediction(kind.say(answer, asked)).entities == (
        Entity("a b", "X", 0, 3, 0.5),
        Entity("c", "Y", 4, 5, 1.0),
    )


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, edgecompress, edgecompress.cli.predict, edgecompress.cli.bundle\n"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime', 'tokenizers', 'numpy'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []


def test_load_is_public() -> None:
    assert edgecompress.load is load
