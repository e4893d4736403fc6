"""`quantize.weights`: 4-bit tables and layers that run, and that mix with int8 layers."""

import numpy as np
import pytest
from helpers import small_context, tagged_examples
from pydantic import ValidationError
from small_encoders import relative_error, torch_logits, write_encoder

from edgecompress.quantization.proof import coverage
from edgecompress.quantization.session import input_specs, open_session
from edgecompress.stage import check_stage
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.stages.quantize.static import Static
from edgecompress.stages.quantize.weights import Weights


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoder")
    return write_encoder(folder, "Bert", "token-classification", uneven=True)


@pytest.fixture(scope="module")
def exported(encoder, tmp_path_factory):
    return Export().apply(encoder, small_context(tmp_path_factory.mktemp("export")))


def distance(made, encoder):
    session = open_session(made.model)
    names = tuple(spec.name for spec in input_specs(session))
    expected, feeds = torch_logits(encoder, tagged_examples(20, seed=3), names)
    return relative_error(expected, [session.run(None, feed)[0] for feed in feeds])


def operators(made):
    return coverage(made.model).operators


def test_all_weights_in_four_bits(exported, encoder, tmp_path):
    made = check_stage(Weights(), exported, small_context(tmp_path))
    found = operators(made)
    exceptions = made.steps[-1].decisions["exceptions"].values()
    refused = [reason for reason in exceptions if reason.endswith("no multiple of 16")]
    assert found["MatMulNBits"] + len(refused) == 2 * 6 + 1 and len(refused) < 6
    assert found["GatherBlockQuantized"] == 3
    assert distance(made, encoder) < 0.5
    finer = Weights(linear_bits=8, embedding_bits=8).apply(exported, small_context(tmp_path / "8"))
    assert distance(finer, encoder) < distance(made, encoder) / 4
    sizes = [c.model.path.stat().st_size for c in (made, finer, exported)]
    assert sizes == sorted(sizes)


def test_searched_scales_are_nearer_than_round_to_nearest(exported, tmp_path):
    def table_error(method):
        made = Weights(linears=False, method=method).apply(
            exported, small_context(tmp_path / method)
        )
        session, original = open_session(made.model), open_session(exported.model)
        specs = input_specs(session)
        ids = np.arange(8)[None]
        feed = {s.name: ids if s.name == "input_ids" else np.ones_like(ids) for s in specs}
        return np.abs(session.run(None, feed)[0] - original.run(None, feed)[0]).mean()

    assert table_error("search") != table_error("nearest")


@pytest.mark.parametrize("stage", [Dynamic, Static])
def test_a_table_of_four_bits_beside_layers_of_int8(stage, exported, encoder, tmp_path):
    four = stage(embedding_bits=4, embedding_block=16)
    data = {"train": tagged_examples(10)}
    four = stage(embedding_bits=4, embedding_block=16)
    made = check_stage(four, exported, small_context(tmp_path / "four", **data))
    eight = stage().apply(exported, small_context(tmp_path / "eight", **data))
    found = operators(made)
    assert found["GatherBlockQuantized"] == 3
    assert len(made.steps[-1].decisions["int8_linears"]) == 2 * 6 + 1
    assert made.model.path.stat().st_size < eight.model.path.stat().st_size
    assert distance(made, encoder) < 0.3
    # The same in two stages.
    first = Weights(linears=False, embedding_block=16).apply(
        exported, small_context(tmp_path / "first")
    )
    assert first.steps[-1].decisions["exceptions"]["/classifier/MatMul"].startswith("linear layers")
    second = stage().apply(first, small_context(tmp_path / "second", **data))
    assert operators(second) == found


def test_nothing_to_do_is_refused():
    with pytest.raises(ValidationError, match="nothing to do"):
        Weights(linears=False, embeddings=False)
