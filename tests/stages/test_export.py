"""`export`: the same numbers as PyTorch on every shape, and a file that says so."""

import numpy as np
import pytest
from helpers import labelled_texts, small_context, tagged_examples
from small_encoders import torch_logits, write_encoder

from edgecompress.errors import StageError
from edgecompress.models.session import input_specs, open_session
from edgecompress.quantization.prove.proof import check_model
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export

DATA = {"token-classification": tagged_examples, "text-classification": labelled_texts}


@pytest.mark.parametrize(
    ("family", "task", "uneven"),
    [
        ("Bert", "token-classification", True),
        ("Bert", "text-classification", False),
        ("XLMRoberta", "token-classification", False),
        ("XLMRoberta", "text-classification", True),
    ],
)
def test_it_answers_as_pytorch_does(tmp_path, family, task, uneven):
    candidate = write_encoder(tmp_path / "torch", family, task, uneven=uneven)
    context = small_context(tmp_path / "run", validation=DATA[task](24))
    made = check_stage(Export(), candidate, context)
    check_model(made.model)
    parity = made.steps[-1].decisions["parity"]
    assert parity["max_abs_difference"] < 1e-4
    assert len({length for _, length in parity["shapes"]}) >= 2
    assert parity["shapes"][-1][0] == 4
    session = open_session(made.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(candidate, DATA[task](10, seed=5), names)
    for logits, feed in zip(expected, feeds, strict=True):
        assert np.abs(session.run(None, feed)[0] - logits).max() < 1e-4
    assert all(isinstance(size, str) for spec in input_specs(session) for size in spec.shape)
    assert sorted(file.name for file in context.folder.rglob("*") if file.is_file()) == [
        "model.onnx"
    ]


def test_pruned_heads_make_the_file_smaller(tmp_path):
    sizes = []
    for uneven in (False, True):
        candidate = write_encoder(
            tmp_path / f"t{uneven}", "Bert", "token-classification", uneven=uneven
        )
        made = Export().apply(candidate, small_context(tmp_path / f"r{uneven}"))
        sizes.append(made.model.path.stat().st_size)
    assert sizes[1] < sizes[0]


def test_without_data_made_up_ids_are_compared(tmp_path):
    candidate = write_encoder(tmp_path / "torch", "Bert", "token-classification")
    made = Export().apply(candidate, small_context(tmp_path / "run"))
    assert made.steps[-1].decisions["parity"]["shapes"] == [[1, 5], [1, 11], [3, 9]]


def test_a_difference_above_the_tolerance_stops_the_chain(tmp_path):
    candidate = write_encoder(tmp_path / "torch", "Bert", "token-classification")
    with pytest.raises(StageError, match=r"differs from PyTorch by .* more than the tolerance"):
        Export(tolerance=1e-12).apply(candidate, small_context(tmp_path / "run"))
