"""A PyTorch model on disk and back: config.json, model.safetensors and surgery.json.

A transformers configuration knows one number of heads and one feed-forward width for all layers,
and no matrices that are products of two. What surgery made of them stands in ``surgery.json``::

    {"format": 2, "heads": [11, 7, 12], "neurons": [1200, 830, 1536],
     "ranks": {"bert.embeddings.word_embeddings": 128}}

``ranks`` names the low-rank parts (`surgery.low_rank`) by their paths in the module. Format 1 lacks
them, and is still read.
Loading builds the module without initialising weights, resizes its layers and then reads the
safetensors file strictly: one tensor too few, too many or of another shape is an error.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.families import Block, blocks, family_of
from edgecompress.surgery.low_rank import make_low_rank, ranks
from edgecompress.values import Model, OnnxModel, TorchModel

FORMAT = 2
"""Of surgery.json, as it is written; older ones are read."""

HEADS = ("ForTokenClassification", "ForSequenceClassification")
"""The heads that a model may have; the name of its class ends in one of them."""


def load_module(model: Model, attention: str = "eager") -> Any:
    """Build the module of a `TorchModel`, in evaluation mode and float32.

    Parameters
    ----------
    model : TorchModel
        A directory that `save_module` wrote.
    attention : str
        ``eager`` (exports and quantizes everywhere, and trains faster on a CPU: the backward pass
        of PyTorch 2.13's fused attention takes twice as long) or ``sdpa``, where the family has it.

    Returns
    -------
    transformers.PreTrainedModel

    Raises
    ------
    DataError
        When a file is missing or damaged, or the architecture is not supported.
    """
    if isinstance(model, OnnxModel):
        raise DataError("this is an ONNX model; a PyTorch model is needed", file=model.path)
    directory = model.directory
    config = read_config(directory)
    module = empty_module(model_class(config, directory), config, attention)
    _apply_surgery(module, directory / "surgery.json")
    weights = directory / "model.safetensors"
    try:
        tensors = load_file(weights)
        floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        module.load_state_dict(floats, strict=True, assign=True)
    except FileNotFoundError:
        raise DataError("the model's weights are missing", file=weights) from None
    except (SafetensorError, RuntimeError) as error:
        cause = " ".join(str(error).split())[:300]
        raise DataError(f"the weights do not fit config.json ({cause})", file=weights) from None
    for parameter in module.parameters():
        parameter.requires_grad_(True)
    return module.eval()


def save_module(module: Any, directory: Path) -> TorchModel:
    """Write a module so that `load_module` gives back exactly the same one.

    Parameters
    ----------
    module : transformers.PreTrainedModel
        Not changed.
    directory : Path
        Made when it does not exist.

    Returns
    -------
    TorchModel

    Raises
    ------
    StageError
        When the files cannot be written.
    """
    found = list(blocks(module))
    heads = [block.heads for block in found]
    neurons = [block.neurons for block in found]
    config = type(module.config).from_dict(module.config.to_dict())
    config.architectures = [type(module).__name__]
    config.num_hidden_layers = len(found)
    if len(set(neurons)) == 1:
        _set_neurons(config, neurons[0])
    even = all(h == config.num_attention_heads for h in heads) and all(
        n == _get_neurons(config) for n in neurons
    )
    # Contiguous, because a slice of a larger matrix would be written with all of its storage.
    tensors = {
        name: tensor.detach().to("cpu").contiguous() for name, tensor in module.state_dict().items()
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(directory)
        if not even or ranks(module):
            document = {
                "format": FORMAT,
                "heads": heads,
                "neurons": neurons,
                "ranks": ranks(module),
            }
            text = json.dumps(document) + "\n"
            (directory / "surgery.json").write_text(text, encoding="utf-8")
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
    except (SafetensorError, OSError) as error:
        raise StageError(f"the model cannot be written to {directory}: {error}") from None
    return TorchModel(directory)


def read_config(directory: Path) -> Any:
    """Read a model directory's config.json.

    Raises
    ------
    DataError
        When it is missing, damaged or of an unsupported architecture.
    """
    from transformers import AutoConfig

    file = directory / "config.json"
    if not file.is_file():
        raise DataError("the model's configuration is missing", file=file)
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
    except (ValueError, KeyError, OSError, AttributeError, TypeError) as error:
        kind = locals().get("kind")
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"damaged or unknown configuration ({kind}: {cause})", file=file) from None
    family_of(config)
    return config


def model_class(config: Any, directory: Path) -> Any:
    """Give the transformers class that config.json names.

    Raises
    ------
    DataError
        When it names none, or one without a head of ours.
    """
    import transformers

    name = next(iter(config.architectures or ()), "")
    if not name.endswith(HEADS) or not hasattr(transformers, name):
        wanted = " or ".join(f"…{head}" for head in HEADS)
        file = directory / "config.json"
        raise DataError(f"architectures names {name or 'nothing'}; need {wanted}", file=file)
    return getattr(transformers, name)


def empty_module(cls: Any, config: Any, attention: str = "eager") -> Any:
    """Build a module whose parameters are on the meta device and whose buffers are real."""
    from accelerate import init_empty_weights  # type: ignore[import-untyped]

    if attention == "sdpa" and not cls._supports_sdpa:
        attention = "eager"
    with init_empty_weights(include_buffers=False):
        return cls._from_config(config, attn_implementation=attention, dtype=torch.float32)


def resize(block: Block, heads: int, neurons: int) -> None:
    """Give a block's linear layers the shapes for `heads` and `neurons`, without values."""
    width = heads * block.head_size
    for role in ("query", "key", "value"):
        _replace(block, role, outputs=width)
    _replace(block, "output", inputs=width)
    block.set_heads(heads)
    _replace(block, "ffn_in", outputs=neurons)
    _replace(block, "ffn_out", inputs=neurons)


def _replace(
    block: Block, role: str, inputs: int | None = None, outputs: int | None = None
) -> None:
    old = block.part(role)
    new = nn.Linear(
        inputs or old.in_features, outputs or old.out_features, old.bias is not None, device="meta"
    )
    block.set_part(role, new)


def _apply_surgery(module: Any, file: Path) -> None:
    if not file.is_file():
        return
    found = list(blocks(module))
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        written = int(document["format"])
        if written > FORMAT:
            raise DataError(
                f"format {written} is newer than this edgecompress reads ({FORMAT}); update it",
                file=file,
            )
        heads, neurons = document["heads"], document["neurons"]
        for block, kept_heads, kept_neurons in zip(found, heads, neurons, strict=True):
            resize(block, int(kept_heads), int(kept_neurons))
        for path, rank in document.get("ranks", {}).items():
            make_low_rank(module, path, int(rank))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"damaged surgery record ({error})", file=file) from None


def _get_neurons(config: Any) -> int:
    # DistilBERT's configuration calls it hidden_dim and maps no other name to it.
    return int(config.hidden_dim if hasattr(config, "hidden_dim") else config.intermediate_size)


def _set_neurons(config: Any, neurons: int) -> None:
    if hasattr(config, "hidden_dim"):
        config.hidden_dim = neurons
    else:
        config.intermediate_size = neurons
