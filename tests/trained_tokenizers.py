"""Small tokenizers of every kind that can be trimmed, and tiny models on them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from edgecompress.texts import words_example
from edgecompress.values import Candidate, Example

LABELS = ("O", "B-PER")
KINDS = ("wordpiece", "byte-bpe", "metaspace-bpe", "unigram")
SYLLABLES = ("ka", "no", "la", "gos", "ba", "ri", "mu", "sha", "wa", "ki", "tu", "ndu", "ge", "to")


def texts(count: int, seed: int = 0, length: int = 9) -> list[str]:
    """Sentences of made-up words, some much more frequent than others."""
    chance = random.Random(seed)
    words = ["".join(chance.choices(SYLLABLES, k=chance.randint(1, 4))) for _ in range(400)]
    words += ["Kano", "Lagos,", "3.5%", "ẹ̀kọ́", "Ọjà", "кошка", "中国", "naïve", "U.S.", "»ja«"]
    return [
        " ".join(words[int(chance.random() ** 2 * len(words))] for _ in range(length))
        for _ in range(count)
    ]


def write(kind: str, folder: Path, vocabulary: int = 300, seed: int = 0) -> Path:
    """Train a tokenizer of a kind and save it with all files that transformers writes beside it."""
    import transformers

    tokenizer, cls, specials = getattr(_Made, kind.replace("-", "_"))(texts(300, seed), vocabulary)
    fast = getattr(transformers, cls)(tokenizer_object=tokenizer, model_max_length=64, **specials)
    fast.save_pretrained(folder)
    for stale in ("vocab.txt", "merges.txt", "sentencepiece.bpe.model"):
        if not (folder / stale).exists():
            (folder / stale).write_text("stale\n")
    return folder


BERT = {
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
ROBERTA = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "cls_token": "<s>",
    "sep_token": "</s>",
    "mask_token": "<mask>",
}


class _Made:
    """One tokenizer per kind, with the transformers class that loads it and its special tokens."""

    @staticmethod
    def wordpiece(lines: list[str], size: int) -> tuple[Tokenizer, str, dict[str, str]]:
        found = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        found.normalizer = normalizers.BertNormalizer(lowercase=False)
        found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        found.decoder = decoders.WordPiece()
        # As in BERT's: specials stand behind places that were left free.
        free = ["[PAD]", *(f"[unused{n}]" for n in range(5)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
        found.train_from_iterator(
            lines,
            trainers.WordPieceTrainer(vocab_size=size, special_tokens=free, show_progress=False),
        )
        document: Any = json.loads(found.to_str())
        document["added_tokens"] = [
            token for token in document["added_tokens"] if "unused" not in token["content"]
        ]
        found = Tokenizer.from_str(json.dumps(document))
        found.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=[(name, found.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
        )
        return found, "BertTokenizerFast", {**BERT, "do_lower_case": False}  # type: ignore[dict-item]

    @staticmethod
    def byte_bpe(lines: list[str], size: int) -> tuple[Tokenizer, str, dict[str, str]]:
        found = Tokenizer(models.BPE())
        found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
        found.decoder = decoders.ByteLevel()
        found.train_from_iterator(
            lines,
            trainers.BpeTrainer(
                vocab_size=size + 200,
                special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
        )
        found.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
        found.post_processor = processors.RobertaProcessing(
            ("</s>", found.token_to_id("</s>")), ("<s>", found.token_to_id("<s>"))
        )
        return found, "RobertaTokenizerFast", {**ROBERTA, "add_prefix_space": True}  # type: ignore[dict-item]

    @staticmethod
    def metaspace_bpe(lines: list[str], size: int) -> tuple[Tokenizer, str, dict[str, str]]:
        found = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
        found.pre_tokenizer = pre_tokenizers.Metaspace()
        found.decoder = decoders.Metaspace()
        specials = ["<unk>", "<s>", "</s>", "<pad>", *(f"<0x{byte:02X}>" for byte in range(256))]
        found.train_from_iterator(
            [line for line in lines if "中" not in line],
            trainers.BpeTrainer(
                vocab_size=size + 260, special_tokens=specials, show_progress=False
            ),
        )
        document = json.loads(found.to_str())
        document["added_tokens"] = document["added_tokens"][:4]
        found = Tokenizer.from_str(json.dumps(document))
        found.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            special_tokens=[(name, found.token_to_id(name)) for name in ("<s>", "</s>")],
        )
        named = {k: v for k, v in ROBERTA.items() if k != "mask_token"}
        return found, "PreTrainedTokenizerFast", named

    @staticmethod
    def unigram(lines: list[str], size: int) -> tuple[Tokenizer, str, dict[str, str]]:
        """As XLM-R's: four specials before SentencePiece's pieces, <mask> behind them all."""
        found = Tokenizer(models.Unigram())
        found.normalizer = normalizers.Sequence(
            [normalizers.Nmt(), normalizers.NFKC(), normalizers.Replace(" {2,}", " ")]
        )
        found.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()]
        )
        found.decoder = decoders.Metaspace()
        found.train_from_iterator(
            lines,
            trainers.UnigramTrainer(
                vocab_size=size, unk_token="<unk>", special_tokens=["<unk>"], show_progress=False
            ),
        )
        document = json.loads(found.to_str())
        learnt = [entry for entry in document["model"]["vocab"] if entry[0] != "<unk>"]
        front = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0]]
        document["model"] |= {"vocab": [*front, *learnt, ["<mask>", 0.0]], "unk_id": 3}
        document["added_tokens"] = []
        found = Tokenizer.from_str(json.dumps(document))
        found.add_special_tokens(["<s>", "<pad>", "</s>", "<unk>"])
        found.add_special_tokens([AddedToken("<mask>", lstrip=True, normalized=False)])
        found.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>",
            pair="<s> $A </s> </s> $B </s>",
            special_tokens=[("<s>", 0), ("</s>", 2)],
        )
        return found, "XLMRobertaTokenizerFast", ROBERTA


def sentences(count: int, seed: int) -> tuple[Example, ...]:
    found = []
    for line in texts(count, seed):
        words = tuple(line.split())
        tags = tuple("B-PER" if word.startswith("ka") else "O" for word in words)
        found.append(words_example(words=words, tags=tags, source="mine"))
    return tuple(found)


def candidate(
    folder: Path, family: str, kind: str, rows: int | None = None, **more: Any
) -> Candidate:
    """Write a tiny model of a family with a real tokenizer; `rows` pads its embedding."""
    import torch
    import transformers

    from edgecompress.surgery.model import save_module

    tokenizer = transformers.AutoTokenizer.from_pretrained(write(kind, folder / "preprocessor"))
    config = getattr(transformers, f"{family}Config")(
        vocab_size=rows or len(tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=70,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
        id2label=dict(enumerate(LABELS)),
        label2id={label: number for number, label in enumerate(LABELS)},
        **more,
    )
    torch.manual_seed(0)
    module = getattr(transformers, f"{family}ForTokenClassification")(config).eval()
    model = save_module(module, folder / "model")
    return Candidate(model, folder / "preprocessor", "token-classification", LABELS)


TRAIN, DEV = sentences(30, 5), sentences(30, 9)
