"""What surgery must know of an architecture, as data, and the few things that data cannot say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecompress.errors import DataError, StageError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Family:
    """The paths of one architecture's parts, as `torch.nn.Module.get_submodule` reads them.

    A block is an attention and a feed-forward part, each followed by an addition to its input. Its
    query, key and value are three linear layers, or one whose rows are all queries, all keys, all
    values, head by head (`qkv`). Keys and values may have fewer heads than queries (`group`): what
    is cut as a head is then a key-value head with all query heads that read it. The feed-forward
    part is two linear layers; a gated one has twice the rows in the first, the gates behind the
    values (`gated`), or a third layer for the gates (`ffn_gate`).

    An architecture that this cannot describe overrides the methods in a subclass.

    Attributes
    ----------
    model_type : str
        ``model_type`` of the model's config.json.
    layers : str
        The list of blocks, from the base model.
    embeddings : str
        The embedding part, from the base model; ``words`` is its word embedding, empty where the
        model reads no text.
    attention : str
        The module that holds the number of heads, from a block.
    query, key, value : str
        The linear layers of attention, from a block; not looked at where there is `qkv`.
    qkv : str
        The one linear layer in place of these three, or empty.
    output : str
        The linear layer behind attention, from a block.
    ffn_in, ffn_out : str
        The linear layers of the feed-forward part, from a block.
    gated : bool
        `ffn_in` holds values and gates: neuron n of N is its rows n and N + n.
    ffn_gate : str
        The linear layer of the gates, where they have one of their own, from a block; or empty.
    heads_attribute : str
        Attribute of the attention module with its number of heads, where it has one.
    width_attribute : str
        Attribute of the attention module with heads times head size, where it has one.
    head_size_attribute : str
        Attribute of the attention module with the width of one head.
    group_attribute : str
        Attribute of the attention module with the number of query heads that read one key-value
        head; empty where each has its own.
    neurons_field : str
        Field of the configuration with the width of the feed-forward part.
    layer_number : str
        Attribute, from a block, with the number that the block was made with, where what it
        computes depends on it (local or global attention); empty where all blocks are alike.
    position_offset : bool
        Positions start behind the padding id (RoBERTa): a few of them are never used.
    settings : tuple of (str, object)
        Fields of the configuration to set before a module is built.
    """

    model_type: str
    layers: str = "encoder.layer"
    embeddings: str = "embeddings"
    words: str = "embeddings.word_embeddings"
    attention: str = "attention.self"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    qkv: str = ""
    output: str = "attention.output.dense"
    ffn_in: str = "intermediate.dense"
    ffn_out: str = "output.dense"
    gated: bool = False
    ffn_gate: str = ""
    heads_attribute: str = "num_attention_heads"
    width_attribute: str = "all_head_size"
    head_size_attribute: str = "attention_head_size"
    group_attribute: str = ""
    neurons_field: str = "intermediate_size"
    layer_number: str = ""
    position_offset: bool = False
    settings: tuple[tuple[str, object], ...] = ()

    @property
    def inner(self) -> tuple[str, ...]:
        """The linear layers of attention in front of it."""
        return ("qkv",) if self.qkv else ("query", "key", "value")

    @property
    def roles(self) -> tuple[str, ...]:
        """The linear layers of a block by the names that `Block.linear` takes."""
        gates = ("ffn_gate",) if self.ffn_gate else ()
        return (*self.inner, "output", *gates, "ffn_in", "ffn_out")

    def write_sizes(
        self, config: Any, heads: Sequence[int], neurons: Sequence[int], hidden: int
    ) -> bool:
        """Write into a configuration what it can say of a model's sizes; tell whether that is all.

        Parameters
        ----------
        config : transformers.PretrainedConfig
            A copy, of the model before it was cut.
        heads, neurons : sequence of int
            Of each block.
        hidden : int
            Width of the hidden states.
        """
        if len(set(neurons)) == 1:
            setattr(config, self.neurons_field, neurons[0])
        width = getattr(config, self.neurons_field)
        even = all(n == config.num_attention_heads for n in heads)
        return even and all(n == width for n in neurons) and hidden == config.hidden_size

    def run_layers(self, module: Any) -> list[nn.Module]:
        """Give a model's layers in the order in which they run; one that runs twice twice.

        Raises
        ------
        DataError
            When the description does not fit the module.
        """
        from torch import nn

        try:
            found = module.base_model.get_submodule(self.layers)
        except AttributeError:
            found = None
        if not isinstance(found, nn.ModuleList):
            raise DataError(f"{self.layers} of this {self.model_type} model is no list of layers")
        return list(found)

    def distinct_layers(self, module: Any) -> list[nn.Module]:
        """Give the layers that have weights of their own, each once."""
        return self.run_layers(module)

    def set_layers(self, module: Any, layers: Sequence[nn.Module]) -> None:
        """Let a model run these of its `run_layers`, and say so in its configuration.

        Raises
        ------
        StageError
            When the architecture cannot run just these.
        """
        from torch import nn

        for index, layer in enumerate(layers):
            attention = layer.get_submodule(self.attention)
            if hasattr(attention, "layer_idx"):
                attention.layer_idx = index
        module.base_model.set_submodule(self.layers, nn.ModuleList(layers))
        module.config.num_hidden_layers = len(layers)

    def layer_numbers(self, module: Any) -> list[int] | None:
        """Give the numbers that the layers were made with, if they matter and have gaps."""
        if not self.layer_number:
            return None
        path, _, name = self.layer_number.rpartition(".")
        layers = self.run_layers(module)
        found = [int(getattr(layer.get_submodule(path), name)) for layer in layers]
        return None if found == list(range(len(found))) else found


def described(file: str, found: object) -> Family:
    """Check that a description is one.

    Raises
    ------
    StageError
        When it is something else; `file` says where it came from.
    """
    if not isinstance(found, Family):
        raise StageError(
            f"{file} must name an edgecompress.surgery.families.Family, not a "
            f"{type(found).__name__}"
        )
    return found
