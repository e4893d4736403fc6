"""Small language models of the usual families, with random weights and a tokenizer of bytes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helpers import small_context
from tokenizers import pre_tokenizers

from edgecompress.bundle import write_bundle
from edgecompress.stages.export import Export
from edgecompress.training.teacher import import_teacher
from edgecompress.values import Candidate

FAMILIES = {"Llama": True, "Qwen3": False, "GPT2": True}
"""And whether their attention is exported as a kernel."""
LONGEST = 48
MERGES = [("Ġ", "n"), ("Ġn", "a"), ("w", "a"), ("l", "e")]
_SIGNS = ["<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), *map("".join, MERGES)]
VOCABULARY = {sign: number for number, sign in enumerate(_SIGNS)}
TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}{{ eos_token }}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
TEXTS = ("Amina alienda Kano jiya na leo", "je\nna “habari” leo", "waka " * 30)


def write_language_model(folder: Path, family: str = "Llama", **settings: Any) -> Any:
    """Write a checkpoint with its tokenizer into `folder`, and give the module that it holds."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, processors

    tokenizer = Tokenizer(models.BPE(VOCABULARY, MERGES))
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if family == "Llama":
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>"
    )
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    named = {"vocab_size": len(VOCABULARY), "bos_token_id": 0, "eos_token_id": 1}
    if family == "GPT2":
        shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": LONGEST}
    else:
        shape = {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "head_dim": 16,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": LONGEST,
            "tie_word_embeddings": True,
        }
    torch.manual_seed(3)
    config = getattr(transformers, f"{family}Config")(**{**named, **shape, **settings})
    head = "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM"
    module = getattr(transformers, head)(config).eval()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    module.generation_config.eos_token_id = 1
    module.save_pretrained(folder)
    return module


@dataclass(frozen=True)
class Made:
    """A language model on its way into a bundle."""

    checkpoint: Path
    teacher: Candidate
    exported: Candidate
    bundle: Path


def make_language_model(folder: Path, family: str, *, kernels: bool) -> Made:
    """Make a bundle of a language model in fp32."""
    write_language_model(folder / "checkpoint", family)
    source = str(folder / "checkpoint")
    teacher = import_teacher(source, "text-generation", None, folder / "teacher")
    exported = Export(kernels=kernels).apply(teacher, small_context(folder / "export"))
    write_bundle(folder / "bundle", exported, {"name": family}, {"edgecompress": "0.1.0"})
    return Made(folder / "checkpoint", teacher, exported, folder / "bundle")


def without_template(folder: Path) -> None:
    """Take the chat template out of a checkpoint."""
    (folder / "chat_template.jinja").unlink()
    file = folder / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    settings.pop("chat_template", None)
    file.write_text(json.dumps(settings))
