"""A teacher from nothing: a tokenizer trained on the training texts and a small BERT.

For demonstrations, tests and languages that no checkpoint knows. The weights are drawn from a seed;
`finetune` trains them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from edgecompress.errors import DataError
from edgecompress.texts import running_text
from edgecompress.values import Candidate, Example, TorchModel

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class NewTeacher(BaseModel):
    """Shape of a BERT made from scratch, and of its tokenizer."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: PositiveInt = 4
    """Transformer blocks."""
    hidden_size: PositiveInt = 256
    """Width of the states between blocks."""
    heads: PositiveInt = 4
    """Attention heads in a block; divides hidden_size."""
    intermediate_size: PositiveInt = 1024
    """Neurons in the feed-forward part of a block."""
    vocabulary: int = Field(default=8000, ge=64)
    """Most word pieces, special ones included; small data gives fewer."""
    max_length: int = Field(default=128, ge=8)
    """Longest input in tokens; longer texts are divided into windows."""
    tokenizer: Literal["wordpiece", "bpe"] = "wordpiece"
    """How the pieces are found. (A unigram trainer gives other scores each time it runs.)"""
    lowercase: bool = False
    """Fold case before splitting; accents and tone marks are always kept."""

    @model_validator(mode="after")
    def _heads_divide(self) -> NewTeacher:
        if self.hidden_size % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size})")
        return self

    def make(
        self,
        examples: Sequence[Example],
        task: str,
        labels: Sequence[str],
        folder: Path,
        seed: int,
    ) -> Candidate:
        """Train the tokenizer, draw the weights, and write both.

        Parameters
        ----------
        examples : sequence of Example
            The training examples; their texts train the tokenizer.
        task : str
        labels : sequence of str
        folder : Path
            New; gets ``model`` and ``preprocessor``.
        seed : int
            Of the weights.

        Raises
        ------
        DataError
            When the examples hold no text.
        """
        import torch
        import transformers

        from edgecompress.surgery.model import save_module
        from edgecompress.tasks import task as find_task
        from edgecompress.training.teacher_tokenizer import write_tokenizer

        tokenizer = self._train_tokenizer(examples)
        config = transformers.BertConfig(
            vocab_size=tokenizer.get_vocab_size(),
            hidden_size=self.hidden_size,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            intermediate_size=self.intermediate_size,
            max_position_embeddings=self.max_length,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            pad_token_id=0,
            id2label=dict(enumerate(labels)),
            label2id={label: index for index, label in enumerate(labels)},
        )
        head: Any = find_task(task).head_class(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = head._from_config(config, attn_implementation="eager")
        save_module(module, folder / "model")
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            model_max_length=self.max_length,
            pad_token="[PAD]",  # noqa: S106
            unk_token="[UNK]",  # noqa: S106
            cls_token="[CLS]",  # noqa: S106
            sep_token="[SEP]",  # noqa: S106
            mask_token="[MASK]",  # noqa: S106
            clean_up_tokenization_spaces=False,
        )
        write_tokenizer(fast, module, folder / "preprocessor")
        return Candidate(TorchModel(folder / "model"), folder / "preprocessor", task, tuple(labels))

    def _train_tokenizer(self, examples: Sequence[Example]) -> Any:
        from tokenizers import (
            Tokenizer,
            decoders,
            models,
            normalizers,
            pre_tokenizers,
            processors,
            trainers,
        )

        texts = [running_text(example) for example in examples]
        if not any(text.strip() for text in texts):
            raise DataError("the training examples hold no text to make a tokenizer from")
        fold = [normalizers.Lowercase()] if self.lowercase else []
        normalizer = normalizers.Sequence([normalizers.NFC(), *fold])
        trainer: Any
        if self.tokenizer == "wordpiece":
            tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106
            tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            # The trainer meets the inner letters in the random order of a hash map, and breaks
            # ties by it. Named beforehand they have fixed ids; same texts, same tokenizer.
            letters = sorted(set(normalizer.normalize_str("".join(texts))))
            fixed = [*SPECIALS, *(f"##{letter}" for letter in letters if not letter.isspace())]
            trainer = trainers.WordPieceTrainer(
                vocab_size=self.vocabulary, special_tokens=fixed, show_progress=False
            )
        else:
            tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))  # noqa: S106
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
            trainer = trainers.BpeTrainer(
                vocab_size=self.vocabulary, special_tokens=list(SPECIALS), show_progress=False
            )
        tokenizer.normalizer = normalizer
        tokenizer.train_from_iterator(texts, trainer)
        if self.tokenizer == "wordpiece":
            vocabulary = tokenizer.get_vocab()
            plain = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106
            plain.pre_tokenizer, plain.normalizer = tokenizer.pre_tokenizer, normalizer
            plain.decoder = decoders.WordPiece()
            plain.add_special_tokens(list(SPECIALS))
            tokenizer = plain
        else:
            tokenizer.decoder = decoders.Metaspace()
        ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]")}
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]",
            pair="[CLS] $A [SEP] $B:1 [SEP]:1",
            special_tokens=list(ids.items()),
        )
        return tokenizer
