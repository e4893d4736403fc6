"""A teacher from nothing: a small BERT with a tokenizer trained on the texts, or any other model.

For demonstrations, tests and languages that no checkpoint knows. The weights are drawn from a seed;
`finetune` trains them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from edgecompress.errors import DataError
from edgecompress.texts import running_text
from edgecompress.values import Candidate, Example, TensorSpec, TorchModel

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
OF_BERT = ("layers", "hidden_size", "heads", "intermediate_size")
OF_TOKENIZER = ("vocabulary", "max_length", "tokenizer", "lowercase")
PLACE = "preprocessor"


class NewTeacher(BaseModel):
    """Shape of a model made from scratch, and what makes its inputs."""

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

    config: dict[str, Any] | None = None
    """Another model than a BERT: the fields of its config.json, with `model_type`, as transformers
    names them ({model_type: vit, hidden_size: 96, …}); what is left out has transformers' default.
    """
    preprocessor: dict[str, Any] | None = None
    """How inputs that are no texts are made, in the words of a recipe's `preprocessor`."""

    @field_validator("config")
    @classmethod
    def _has_a_type(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if value is not None and not isinstance(value.get("model_type"), str):
            raise ValueError("name the kind of model (model_type: vit)")
        return value

    @model_validator(mode="after")
    def _fits(self) -> NewTeacher:
        if self.config is not None and (both := [n for n in OF_BERT if n in self.model_fields_set]):
            raise ValueError(f"{both[0]} is of the BERT that `config` replaces; leave it out")
        if self.config is None and self.hidden_size % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size})")
        return self

    def check(self, task: str) -> None:
        """Check that a model for `task` can be made.

        Raises
        ------
        DataError
            When what makes its inputs is not said, or is said in vain.
        """
        from edgecompress.processors import TextProcessor, processor_class
        from edgecompress.tasks import task as find_task

        kind = processor_class(find_task(task).processor)
        if issubclass(kind, TextProcessor):
            if self.preprocessor is not None:
                raise DataError(
                    f"a model for {task} reads texts, for which a tokenizer is trained; leave "
                    "preprocessor out"
                )
            return
        if self.config is None:
            raise DataError(
                f"a model for {task} reads no text, and a new teacher is a BERT unless config "
                "says what it is (new: {config: {model_type: …}, preprocessor: {…}})"
            )
        if told := [name for name in OF_TOKENIZER if name in self.model_fields_set]:
            raise DataError(f"{told[0]} is of texts, and a model for {task} reads none")
        if kind.needs_files:
            kind.check_description(self.preprocessor or {})

    def make(
        self,
        examples: Sequence[Example],
        task: str,
        labels: Sequence[str],
        folder: Path,
        seed: int,
    ) -> Candidate:
        """Draw the weights, make what makes the inputs, and write both.

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
            When the examples hold no text for a tokenizer, or transformers cannot make the model.
        """
        from edgecompress.processors import TextProcessor, processor_class
        from edgecompress.surgery.model import save_module
        from edgecompress.tasks import task as find_task

        self.check(task)
        kind = processor_class(find_task(task).processor)
        if issubclass(kind, TextProcessor):
            self._make_for_texts(examples, task, labels, folder, seed)
        else:
            module = _drawn(self.config or {}, task, labels, seed)
            save_module(module, folder / "model")
            if kind.needs_files:
                inputs = (_input(module),)
                kind.describe(self.preprocessor or {}, folder / "model", inputs, folder / PLACE)
        found = folder / PLACE if (folder / PLACE).is_dir() else None
        return Candidate(TorchModel(folder / "model"), found, task, tuple(labels))

    def _make_for_texts(
        self,
        examples: Sequence[Example],
        task: str,
        labels: Sequence[str],
        folder: Path,
        seed: int,
    ) -> None:
        """Train the tokenizer, draw the weights, and write both."""
        import transformers

        from edgecompress.surgery.model import save_module
        from edgecompress.training.teacher_tokenizer import write_tokenizer

        tokenizer = self._train_tokenizer(examples)
        bert = {
            "model_type": "bert",
            "hidden_size": self.hidden_size,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "intermediate_size": self.intermediate_size,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        given = {"max_position_embeddings": self.max_length, **(self.config or bert)}
        given |= {"vocab_size": tokenizer.get_vocab_size(), "pad_token_id": 0}
        module = _drawn(given, task, labels, seed)
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
        write_tokenizer(fast, module, folder / PLACE)

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


def _drawn(given: Mapping[str, Any], task: str, labels: Sequence[str], seed: int) -> Any:
    """Make a model of transformers with weights that a seed draws.

    Raises
    ------
    DataError
        When transformers cannot make it of these fields.
    """
    import torch
    import transformers

    from edgecompress.tasks import task as find_task

    names = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
    }
    fields = {key: value for key, value in given.items() if key != "model_type"}
    try:
        config = transformers.AutoConfig.for_model(str(given["model_type"]), **fields, **names)
        head: Any = find_task(task).head_class(config)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return head._from_config(config, attn_implementation="eager")
    except Exception as error:  # noqa: BLE001 - each model checks its fields in its own way
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"teacher.new: transformers cannot make this model ({cause})") from None


def _input(module: Any) -> TensorSpec:
    """Describe what a model of images is fed, as far as its configuration says."""
    size = getattr(module.config, "image_size", None)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    sides = [one if isinstance(one, int) else name for one, name in
             ((height, "height"), (width, "width"))]  # fmt: skip
    channels = getattr(module.config, "num_channels", 3)
    return TensorSpec(module.main_input_name, "float32", ("batch", channels, *sides))
