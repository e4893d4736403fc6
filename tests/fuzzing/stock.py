"""Good inputs, made once, that hostile ones are made of: graphs, a tokenizer, labelled texts."""

from __future__ import annotations

import functools
import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CONLL = "Ya O\nal B-PER\n- I-PER\nBarnawi I-PER\n\nKano B-LOC\nta O\n. O\n\n" * 4
TSV = "id\ttext\tlabel\n" + "".join(
    f"{n}\tsokoni {n} leo na Kano\t{('good', 'bad', 'neither')[n % 3]}\n" for n in range(24)
)
TEXT = "".join(f"alienda sokoni jiya {n}\n" for n in range(24))
CSV = "id;text;label\n" + "".join(
    f'{n};"sokoni; {n} ""leo""\nKano";{("good", "bad", "neither")[n % 3]}\n' for n in range(24)
)
JSONL = "".join(
    f'{{"tokens": ["Ya", "ta", "{n}"], "ner_tags": [0, {n % 2}, {2 * (n % 2)}]}}\n'
    for n in range(24)
)
POWER = "time,watts\n" + "".join(f"{1.7e9 + n / 10:.1f},{3 + n % 5}\n" for n in range(200))


@dataclass(frozen=True)
class Stock:
    """The folder of good inputs; each is written when it is first asked for."""

    folder: Path

    @functools.cached_property
    def numbers(self) -> Path:
        """A graph of one float input (batch, 8) in two layers."""
        return _graph(self.folder / "numbers.onnx", "numbers")

    @functools.cached_property
    def texts(self) -> Path:
        """A graph of input_ids and attention_mask (batch, length)."""
        return _graph(self.folder / "texts.onnx", "texts")

    @functools.cached_property
    def images(self) -> Path:
        """A graph of one image (batch, 3, height, width)."""
        return _graph(self.folder / "images.onnx", "images")

    @functools.cached_property
    def tokenizer(self) -> Path:
        """A folder with the files of a small tokenizer and of an image processor."""
        return _tokenizer(self.folder / "tokenizer")

    def data(self, folder: Path) -> Path:
        """Write labelled texts of every format into a case's folder; no text is in two splits."""
        folder.mkdir(exist_ok=True)
        for split in ("train", "dev", "test"):
            (folder / f"{split}.conll").write_text(
                CONLL.replace("ta O", f"{split} O").replace("Ya", split), "utf-8"
            )
            (folder / f"{split}.tsv").write_text(TSV.replace("leo", split), "utf-8")
            (folder / f"{split}.csv").write_text(CSV.replace("leo", split), "utf-8")
            (folder / f"{split}.jsonl").write_text(JSONL.replace('"ta"', f'"{split}"'), "utf-8")
            (folder / f"{split}.txt").write_text(TEXT.replace("jiya", split), "utf-8")
        return folder

    def copied(self, source: Path, folder: Path) -> Path:
        """Copy a good input into a case's folder."""
        place = folder / source.name
        if source.is_dir():
            shutil.copytree(source, place)
        else:
            shutil.copyfile(source, place)
        return place


def array_file(**arrays: np.ndarray) -> bytes:
    """The bytes of an .npz file."""
    kept = io.BytesIO()
    np.savez(kept, **arrays)
    return kept.getvalue()


def _graph(file: Path, kind: str) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    random = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(random.standard_normal(shape).astype(np.float32), name)

    if kind == "numbers":
        inputs = [value("x", TensorProto.FLOAT, ["batch", 8])]
        weights = [weight("a", 8, 16), weight("b", 16), weight("c", 16, 4)]
        nodes = [
            helper.make_node("MatMul", ["x", "a"], ["h1"]),
            helper.make_node("Add", ["h1", "b"], ["h2"]),
            helper.make_node("Relu", ["h2"], ["h3"]),
            helper.make_node("MatMul", ["h3", "c"], ["y"]),
        ]
        output = value("y", TensorProto.FLOAT, ["batch", 4])
    elif kind == "texts":
        names = ("input_ids", "attention_mask")
        inputs = [value(name, TensorProto.INT64, ["batch", "length"]) for name in names]
        weights = [weight("table", 40, 16), weight("w", 16, 3)]
        nodes = [
            helper.make_node("Gather", ["table", "input_ids"], ["e"]),
            helper.make_node("Cast", ["attention_mask"], ["m"], to=TensorProto.FLOAT),
            helper.make_node("MatMul", ["e", "w"], ["y3"]),
            helper.make_node("ReduceSum", ["m"], ["s"], keepdims=0),
            helper.make_node("Mul", ["y3", "s"], ["y"]),
        ]
        output = value("y", TensorProto.FLOAT, ["batch", "length", 3])
    else:
        inputs = [value("image", TensorProto.FLOAT, ["batch", 3, "height", "width"])]
        weights = [weight("k", 4, 3, 3, 3), weight("w", 4, 2)]
        nodes = [
            helper.make_node("Conv", ["image", "k"], ["h1"]),
            helper.make_node("ReduceMean", ["h1"], ["h2"], axes=[2, 3], keepdims=0),
            helper.make_node("MatMul", ["h2", "w"], ["y"]),
        ]
        output = value("y", TensorProto.FLOAT, ["batch", 2])
    graph = helper.make_graph(nodes, kind, inputs, [output], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), str(file))
    return file


def _tokenizer(folder: Path) -> Path:
    import json

    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "alienda", "sokoni", "jiya", "leo", "na", "kano"]
    made = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    folder.mkdir(parents=True)
    made.save(str(folder / "tokenizer.json"))
    config = {"model_max_length": 32, "pad_token": "[PAD]", "model_input_names": ["input_ids"]}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    images = {"size": {"shortest_edge": 16}, "crop_size": {"height": 12, "width": 12},
              "do_resize": True, "do_center_crop": True, "do_rescale": True,
              "rescale_factor": 0.0039, "do_normalize": True, "image_mean": [0.5, 0.5, 0.5],
              "image_std": [0.5, 0.5, 0.5]}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps(images))
    return folder
