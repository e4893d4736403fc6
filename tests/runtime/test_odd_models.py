"""Bundles whose lists are right and whose model answers oddly: refused in words, or answered."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from fuzzing.bundles import odd_model

from edgecompress.bundle import write_bundle
from edgecompress.errors import BundleError
from edgecompress.runtime import load
from edgecompress.values import Candidate, OnnxModel

TEXTS = ["Muhammadu Buhari je Abuja", "", "je " * 40]


@pytest.mark.parametrize("task", ["token-classification", "text-classification"])
def test_an_odd_model_is_refused_in_a_sentence_or_answers_with_numbers(
    tmp_path: Path, tagger: Candidate, classifier: Candidate, task: str
) -> None:
    honest = tagger if task == "token-classification" else classifier
    endings: Counter[str] = Counter()
    for seed in range(40):
        folder = tmp_path / str(seed)
        folder.mkdir()
        content, told = odd_model(random.Random(seed), len(honest.labels))
        (folder / "model.onnx").write_bytes(content)
        odd = Candidate(OnnxModel(folder / "model.onnx"), honest.preprocessor, task, honest.labels)
        write_bundle(folder / "bundle", odd, {"name": "odd"}, {})
        try:
            predictor = load(folder / "bundle", threads=1, verify=False)
            for said in predictor.predict(TEXTS):
                scores = [said.score or 0.0, *said.scores.values()]
                scores += [entity.score for entity in said.entities]
                assert np.isfinite(scores).all(), told
            endings["answered"] += 1
        except BundleError as error:
            assert str(folder / "bundle" / "model.onnx") in str(error), told
            assert len(str(error).splitlines()) == 1, told
            endings["refused"] += 1
    assert endings["refused"] >= 20
