"""Tiny PyTorch encoders with random weights and real tokenizers, as candidates of either task."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from helpers import PEOPLE, PLACES, WORDS
from lookup_models import SPECIALS, write_tokenizer

from edgecompress.processors import TextProcessor
from edgecompress.tasks import task
from edgecompress.values import Candidate, Example

TASKS = {
    "token-classification": ("ForTokenClassification", ("O", "B-LOC", "B-PER")),
    "text-classification": ("ForSequenceClassification", ("person", "place")),
    "masked-lm": ("ForMaskedLM", ()),
}
# Its own tokens are outside of a small vocabulary; windows shorter than the texts.
MODERN = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
MODERN |= {"local_attention": 4, "reference_compile": False}


def write_encoder(
    folder: Path, family: str, name: str, *, uneven: bool = False, positions: int = 40
) -> Candidate:
    """Write a two-layer model of a `family` (``Bert``, ``XLMRoberta``) for the task `name`.

    Its weights are larger than a fresh model's, so that logits differ from text to text. `uneven`
    prunes it: other numbers of heads and neurons in each layer.
    """
    import torch
    import transformers

    from edgecompress.surgery.heads_and_neurons import keep_heads_and_neurons
    from edgecompress.surgery.model import save_module

    words = tuple(word.lower() for word in (*PEOPLE, *PLACES, *WORDS))
    write_tokenizer(folder / "preprocessor", words)
    head, labels = TASKS[name]
    config = getattr(transformers, f"{family}Config")(
        vocab_size=len(SPECIALS) + len(words),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=positions,
        pad_token_id=0,
        initializer_range=0.2,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        **MODERN if family == "ModernBert" else {},
    )
    torch.manual_seed(0)
    module = getattr(transformers, family + head)(config).eval()
    if uneven:
        keep_heads_and_neurons(module, [[0, 2, 3], [1]], [range(40), range(0, 64, 3)])
    model = save_module(module, folder / "model")
    return Candidate(model, folder / "preprocessor", name, labels)


def torch_logits(candidate: Candidate, examples: tuple[Example, ...], names: tuple[str, ...]):
    """Logits of the PyTorch model, in fp32, and the feeds, one per example."""
    import torch

    from edgecompress.surgery.model import load_module

    found, preprocessor = task(candidate.task), TextProcessor.load(candidate.preprocessor)
    encoded = found.rows(examples, preprocessor, candidate.labels)
    feeds = [encoded.batch([row], names) for row in range(len(encoded))]
    module = load_module(candidate.model)
    with torch.no_grad():
        logits = [
            module(**{k: torch.from_numpy(v) for k, v in feed.items()})[0].numpy() for feed in feeds
        ]
    return logits, feeds


def relative_error(expected: list[np.ndarray], found: list[np.ndarray]) -> float:
    """Mean absolute difference over the spread of what was expected."""
    first = np.concatenate([array.ravel() for array in expected])
    second = np.concatenate([array.ravel() for array in found])
    return float(np.abs(first - second).mean() / first.std())
