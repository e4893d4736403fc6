"""Bundles that version 0.1.0 made: they load, verify and answer as they did then."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgecompress.bundle import verify_bundle
from edgecompress.runtime import load

PLACE = Path(__file__).parent / "bundles_of_0_1"
ANSWERS = json.loads((PLACE / "answers.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", ["languages", "tags"])
def test_they_load_and_answer_as_they_did(name: str) -> None:
    manifest = verify_bundle(PLACE / name, evidence=False)
    assert manifest.versions["edgecompress"] == "0.1.0"
    predictor = load(PLACE / name, threads=1)
    mine = [one for one in ANSWERS if one["bundle"] == name]
    assert len(mine) >= 2
    for one in mine:
        asked = one["asked"]
        found = predictor.predict(asked) if isinstance(asked, str) else None
        said = (found or predictor.predict_words(asked)).to_json()
        assert list(said) == list(one["said"])
        assert _rounded(said) == _rounded(one["said"])


def _rounded(value: object) -> object:
    """Probabilities differ in their last bits from processor to processor."""
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return pytest.approx(value, rel=1e-6) if isinstance(value, float) else value
