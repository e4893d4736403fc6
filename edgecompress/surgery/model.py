"""A PyTorch model on disk and back: config.json, model.safetensors and surgery.json.

A transformers configuration knows one number of heads and one feed-forward width for all layers,
and no matrices that are products of two. What surgery made of them stands in ``surgery.json``::

    {"format": 2, "heads": [11, 7, 12], "neurons": [1200, 830, 1536],
     "ranks": {"bert.embeddings.word_embeddings": 128}}

``ranks`` names the low-rank parts (`surgery.low_rank`) by their paths in the module, and ``shared``
the number of rows of an embedding whose pieces share them (`surgery.sharing`). ``hidden`` is
there where channels of the hidden states were removed: how many are left. ``layers`` is
there where what a layer computes depends on the number that it was made with: these numbers. Format
1 lacks both, and is still read. Where channels of convolutions were removed (`surgery.channels`) it
holds the shapes of all tensors that the configuration would make larger, and nothing else::

    {"format": 3, "shapes": {"resnet.embedder.embedder.convolution.weight": [40, 3, 7, 7]}}

Loading builds the module without initialising weights, resizes its layers and then reads the
safetensors file strictly: one tensor too few, too many or of another shape is an error.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.channels.cutting import changed_shapes, set_shapes
from edgecompress.surgery.families import Family, blocks, find_family
from edgecompress.surgery.hidden import hidden_size, keep_hidden
from edgecompress.surgery.layers import keep_layers
from edgecompress.surgery.low_rank import make_low_rank, ranks
from edgecompress.surgery.sharing import make_shared, shared
from edgecompress.surgery.sparsity import read_record, write_record
from edgecompress.surgery.tying import metadata, read_tied, shared_names, tie
from edgecompress.tasks import task, task_names
from edgecompress.values import Json, Model, OnnxModel, TorchModel

FORMAT, WITH_SHAPES = 2, 3
"""Of surgery.json, as it is written without and with shapes; older ones are read."""


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
    record = directory / "surgery.json"
    document = _read_surgery(record)
    if "layers" in document:
        config = with_layers(config, document["layers"][-1] + 1)
    module = empty_module(model_class(config, directory), config, attention)
    _apply_surgery(module, document, record)
    read_record(module, directory)
    weights = directory / "model.safetensors"
    try:
        tensors = load_file(weights)
        floats = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
        tied = read_tied(weights)
        floats |= {name: floats[first] for name, first in tied.items()}
        module.load_state_dict(floats, strict=True, assign=True)
        tie(module, tied)
    except FileNotFoundError:
        raise DataError("the model's weights are missing", file=weights) from None
    except (SafetensorError, RuntimeError, ValueError, KeyError, AttributeError) as error:
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
    family = find_family(module.config)
    count = len(family.run_layers(module)) if family else None
    config = with_layers(module.config, count)
    config.architectures = [type(module).__name__]
    document = _surgery(module, config, family) if family else _shapes(module)
    # Contiguous, because a slice of a larger matrix would be written with all of its storage.
    tied = shared_names(module)
    tensors = {
        name: tensor.detach().to("cpu").contiguous()
        for name, tensor in module.state_dict().items()
        if name not in tied
    }
    try:
        directory.mkdir(parents=True, exist_ok=True)
        config.save_pretrained(directory)
        if document:
            text = json.dumps(document) + "\n"
            (directory / "surgery.json").write_text(text, encoding="utf-8")
        write_record(module, directory)
        save_file(tensors, directory / "model.safetensors", metadata=metadata(tied))
    except (SafetensorError, OSError) as error:
        raise StageError(f"the model cannot be written to {directory}: {error}") from None
    return TorchModel(directory)


def _surgery(module: Any, config: Any, family: Family) -> Json:
    """Give what a configuration cannot say, empty for nothing; `config` is told what it can."""
    found = list(blocks(module))
    heads = [block.heads for block in found]
    neurons = [block.neurons for block in found]
    numbers = family.layer_numbers(module)
    hidden = hidden_size(module)
    said = family.write_sizes(config, heads, neurons, hidden)
    narrow = hidden != config.hidden_size
    if said and not (numbers or ranks(module) or shared(module)):
        return {}
    return {
        "format": FORMAT,
        "heads": heads,
        "neurons": neurons,
        "ranks": ranks(module),
        **({"shared": shared(module)} if shared(module) else {}),
        **({"hidden": hidden} if narrow else {}),
        **({"layers": numbers} if numbers else {}),
    }


def _shapes(module: Any) -> Json:
    """Give the shapes that the configuration does not say, empty for nothing."""
    found = shapes_without_channels(module)
    return {"format": WITH_SHAPES, "shapes": found} if found else {}


def shapes_without_channels(module: Any) -> dict[str, list[int]]:
    """Give the shapes of tensors that the configuration would make larger."""
    if not any(isinstance(part, torch.nn.Conv1d | torch.nn.Conv2d) for part in module.modules()):
        return {}
    usual = empty_module(type(module), type(module.config).from_dict(module.config.to_dict()))
    return changed_shapes(module, usual)


def read_config(directory: Path) -> Any:
    """Read a model directory's config.json.

    Raises
    ------
    DataError
        When it is missing, damaged or of an unsupported architecture.
    """
    from transformers import AutoConfig

    register_models()
    file = directory / "config.json"
    if not file.is_file():
        raise DataError("the model's configuration is missing", file=file)
    try:
        kind = json.loads(file.read_text(encoding="utf-8")).get("model_type")
        config = AutoConfig.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except (ValueError, KeyError, OSError, AttributeError, TypeError) as error:
        kind = locals().get("kind")
        cause = " ".join(str(error).split())[:200]
        raise DataError(f"damaged or unknown configuration ({kind}: {cause})", file=file) from None
    return config


def register_models() -> None:
    """Tell transformers' auto classes of the classes that tasks bring (`Task.models`)."""
    import transformers

    for one in map(task, task_names()):
        for model in one.models():
            config: Any = model.config_class  # type: ignore[attr-defined]
            transformers.AutoConfig.register(config.model_type, config, exist_ok=True)
            getattr(transformers, one.auto_class).register(config, model, exist_ok=True)


def head_names() -> tuple[str, ...]:
    """Give the heads that a model may have; the name of its class ends in one of them."""
    return tuple(sorted({task(name).head_classes[0] for name in task_names()}, reverse=True))


def model_class(config: Any, directory: Path) -> Any:
    """Give the class that config.json names: of transformers, or one that a task brings.

    Raises
    ------
    DataError
        When it names none, or one without a head of ours.
    """
    import transformers

    # Tasks import them by their names: stages of ONNX files do not hang on them, these do.
    import edgecompress.modules.answer_spans
    import edgecompress.modules.keyword_networks
    import edgecompress.modules.sentence_encoder
    import edgecompress.modules.transcriber  # noqa: F401

    name = next(iter(config.architectures or ()), "")
    brought = {model.__name__: model for one in task_names() for model in task(one).models()}
    found = brought.get(name) or getattr(transformers, name, None)
    for one in map(task, task_names()) if found is None else ():
        # A head of ours over a body of transformers is made when it is asked for.
        made = one.head_class(config) if name.endswith(one.head_classes) else None
        found = made if made is not None and made.__name__ == name else found
    # GPT2LMHeadModel and the like end as no other head does, and are what their task would take.
    own = any(
        getattr(one.head_class(config), "__name__", "") == name
        for one in map(task, task_names())
        if name.endswith(one.architectures or ("…",))
    )
    if found is None or not (own or name.endswith(head_names())):
        wanted = " or ".join(f"…{head}" for head in head_names())
        file = directory / "config.json"
        raise DataError(f"architectures names {name or 'nothing'}; need {wanted}", file=file)
    return found


def empty_module(cls: Any, config: Any, attention: str = "eager") -> Any:
    """Build a module whose parameters are on the meta device and whose buffers are real."""
    from accelerate import init_empty_weights  # type: ignore[import-untyped]

    if attention == "sdpa" and not cls._supports_sdpa:
        attention = "eager"
    family = find_family(config)
    for field, value in family.settings if family else ():
        setattr(config, field, value)
    before = config.dtype
    with init_empty_weights(include_buffers=False):
        module = cls._from_config(config, attn_implementation=attention, dtype=torch.float32)
    module.config.dtype = before  # transformers 5 notes what it builds with, and would write it
    return module


def with_layers(config: Any, count: int | None) -> Any:
    """Give a copy of a configuration, for a model of `count` layers where that is known.

    Transformers 5 names the kind of each layer, and refuses a list of another length.
    """
    fields = config.to_dict()
    if count is not None:
        fields["num_hidden_layers"] = count
        if len(fields.get("layer_types") or ()) != count:
            fields.pop("layer_types", None)
    return type(config).from_dict(fields)


def _read_surgery(file: Path) -> Json:
    """Read surgery.json; an empty dict where there is none."""
    if not file.is_file():
        return {}
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        written = int(document["format"])
        layers = [int(number) for number in document.get("layers", [0])]
        if layers != sorted(set(layers)) or layers[0] < 0:
            raise ValueError("layers must be ascending")
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DataError(f"damaged surgery record ({error})", file=file) from None
    if written > WITH_SHAPES:
        raise DataError(
            f"format {written} is newer than this edgecompress reads ({WITH_SHAPES}); update it",
            file=file,
        )
    found: Json = document
    return found


def _apply_surgery(module: Any, document: Json, file: Path) -> None:
    if not document:
        return
    try:
        if "shapes" in document:
            set_shapes(module, document["shapes"])
            return
        if "layers" in document:
            keep_layers(module, document["layers"])
        if "hidden" in document:
            keep_hidden(module, range(int(document["hidden"])))
        heads, neurons = document["heads"], document["neurons"]
        for block, kept_heads, kept_neurons in zip(blocks(module), heads, neurons, strict=True):
            block.resize(int(kept_heads), int(kept_neurons))
        sizes: list[tuple[str, Callable[..., None], int]]
        sizes = [(path, make_shared, int(n)) for path, n in document.get("shared", {}).items()]
        sizes += [(path, make_low_rank, int(n)) for path, n in document.get("ranks", {}).items()]
        for path, make, size in sorted(
            sizes, key=lambda one: one[0].count(".")
        ):  # outer ones first
            make(module, path, size)
    except (ValueError, KeyError, TypeError, AttributeError, StageError) as error:
        raise DataError(f"damaged surgery record ({error})", file=file) from None
