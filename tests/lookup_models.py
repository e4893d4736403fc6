"""Tiny candidates with real tokenizers and real ONNX models, of which every answer is known.

Their models are lookup tables: a token's embedding is its logits.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from edgecompress.values import Candidate, OnnxModel, SessionSettings, Step

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
WORD_TAGS = {"muhammadu": "B-PER", "buhari": "I-PER", "abuja": "B-LOC", "ikeja": "B-LOC"}
WORD_LANGUAGES = {"sannu": "hau", "ina": "hau", "habari": "swa", "asubuhi": "swa"}
MAX_LENGTH = 12


def write_tokenizer(folder: Path, words: tuple[str, ...]) -> None:
    """Write a lower-casing word tokenizer with BERT's special tokens."""
    vocabulary = {piece: index for index, piece in enumerate((*SPECIALS, *words))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "model_max_length": MAX_LENGTH,
        "pad_token": "[PAD]",
        "model_input_names": ["input_ids", "attention_mask"],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")


def write_model(
    file: Path,
    table: np.ndarray,
    *,
    pooled: bool,
    external: bool = False,
    open_shape: bool = False,
) -> None:
    """Write a model that looks logits up in `table`, float32 (pieces, classes).

    `pooled` sums them over the text; `external` puts the table into a file beside the model;
    `open_shape` (not pooled) leaves the number of classes out of the signature.
    """
    classes = table.shape[1]
    named: str | int = "classes" if open_shape else classes
    value = helper.make_tensor_value_info
    inputs = [
        value("input_ids", TensorProto.INT64, ["batch", "length"]),
        value("attention_mask", TensorProto.INT64, ["batch", "length"]),
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["found"]),
        helper.make_node("MatMul", ["found", "identity"], ["each"]),
    ]
    initializers = [
        numpy_helper.from_array(table.astype(np.float32), "table"),
        numpy_helper.from_array(np.eye(classes, dtype=np.float32), "identity"),
    ]
    shape: list[str | int] = ["batch", named]
    if pooled:
        nodes += [
            helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
            helper.make_node("Mul", ["each", "weights"], ["kept"]),
            helper.make_node("ReduceSum", ["kept", "middle"], ["logits"], keepdims=0),
        ]
        initializers += [
            numpy_helper.from_array(np.array([2]), "last"),
            numpy_helper.from_array(np.array([1]), "middle"),
        ]
    else:
        # Of how many classes Compress keeps, ONNX's shape inference knows nothing.
        last = helper.make_node("Compress", ["each", "every"], ["logits"], axis=2)
        nodes.append(last if open_shape else helper.make_node("Identity", ["each"], ["logits"]))
        if open_shape:
            initializers.append(numpy_helper.from_array(np.ones(classes, dtype=bool), "every"))
        shape = ["batch", "length", named]
    graph = helper.make_graph(
        nodes, "lookup", inputs, [value("logits", TensorProto.FLOAT, shape)], initializers
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    file.parent.mkdir(parents=True, exist_ok=True)
    if external:
        onnx.save(
            model,
            str(file),
            save_as_external_data=True,
            location=f"{file.name}.data",
            size_threshold=80,  # onnx reads axes while it infers shapes: they stay inside
        )
    else:
        onnx.save(model, str(file))


def write_candidate(folder: Path, task: str, *, external: bool = False) -> Candidate:
    """Write a candidate whose answers are those of `WORD_TAGS` or `WORD_LANGUAGES`."""
    tagging = task == "token-classification"
    answers = WORD_TAGS if tagging else WORD_LANGUAGES
    labels = TAGS if tagging else tuple(sorted(set(WORD_LANGUAGES.values())))
    pieces = (*SPECIALS, *answers)
    table = np.zeros((len(pieces), len(labels)), dtype=np.float32)
    for number, piece in enumerate(pieces):
        table[number, labels.index(answers.get(piece, labels[0]))] = 4.0 if piece in answers else 0
    if tagging:
        table[: len(SPECIALS), 0] = 3.0
    write_tokenizer(folder / "preprocessor", tuple(answers))
    write_model(folder / "model" / "model.onnx", table, pooled=not tagging, external=external)
    return Candidate(
        model=OnnxModel(
            folder / "model" / "model.onnx",
            SessionSettings(
                "extended", ("ConstantFolding",), (("session.dynamic_block_base", "4"),)
            ),
        ),
        preprocessor=folder / "preprocessor",
        task=task,
        labels=labels,
        steps=(Step("export", {"opset": 17}, {"parity": 1e-6}, seconds=1.5),),
    )
