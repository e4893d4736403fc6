"""The model card: every figure is a measurement's, and what is not known is said or left out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from helpers import small_context
from huggingface_hub import ModelCard
from lookup_models import TAGS, WORD_TAGS, write_candidate, write_tokenizer

from edgecompress.bundle import verify_bundle
from edgecompress.bundle.card import CARD, render_card
from edgecompress.bundle.manifest import Manifest
from edgecompress.errors import DataError
from edgecompress.results import Limit, Row, RunResult, Verdict
from edgecompress.targets.accuracy import observe_accuracy
from edgecompress.targets.size import size_measurements
from edgecompress.texts import words_example
from edgecompress.values import Candidate, Example, Measurement, SessionSettings, Step, find

MakeBundle = Callable[..., Path]


def sentences(count: int, source: str) -> tuple[Example, ...]:
    """Sentences that the lookup tagger answers rightly, but for one word that it does not know."""
    known = tuple(WORD_TAGS.items())
    out = []
    for index in range(count):
        word, tag = known[index % len(known)]
        words, tags = ("ya", word, "je"), ("O", tag, "O")
        if source == "swa" and index % 3 == 0:
            words, tags = (*words, "dodoma"), (*tags, "B-LOC")
        out.append(words_example(words=words, tags=tags, source=source))
    return tuple(out)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory, tagger: Candidate) -> RunResult:
    """What the real observers find of the tagger; the teacher is a tagger that knows more."""
    folder = tmp_path_factory.mktemp("card")
    teacher = write_candidate(folder / "teacher", "token-classification")
    examples = sentences(120, "hau") + sentences(30, "swa")
    context = small_context(folder / "context", teacher=teacher, validation=examples)
    found = {
        split: observe_accuracy(tagger, examples, split, "local", context)
        for split in ("validation", "test")
    }
    mine = (*size_measurements(tagger.model, tagger.model), *found["validation"], *found["test"])
    late = Measurement("latency_p50", 3.0, "ms", "local", samples=12, invalid="throttled: too hot")
    verdicts = (Verdict("f1", "pass", "f1 is within its limit"),)
    rows = (
        Row("teacher", "reference", measurements=mine),
        Row("onnx-fp32", "reference", measurements=mine),
        Row(
            "quantize.dynamic",
            "candidate",
            steps=tagger.steps,
            measurements=(*mine, late),
            verdicts=verdicts,
        ),
    )
    return RunResult(
        name="tiny",
        task="token-classification",
        recipe={
            "name": "tiny",
            "data": {"format": "conll", "root": "masakhaner"},
            "teacher": {"model": "minilm"},
            "seed": 7,
        },
        rows=rows,
        winner="quantize.dynamic",
        verdict=Verdict("budget", "pass", "every limit is kept"),
        minimize="size",
        budget=(Limit("f1", max_drop=0.01), Limit("latency_p50", target="local", max=5.0)),
        environment={"cpu": "a processor", "cores": 2},
        data={
            "splits": {"test": 150},
            "digests": {"test": "ab" * 32},
            "columns": "text from 'tweet'",
            "splits drawn": "0.9 train, 0.1 test: by seed 3",
        },
        command="edgecompress run tiny.yaml -o out",
    )


@pytest.fixture
def card(tagger: Candidate, measured: RunResult, make_bundle: MakeBundle) -> str:
    bundle = make_bundle(
        tagger,
        recipe=measured.recipe,
        evidence=measured,
        licences={"model": "Apache-2.0"},
        inputs={"teacher": {"from": "minilm", "digest": "cd" * 32}},
    )
    verify_bundle(bundle)
    return (bundle / "evidence" / CARD).read_text(encoding="utf-8")


def test_its_front_matter_is_that_of_a_model_card(card: str, measured: RunResult) -> None:
    data = ModelCard(card).data
    assert data.language == ["ha", "sw"]
    assert data.license == "apache-2.0"
    assert data.library_name == "onnx"
    assert data.pipeline_tag == "token-classification"
    assert {"onnx", "edgecompress"} <= set(data.tags)
    f1 = next(one for one in data.eval_results if one.metric_type == "f1")
    known = find(measured.rows[2].measurements, "f1", split="test")
    assert f1.metric_value == round(known.value, 4)
    assert (f1.dataset_name, f1.dataset_split) == ("masakhaner", "test")


@pytest.mark.parametrize(
    ("data", "inputs", "name"),
    [
        ({"format": "cldr"}, {}, "Unicode CLDR"),
        ({"format": "conll"}, {"test": {"files": [{"name": "hau/test.txt"}]}}, "hau/test.txt"),
        ({"format": "conll", "root": "."}, {}, "unnamed"),
    ],
)
def test_data_without_a_folder_of_its_own_is_named_by_what_is_known(
    tagger: Candidate, measured: RunResult, data: object, inputs: object, name: str
) -> None:
    result = replace(measured, recipe={**measured.recipe, "data": data})
    manifest = Manifest("tiny", tagger.task, tagger.labels, "m", None, inputs={"data": inputs})
    assert ModelCard(render_card(manifest, result)).data.eval_results[0].dataset_name == name


def test_every_language_stands_beside_the_teacher(card: str, measured: RunResult) -> None:
    row = measured.rows[2]
    for source, name, count in (("hau", "Hausa", "120"), ("swa", "Swahili", "30\\*")):
        value = find(row.measurements, "f1", split="test", slice=f"file:{source}").value
        points = f"{value * 100:.2f}"
        figures = f"{count} | {points} | {points} | 0.00 (0.00 to 0.00)"
        assert f"| {name} ({source}) | {figures} |" in card
    assert "It was measured on Hausa and Swahili; of any other language nothing is known." in card
    assert "Fewer than 100 examples stand behind the figures of Swahili (swa) (30)" in card


def test_what_is_not_valid_or_not_there_is_said(card: str) -> None:
    section = card.partition("## Not measured, or not valid")[2].partition("\n## ")[0]
    assert "- Not valid on local: latency p50: throttled: too hot." in section
    assert "- Not measured on local: speedup over onnx-fp32, peak memory, energy" in section
    assert "~~3.00~~¹" in card and "¹ throttled: too hot" in card
    assert "The budget is not kept for certain: Latency p50 on local at most 5 ms" in card
    assert "No time that can be trusted was measured anywhere." in card


def test_what_it_is_and_where_it_comes_from(card: str) -> None:
    assert "Columns: text from 'tweet'." in card.replace("\\", "")
    assert "Splits drawn: 0.9 train, 0.1 test: by seed 3." in card.replace("\\", "")
    for text in (
        "- Labels (5): `O`, `B-PER`, `I-PER`, `B-LOC` and `I-LOC`",
        "- Teacher: `minilm`, ",
        "SHA-256 `cdcdcdcdcdcdcdcd…`",
        "- Licence: Apache-2.0",
        "graph optimization extended, without ConstantFolding, session.dynamic\\_block\\_base=4",
        "1. `export`: Written as ONNX, operator set 17; its outputs differ from PyTorch's by 1e-06",
        "| test | the figures below, read once at the end | 150 | – | `abababababababab…` |",
        "It finds PER and LOC, and nothing else.",
        "It reads 12 pieces of its tokenizer at once.",
        "Made by `edgecompress run tiny.yaml -o out`.",
    ):
        assert text in card


def test_what_is_not_known_is_not_in_the_front_matter(
    tagger: Candidate, measured: RunResult, make_bundle: MakeBundle
) -> None:
    def renamed(row: Row) -> Row:
        kept = (
            replace(one, slice=one.slice.replace("file:swa", "file:news")) if one.slice else one
            for one in row.measurements
            if one.split != "test"
        )
        return replace(row, measurements=tuple(kept))

    result = replace(measured, rows=tuple(map(renamed, measured.rows)))
    text = (make_bundle(tagger, evidence=result) / "evidence" / CARD).read_text(encoding="utf-8")
    data = ModelCard(text).data.to_dict()
    assert not {"language", "license", "model-index", "metrics"} & set(data)
    assert "- Licence: not recorded" in text
    assert "Hausa" not in text and "| hau | 120 |" in text
    assert "Not measured: anything on test; the figures are those it was chosen by." in text


def test_names_from_outside_are_shown_and_are_no_markup(measured: RunResult) -> None:
    bad = "<img src=x>|`a`\n# b"
    rows = tuple(
        replace(row, measurements=tuple(
            replace(one, slice=f"file:{bad}") if one.slice == "file:swa" else one
            for one in row.measurements
        ))
        for row in measured.rows
    )  # fmt: skip
    manifest = Manifest(
        name=bad,
        task="token-classification",
        labels=("O", f"B-{bad}"),
        model="model.onnx",
        preprocessor=None,
        session=SessionSettings(),
        steps=(Step("quantize.dynamic", {"name": bad}),),
        licences={"model": bad, "data": bad},
    )
    text = render_card(manifest, replace(measured, name=bad, rows=rows, command=bad))
    body = text.partition("\n---\n")[2]
    assert "\n# b" not in body and "<img src=x>|`a`" not in body.replace("`` <img", "")
    data = ModelCard(text).data
    assert data.license == "other" and data.license_name == "<img src=x>|`a` # b"
    table = next(line for line in body.splitlines() if line.startswith("| &lt;img"))
    assert table.count("|") - table.count("\\|") == 6


def test_a_result_without_rows_is_a_card_without_figures(
    tagger: Candidate, make_bundle: MakeBundle, measured: RunResult
) -> None:
    empty = replace(measured, rows=(), winner=None)
    text = (make_bundle(tagger, evidence=empty) / "evidence" / CARD).read_text(encoding="utf-8")
    assert "Nothing was measured of this model." in text
    assert "The figures were not taken apart" in text
    assert "1. `export`: Written as ONNX" in text


def test_a_tokenizer_that_cannot_be_read_is_named(
    tmp_path: Path, tagger: Candidate, make_bundle: MakeBundle, measured: RunResult
) -> None:
    write_tokenizer(tmp_path / "preprocessor", ("a",))
    (tmp_path / "preprocessor" / "tokenizer.json").write_text("{}")
    broken = replace(tagger, preprocessor=tmp_path / "preprocessor")
    with pytest.raises(DataError, match="tokenizer"):
        make_bundle(broken, evidence=measured)


def test_its_labels_are_those_of_the_bundle(card: str) -> None:
    assert all(f"`{tag}`" in card for tag in TAGS)
