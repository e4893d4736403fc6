"""results.json: written and read back, no NaN in it, documented field by field."""

import dataclasses
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from results_page import kinds, renew

from edgecompress.errors import DataError
from edgecompress.report.document import from_json, json_schema, to_json
from edgecompress.report.fields import DESCRIPTIONS
from edgecompress.results import Row, RunResult, Verdict
from edgecompress.values import Measurement

PAGE = Path(__file__).parents[2] / "docs" / "results.md"


def one_row(result: RunResult, *measurements: Measurement) -> RunResult:
    return replace(result, rows=(Row("a", "candidate", measurements=measurements),), winner="a")


def refuse(name: str) -> None:
    raise AssertionError(f"{name} in results.json")


def test_round_trip(result: RunResult) -> None:
    text = to_json(result)
    again = from_json(text)
    assert to_json(again) == text
    assert again.rows == result.rows
    assert again.budget == result.budget
    assert again.format == 1


def test_numbers_that_are_not_finite_become_null_with_a_reason(result: RunResult) -> None:
    odd = one_row(
        result,
        Measurement("size", math.inf, "bytes"),
        Measurement("latency_p50", math.nan, "ms", invalid="throttled", interval=(1.0, math.nan)),
        Measurement("speedup", 2.0, "x", conditions={"raw": [1.0, math.nan, np.float32(0.5)]}),
    )
    odd = replace(odd, verdict=Verdict("budget", "fail", "nothing was finished", math.inf))
    text = to_json(odd)
    document = json.loads(text, parse_constant=refuse)
    size, latency, speedup = document["rows"][0]["measurements"]
    assert size["value"] is None
    assert "finite" in size["invalid"]
    assert (latency["value"], latency["invalid"], latency["interval"]) == (None, "throttled", None)
    assert speedup["conditions"] == {"raw": [1.0, None, 0.5]}
    assert document["verdict"]["miss"] is None
    again = from_json(text)
    assert math.isnan(again.rows[0].measurements[0].value)
    assert again.verdict.miss == math.inf


@given(value=st.floats(), low=st.floats(), high=st.floats())
def test_any_number_gives_json(value: float, low: float, high: float) -> None:
    row = Row("a", "candidate", measurements=(Measurement("x", value, "ms", interval=(low, high)),))
    made = RunResult("n", None, {}, (row,), None, Verdict("budget", "pass", ""), "size", (), {}, {})
    document = json.loads(to_json(made), parse_constant=refuse)
    found = document["rows"][0]["measurements"][0]
    assert (found["value"] is None) == (not math.isfinite(value))
    assert found["value"] is not None or found["invalid"]
    from_json(to_json(made))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not JSON"),
        ("[]", "no format"),
        ('{"format": 2}', "upgrade edgecompress"),
        ('{"format": 1, "rows": []}', "damaged"),
    ],
)
def test_a_damaged_document_is_refused_in_words(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        from_json(text)


def test_a_wrong_field_is_named(result: RunResult) -> None:
    document = json.loads(to_json(result))
    document["rows"][0]["measurements"][0]["unit"] = 3
    with pytest.raises(DataError, match=r"rows\.0\.measurements\.0\.unit"):
        from_json(json.dumps(document))


def test_unknown_fields_are_ignored(result: RunResult) -> None:
    document = json.loads(to_json(result)) | {"later": 1}
    assert from_json(json.dumps(document)).name == result.name


def test_what_json_cannot_hold_is_named(result: RunResult) -> None:
    with pytest.raises(DataError, match=r"result\.data\.x"):
        to_json(replace(result, data={"x": object()}))


def test_the_page_and_the_classes_are_in_step() -> None:
    for name, kind in kinds().items():
        assert list(DESCRIPTIONS[name]) == [field.name for field in dataclasses.fields(kind)]
    page = PAGE.read_text(encoding="utf-8")
    assert renew(page) == page, "run: python tests/results_page.py docs/results.md"


def test_the_schema_describes_and_requires_every_field() -> None:
    schema = json_schema()
    for name in DESCRIPTIONS:
        part = schema if name == "RunResult" else schema["$defs"][name]
        assert set(part["properties"]) == set(DESCRIPTIONS[name]) == set(part["required"])
        assert all(field["description"] for field in part["properties"].values())
    assert schema["$defs"]["Measurement"]["properties"]["value"]["anyOf"][1] == {"type": "null"}
    json.dumps(schema)


def test_the_pages_example_is_a_result() -> None:
    example = re.search(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    assert to_json(from_json(example[1])) == example[1]
