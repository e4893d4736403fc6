"""How far language models in few bits are from the model in fp32, to choose among them.

    python benchmarks/divergence.py --data DIR FP32 MODEL…

Models are folders that edgecompress wrote. They are asked about `--passages` passages of 2,000
characters, spread over wikitext2's validation text behind the first twelve, which calibrate. What
is printed is the mean Kullback-Leibler divergence of each token's probabilities from those of fp32,
in hundredths of a nat, and by how many per cent perplexity rises. The first is nearly free of the
chance that few passages bring to the second, and about as large where both are small.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from edgecompress.data import data_config
from edgecompress.generation.states import unread
from edgecompress.models.runner import SessionRunner, open_onnx
from edgecompress.tasks import load_processor
from edgecompress.values import Candidate, OnnxModel

CALIBRATING = 12
WINDOW = 512


def opened(folder: Path) -> SessionRunner:
    """Open a model on one thread."""
    model = Candidate.load(folder).model
    assert isinstance(model, OnnxModel)
    return open_onnx(model, 1)


def logs(runner: SessionRunner, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Give the logarithms of all tokens' probabilities, float32 (length, vocabulary)."""
    feed = dict.fromkeys(("input_ids", "attention_mask", "position_ids"), ids[None])
    found = runner(unread(feed, runner.specs))["logits"][0].astype(np.float32)
    found -= found.max(axis=-1, keepdims=True)
    found -= np.log(np.exp(found).sum(axis=-1, keepdims=True))
    return np.asarray(found)


def main() -> None:
    """Ask all of them, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path, nargs="+", help="fp32 first")
    parser.add_argument("--data", type=Path, required=True, help="folder of wikitext2's files")
    parser.add_argument("--passages", type=int, default=6)
    arguments = parser.parse_args()
    config = {"format": "text", "passage": 2000, "root": arguments.data, "train": "valid.txt"}
    known = data_config(config).read("train")[CALIBRATING:]
    chosen = known[:: len(known) // arguments.passages][: arguments.passages]
    first, *others = [opened(folder) for folder in arguments.models]
    processor: Any = load_processor(
        "text-generation", Candidate.load(arguments.models[0]).preprocessor
    )
    found: list[list[tuple[float, float]]] = [[] for _ in others]
    for example in chosen:
        ids = processor.encode_text([example.inputs["text"]])[0][:WINDOW]
        exact = logs(first, ids)
        for each, rows in zip(others, found, strict=True):
            lost = exact - logs(each, ids)
            told = lost[:-1][np.arange(len(ids) - 1), ids[1:]]
            rows.append((float((np.exp(exact) * lost).sum(axis=-1).mean()), float(told.mean())))
    print("| model | divergence, 1/100 nat | perplexity |\n|---|--:|--:|")
    for folder, rows in zip(arguments.models[1:], found, strict=True):
        divergence, told = np.mean(rows, axis=0)
        print(f"| {folder.name} | {100 * divergence:.3f} | {100 * np.expm1(told):+.2f} % |")


if __name__ == "__main__":
    main()
