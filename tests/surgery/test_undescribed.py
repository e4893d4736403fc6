"""Models of text of a family that nobody describes: exported and quantized like any other."""

import json

import numpy as np
import pytest
import torch
import transformers
from checkpoints import write_checkpoint
from helpers import labelled_texts, small_context, tagged_examples

from edgecompress.models.session import open_session
from edgecompress.processors import TextProcessor
from edgecompress.stages.export import Export
from edgecompress.stages.quantize.dynamic import Dynamic
from edgecompress.surgery.families import family_names
from edgecompress.surgery.model import load_module
from edgecompress.training.teacher import import_teacher
from edgecompress.training.teacher_tokenizer import longest_input
from edgecompress.values import OnnxModel

POSITIONS = 40  # of which MPNet never uses the first two, and another family's model may not, too
LONGER = 200
"""Tokens that the tokenizers of these tests allow: more than the models have positions for."""


SHAPES = {"MPNet": {}, "Mistral": {"num_key_value_heads": 2, "head_dim": 8}}


@pytest.mark.parametrize("family", SHAPES)
def test_a_model_of_an_undescribed_family_becomes_int8(family, tmp_path):
    tagged = family == "MPNet"
    task = "token-classification" if tagged else "text-classification"
    names = ("O", "B-LOC", "B-PER") if tagged else ("person", "place")
    module = write_checkpoint(tmp_path / "model", family, task, names, **SHAPES[family])
    assert module.config.model_type not in family_names()
    file = tmp_path / "model" / "tokenizer_config.json"
    settings = {"model_max_length": LONGER, "tokenizer_class": "PreTrainedTokenizerFast"}
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    candidate = import_teacher(str(tmp_path / "model"), task, None, tmp_path / "teacher")
    assert TextProcessor.load(candidate.preprocessor).max_length == POSITIONS - 2
    examples = tagged_examples(8) if tagged else labelled_texts(8)
    made = Export().apply(candidate, small_context(tmp_path / "a", validation=examples))
    assert isinstance(made.model, OnnxModel)
    session = open_session(made.model)
    module = load_module(candidate.model)
    for size in (
        (1, 3),
        (3, 13),
        (1, POSITIONS - 2),
    ):  # other numbers of texts and tokens than were traced
        ids = torch.randint(4, 20, size, generator=torch.Generator().manual_seed(1))
        feed = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        feed |= {"token_type_ids": torch.zeros_like(ids)}
        feed = {one.name: feed[one.name] for one in session.get_inputs()}
        with torch.no_grad():
            expected = module(**feed).logits.numpy()
        found = session.run(None, {name: value.numpy() for name, value in feed.items()})
        assert np.allclose(found[0], expected, atol=1e-4)
    int8 = Dynamic(force=True).apply(made, small_context(tmp_path / "b", validation=examples))
    assert int8.model.path.stat().st_size > 0


def test_the_longest_input_of_models_that_nobody_describes():
    mpnet = transformers.MPNetConfig(max_position_embeddings=514)  # pads with 1, as RoBERTa does
    assert longest_input(mpnet, 1e30) == 512
    last = transformers.GPT2Config(n_positions=1024, pad_token_id=50256)
    assert longest_input(last, 1e30) == 1022
    without = transformers.XLNetConfig()
    assert longest_input(without, 1e30) == 512
    assert longest_input(without, 2000) == 512
