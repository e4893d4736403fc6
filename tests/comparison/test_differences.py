"""What differs between two bundles is found, named by its key, and nothing else is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.bundle import write_bundle
from edgecompress.comparison.changes import Change, changes
from edgecompress.comparison.differences import compare
from edgecompress.comparison.side import read_side
from edgecompress.errors import BundleError
from edgecompress.results import Row, RunResult, Verdict
from edgecompress.values import Candidate, Measurement, OnnxModel, SessionSettings, Step

MakeBundle = Callable[..., Path]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab", max_size=2),
    lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text("xy", max_size=2), below),
    max_leaves=12,
)


@given(JSON, JSON)
def test_values_without_a_change_are_the_same_json(old: object, new: object) -> None:
    assert changes(old, old) == ()
    same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    assert (changes(old, new) == ()) is same


def test_an_inserted_stage_does_not_shift_the_others() -> None:
    old = {"stages": ["export", {"quantize.dynamic": {"per_channel": True}}]}
    new = {"stages": [{"distil": {"epochs": 3}}, "export", {"quantize.dynamic": {}}], "seed": 8}
    assert changes(old, new) == (
        Change("stages[0]", "added", new={"distil": {"epochs": 3}}),
        Change("stages[2].quantize.dynamic.per_channel", "removed", old=True),
        Change("seed", "added", new=8),
    )


def test_long_lists_are_told_by_what_came_and_went() -> None:
    old = [f"layer.{index}" for index in range(20)]
    (found,) = changes({"int8": old}, {"int8": [*old[1:], "head"]})
    assert (found.key, found.old, found.new) == ("int8", ["layer.0"], ["head"])
    (order,) = changes(old, old[::-1])
    assert (order.old, order.new) == ("20 entries", "20 entries")


def result(*measured: Measurement, cpu: str = "one") -> RunResult:
    row = Row("winner", "candidate", measurements=measured)
    return RunResult(
        name="tiny",
        task="token-classification",
        recipe={},
        rows=(row,),
        winner="winner",
        verdict=Verdict("budget", "pass", "every limit is kept"),
        minimize="size",
        budget=(),
        environment={"cpu": cpu},
        data={},
    )


def score(value: float, low: float, high: float) -> Measurement:
    at = {"target": "local", "split": "test"}
    return Measurement("f1_drop", value, "fraction", **at, interval=(low, high))


def test_equal_bundles_differ_in_nothing(tagger: Candidate, make_bundle: MakeBundle) -> None:
    measured = result(score(0.01, 0.0, 0.02))
    sides = [read_side(make_bundle(tagger, name, evidence=measured)) for name in ("a", "b")]
    found = compare(*sides)
    assert found.same_core and sides[0].digest == sides[1].digest
    for part in ("about", "recipe", "versions", "inputs", "stages", "files", "remarks"):
        assert getattr(found, part) == ()
    assert [one.difference for one in found.numbers] == [0.0]


def test_every_part_that_differs_is_named(
    tmp_path: Path, tagger: Candidate, classifier: Candidate, make_bundle: MakeBundle
) -> None:
    old = make_bundle(tagger, "old", code={"digest": "a"}, inputs={"data": {"train": 1}})
    assert isinstance(classifier.model, OnnxModel)
    model = replace(tagger.model, session=SessionSettings("all"))
    steps = (Step("distil", {"epochs": 3}, key="k"), replace(tagger.steps[0], key="other"))
    other = replace(tagger, model=model, labels=tagger.labels[::-1], steps=steps)
    new = tmp_path / "new"
    write_bundle(
        new,
        other,
        {"name": "tiny", "seed": 8},
        {"edgecompress": "0.2.0"},
        code={"digest": "b"},
        inputs={"data": {"train": 2}},
        licences={"model": "MIT"},
    )
    found = compare(read_side(old), read_side(new))
    assert not found.same_core
    assert {one.key for one in found.about} >= {
        "labels.O",  # its place is what the model answers with
        "session.graph_optimization_level",
        "session.config_entries.session.dynamic_block_base",
    }
    assert found.recipe == (Change("seed", "changed", 7, 8),)
    assert {one.key: (one.old, one.new) for one in found.versions} == {
        "code.digest": ("a", "b"),
        "edgecompress": ("0.1.0", "0.2.0"),
    }
    assert {(one.key, one.kind) for one in found.inputs} == {
        ("inputs.data.train", "changed"),
        ("licences.model", "added"),
    }
    assert [(one.stage, one.kind, len(one.changes)) for one in found.stages] == [
        ("distil", "added", 2),
        ("export", "changed", 0),  # only its key: it did the same, from another input
    ]
    changed = {one.name for one in found.files if one.kind == "changed"}
    assert "manifest.json" in changed
    assert not changed & {"model.onnx", "preprocessor/tokenizer.json"}
    assert json.dumps(found.to_json(), allow_nan=False)


def test_numbers_are_paired_and_say_whether_intervals_overlap(
    tagger: Candidate, make_bundle: MakeBundle
) -> None:
    slow = Measurement("latency_p50", 2.0, "ms", "local", interval=(1.9, 2.1), invalid="throttled")
    nothing = Measurement("energy", math.nan, "mJ", "local", invalid="no meter")
    gone = Measurement("evaluate", math.nan, "count", "pi5", samples=0, invalid="it fell silent")
    old = result(score(0.01, 0.0, 0.02), slow, nothing, gone)
    new = result(
        score(0.04, 0.03, 0.05), replace(slow, value=3.0, interval=(2.9, 3.1)), cpu="another"
    )
    sides = (
        read_side(make_bundle(tagger, name, evidence=evidence, inputs=inputs))
        for name, evidence, inputs in (
            ("a", old, {"data": {"test": {"digest": "1"}}}),
            ("b", new, {"data": {"test": {"digest": "2"}}}),
        )
    )
    found = compare(*sides)
    numbers = {one.metric: one for one in found.numbers}
    assert set(numbers) == {"f1_drop", "latency_p50", "energy"}
    assert numbers["f1_drop"].overlap is False
    assert numbers["f1_drop"].difference == pytest.approx(0.03)
    assert numbers["latency_p50"].overlap is None  # a number that is not valid proves nothing
    assert numbers["energy"].new is None and numbers["energy"].difference is None
    text = " ".join(found.remarks)
    assert "the test data differ" in text and "local was one and is another" in text
    document = found.to_json()
    assert json.loads(json.dumps(document, allow_nan=False))["numbers"][2]["old"]["value"] is None


def test_a_bundle_without_evidence_has_no_numbers(
    tagger: Candidate, make_bundle: MakeBundle
) -> None:
    with_evidence = make_bundle(tagger, "a", evidence=result(score(0.01, 0.0, 0.02)))
    found = compare(read_side(with_evidence), read_side(make_bundle(tagger, "b")))
    assert "the new bundle has no measurements beside it" in found.remarks[0]


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        '{"rows": 3, "winner": "a", "environment": {}}',
        '{"rows": [{"name": "a", "measurements": [{"metric": "f1"}]}], "winner": "a", '
        '"environment": {}}',
        '{"rows": [], "winner": null, "environment": 3}',
        "[" * 100_000,
    ],
)
def test_measurements_of_another_kind_are_refused(
    tagger: Candidate, make_bundle: MakeBundle, text: str
) -> None:
    bundle = make_bundle(tagger, evidence=result())
    (bundle / "evidence" / "measurements.json").write_text(text)
    with pytest.raises(BundleError, match=r"measurements\.json: differs"):
        read_side(bundle)
    with pytest.raises(BundleError, match=r"measurements\.json: not measurements"):
        read_side(bundle, verify=False)
