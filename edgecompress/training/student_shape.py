"""A student of a smaller shape than the model it is made from, with new weights or copied ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveInt, model_validator

from edgecompress.errors import StageError
from edgecompress.values import TorchModel

if TYPE_CHECKING:
    import torch


class StudentShape(BaseModel):
    """The shape of a student of the same family and with the same tokenizer; null: as it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layers: PositiveInt | None = None
    """Transformer blocks."""
    hidden_size: PositiveInt | None = None
    """Width of the states between blocks."""
    heads: PositiveInt | None = None
    """Attention heads in a block; divides hidden_size. Where several queries read one key, as in
    Llama, heads of keys, each with as many queries as the model has."""
    intermediate_size: PositiveInt | None = None
    """Neurons in the feed-forward part of a block."""
    init: Literal["random", "teacher"] = "teacher"
    """`random`: new weights. `teacher`: what fits of the model that the stage is given: evenly
    spread layers; of those the heads, neurons and channels with the largest weights."""

    @model_validator(mode="after")
    def _heads_divide(self) -> StudentShape:
        if self.hidden_size and self.heads and self.hidden_size % self.heads:
            raise ValueError(f"heads ({self.heads}) must divide hidden_size ({self.hidden_size})")
        return self

    def make(self, model: TorchModel, seed: int) -> Any:
        """Build the student's module.

        Parameters
        ----------
        model : TorchModel
            Whose family, vocabulary and labels it has; its weights are copied where that is asked.
        seed : int
            Of the new weights.

        Returns
        -------
        transformers.PreTrainedModel
            In evaluation mode and float32.

        Raises
        ------
        StageError
            When the heads do not divide the hidden size.
        """
        import torch

        from edgecompress.surgery.families import family_of
        from edgecompress.surgery.model import load_module, model_class, read_config

        config = read_config(model.directory)
        field = family_of(config).neurons_field
        sizes = {
            "num_hidden_layers": self.layers,
            "hidden_size": self.hidden_size,
            "num_attention_heads": self.heads,
            field: self.intermediate_size,
        }
        if self.heads and getattr(config, "num_key_value_heads", None):
            group = config.num_attention_heads // config.num_key_value_heads
            sizes |= {"num_attention_heads": self.heads * group, "num_key_value_heads": self.heads}
        _set_sizes(config, {name: size for name, size in sizes.items() if size is not None})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = model_class(config, model.directory)._from_config(
                config, attn_implementation="eager", dtype=torch.float32
            )
        if self.init == "teacher":
            with torch.no_grad():
                copy_what_fits(load_module(model), made)
        return made.eval()


def _set_sizes(config: Any, sizes: Mapping[str, int]) -> None:
    from edgecompress.surgery.model import with_layers

    old = int(config.hidden_size)
    for name, size in sizes.items():
        setattr(config, name, size)
    if config.hidden_size % config.num_attention_heads:
        raise StageError(
            f"student: {config.num_attention_heads} heads do not divide the hidden size "
            f"{config.hidden_size}; give heads and hidden_size that fit"
        )
    if getattr(config, "embedding_size", None) == old:  # ELECTRA: one that only follows
        config.embedding_size = config.hidden_size
    if getattr(config, "layer_types", None) is not None:
        count = config.num_hidden_layers
        known = config.layer_types[:count]
        config.layer_types = (
            known if len(known) == count else with_layers(config, count).layer_types
        )


def copy_what_fits(source: Any, target: Any) -> None:
    """Copy weights into a module of another shape; what has no counterpart stays as it is.

    Layers are taken at even distances (`edgecompress.surgery.layers.evenly_spread`). Of a larger
    part the channels, heads and neurons with the largest sums of squared weights are taken, in
    their order; of a larger head its first dimensions.

    Parameters
    ----------
    source, target : transformers.PreTrainedModel
        Of one family; `target` is changed.
    """
    from edgecompress.surgery.families import blocks
    from edgecompress.surgery.layers import evenly_spread

    before, after = list(blocks(source)), list(blocks(target))
    chosen = [min(i, len(before) - 1) for i in range(len(after))]
    if len(after) <= len(before):
        chosen = list(evenly_spread(len(before), len(after)))
    old, new = _width(before[0]), _width(after[0])
    channels = _largest(_channel_squares(source, old), new)
    done: set[str] = set()
    names = {id(part): name for name, part in target.named_modules()}
    for place, index in enumerate(chosen):
        theirs, ours = before[index], after[place]
        _copy_block(theirs, ours, channels)
        inside = dict(theirs.module.named_parameters())
        roles = {id(ours.linear(role)) for role in ours.family.roles}
        for name, part in ours.module.named_modules():
            if id(part) in roles:
                done |= {f"{names[id(part)]}.{key}" for key, _ in part.named_parameters()}
                continue
            for key, tensor in part.named_parameters(recurse=False):
                path = f"{name}.{key}" if name else key
                if path in inside:
                    _copy(inside[path], tensor, old, new, channels)
                done.add(f"{names[id(part)]}.{key}")
    rest = dict(source.named_parameters())
    for name, tensor in target.named_parameters():
        if name not in done and name in rest:
            _copy(rest[name], tensor, old, new, channels)


def _copy_block(theirs: Any, ours: Any, channels: torch.Tensor) -> None:
    import torch

    heads = _largest(theirs.head_squares(), ours.heads)
    size, room = theirs.head_size, ours.head_size
    inner = torch.arange(min(size, room))

    def places_of(block: Any, role: str, chosen: torch.Tensor) -> torch.Tensor:
        each = min(theirs.group, ours.group) if role in ("query", "output") else 1
        stride = block.group if role in ("query", "output") else 1
        every = (chosen[:, None] * stride + torch.arange(each)).flatten()
        return (every[:, None] * block.head_size + inner).flatten()

    first = torch.arange(len(heads))
    taken, put = places_of(theirs, "output", heads), places_of(ours, "output", first)
    neurons = _largest(theirs.neuron_squares(), ours.neurons)
    places = torch.arange(len(neurons))
    width = torch.arange(len(channels))
    if theirs.family.qkv:
        parts = range(3)
        taken3 = torch.cat([taken + theirs.heads * size * part for part in parts])
        put3 = torch.cat([put + ours.heads * room * part for part in parts])
        _copy_linear(theirs, ours, "qkv", (taken3, channels), (put3, width))
    else:
        for role in theirs.family.inner:
            rows, into = places_of(theirs, role, heads), places_of(ours, role, first)
            _copy_linear(theirs, ours, role, (rows, channels), (into, width))
    _copy_linear(theirs, ours, "output", (channels, taken), (width, put))
    gates = [0, 1] if theirs.family.gated else [0]
    rows = torch.cat([neurons + theirs.neurons * part for part in gates])
    into = torch.cat([places + ours.neurons * part for part in gates])
    _copy_linear(theirs, ours, "ffn_in", (rows, channels), (into, width))
    if theirs.family.ffn_gate:
        _copy_linear(theirs, ours, "ffn_gate", (neurons, channels), (places, width))
    _copy_linear(theirs, ours, "ffn_out", (channels, neurons), (width, places))


def _copy_linear(
    theirs: Any,
    ours: Any,
    role: str,
    taken: tuple[torch.Tensor, torch.Tensor],
    put: tuple[torch.Tensor, torch.Tensor],
) -> None:
    source, target = theirs.part(role), ours.part(role)
    target.weight[put[0][:, None], put[1][None, :]] = source.weight[taken[0]][:, taken[1]]
    if source.bias is not None and target.bias is not None:
        target.bias[put[0]] = source.bias[taken[0]]


def _copy(
    source: torch.Tensor, target: torch.Tensor, old: int, new: int, channels: torch.Tensor
) -> None:
    """Copy a tensor whose hidden axes are cut to `channels`; leave one that differs otherwise."""
    import torch

    if source.ndim != target.ndim:
        return
    taken, put = [], []
    for before, after in zip(source.shape, target.shape, strict=True):
        if (before, after) == (old, new) and old != new:
            taken.append(channels)
        elif before == after:
            taken.append(torch.arange(before))
        else:
            return
        put.append(torch.arange(len(taken[-1])))
    target[torch.meshgrid(*put, indexing="ij")] = source[torch.meshgrid(*taken, indexing="ij")]


def _channel_squares(module: Any, width: int) -> torch.Tensor:
    """Sum of the squared weights that read or write each hidden channel, float64 (width,)."""
    import torch

    from edgecompress.surgery.families import blocks, word_embedding

    total = torch.zeros(width, dtype=torch.float64)
    for block in blocks(module):
        for role in block.family.roles:
            weight = block.part(role).weight.double().square()
            total += weight.sum(1 if role in ("output", "ffn_out") else 0)
    words = word_embedding(module).weight
    if words.shape[1] == width:
        # A mean over pieces: else the number of pieces would decide alone.
        total += words.double().square().mean(0) * width
    return total


def _largest(squares: torch.Tensor, count: int) -> torch.Tensor:
    """Give the places of the largest, ascending; all of them where there are no more."""
    return squares.topk(min(count, len(squares))).indices.sort().values


def _width(block: Any) -> int:
    return int(block.linear("ffn_out").out_features)
