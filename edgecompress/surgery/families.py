"""Where each supported architecture keeps its blocks: what surgery needs to know, as data.

Only encoders whose blocks are an attention (query, key, value, output) followed by a two-layer
feed-forward part are described. An architecture that is not here is refused in words, because a
cut in the wrong matrix gives a model that runs and answers nonsense.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.low_rank import LowRankEmbedding, LowRankLinear


@dataclass(frozen=True, slots=True)
class Family:
    """The paths of one architecture's parts, as `torch.nn.Module.get_submodule` reads them.

    Attributes
    ----------
    model_type : str
        ``model_type`` of the model's config.json.
    layers : str
        The list of blocks, from the base model.
    embeddings : str
        The embedding part, from the base model; ``words`` is its word embedding.
    attention : str
        The module that holds the number of heads, from a block.
    query, key, value, output : str
        The linear layers of attention, from a block.
    ffn_in, ffn_out : str
        The linear layers of the feed-forward part, from a block.
    heads_attribute : str
        Attribute of the attention module with its number of heads.
    width_attribute : str
        Attribute of the attention module with heads times head size.
    position_offset : bool
        Positions start behind the padding id (RoBERTa): a few of them are never used.
    """

    model_type: str
    layers: str = "encoder.layer"
    embeddings: str = "embeddings"
    words: str = "embeddings.word_embeddings"
    attention: str = "attention.self"
    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    output: str = "attention.output.dense"
    ffn_in: str = "intermediate.dense"
    ffn_out: str = "output.dense"
    heads_attribute: str = "num_attention_heads"
    width_attribute: str = "all_head_size"
    position_offset: bool = False


FAMILIES = {
    family.model_type: family
    for family in (
        Family("bert"),
        Family("electra"),
        Family("roberta", position_offset=True),
        Family("xlm-roberta", position_offset=True),
        Family("camembert", position_offset=True),
        Family(
            "distilbert",
            layers="transformer.layer",
            attention="attention",
            query="attention.q_lin",
            key="attention.k_lin",
            value="attention.v_lin",
            output="attention.out_lin",
            ffn_in="ffn.lin1",
            ffn_out="ffn.lin2",
            heads_attribute="n_heads",
            width_attribute="dim",
        ),
    )
}


def family_of(config: Any) -> Family:
    """Find the family of a transformers configuration.

    Raises
    ------
    DataError
        When its ``model_type`` is not described here.
    """
    kind = str(getattr(config, "model_type", "") or "")
    if kind not in FAMILIES:
        known = ", ".join(sorted(FAMILIES))
        raise DataError(f"models of the type {kind!r} are not supported; supported are: {known}")
    return FAMILIES[kind]


@dataclass(frozen=True, slots=True)
class Block:
    """One transformer block of a module, with its parts by role."""

    module: nn.Module
    family: Family

    def part(self, role: str) -> nn.Linear:
        """Give the linear layer of a role: ``query``, ``key``, …, ``ffn_in`` or ``ffn_out``.

        Raises
        ------
        StageError
            When it is a product of two matrices.
        """
        found = self.linear(role)
        if isinstance(found, LowRankLinear):
            raise StageError(
                f"{role} of a layer is a product of two matrices, and this needs it whole; put "
                "`factorize` after the stages that prune"
            )
        return found

    def linear(self, role: str) -> nn.Linear | LowRankLinear:
        """Give the linear layer of a role, which may be a product of two matrices."""
        found = self.module.get_submodule(getattr(self.family, role))
        if not isinstance(found, nn.Linear | LowRankLinear):
            raise DataError(f"{role} of this {self.family.model_type} model is no linear layer")
        return found

    def set_part(self, role: str, linear: nn.Linear) -> None:
        """Put another linear layer in the place of a role's."""
        parent, _, name = getattr(self.family, role).rpartition(".")
        setattr(self.module.get_submodule(parent), name, linear)

    @property
    def attention(self) -> nn.Module:
        """The module that holds the number of heads."""
        return self.module.get_submodule(self.family.attention)

    @property
    def heads(self) -> int:
        """Number of attention heads now."""
        return int(getattr(self.attention, self.family.heads_attribute))

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return int(self.attention.attention_head_size)

    @property
    def neurons(self) -> int:
        """Number of neurons in the feed-forward part now."""
        return int(self.linear("ffn_in").out_features)

    def set_heads(self, heads: int) -> None:
        """Tell the attention module how many heads its matrices now hold."""
        setattr(self.attention, self.family.heads_attribute, heads)
        setattr(self.attention, self.family.width_attribute, heads * self.head_size)


def layer_list(module: nn.Module) -> nn.ModuleList:
    """Give the module list that holds a model's blocks."""
    family = family_of(module.config)
    found = module.base_model.get_submodule(family.layers)
    if not isinstance(found, nn.ModuleList):
        raise DataError(f"{family.layers} of this {family.model_type} model is no list of layers")
    return found


def blocks(module: nn.Module) -> Iterator[Block]:
    """Go through a model's blocks, first to last."""
    family = family_of(module.config)
    for block in layer_list(module):
        yield Block(block, family)


def word_embedding(module: nn.Module) -> nn.Embedding:
    """Give the table with one row for each word piece, shape (vocabulary, width).

    Its width is the rank where the embedding is a product (`LowRankEmbedding`).
    """
    found = module.base_model.get_submodule(word_path(module))
    if not isinstance(found, nn.Embedding):
        kind = family_of(module.config).model_type
        raise DataError(f"{word_path(module)} of this {kind} model is no embedding")
    return found


def word_path(module: nn.Module) -> str:
    """Give the path of `word_embedding`, from the base model."""
    words = family_of(module.config).words
    product = isinstance(module.base_model.get_submodule(words), LowRankEmbedding)
    return f"{words}.table" if product else words
