"""One transformer block by the roles of its parts, whatever its architecture calls them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecompress.errors import DataError, StageError
from edgecompress.surgery.families._family import Family

if TYPE_CHECKING:
    import torch
    from torch import nn

    from edgecompress.surgery.low_rank import LowRankLinear


@dataclass(frozen=True, slots=True)
class Block:
    """One transformer block of a module, with its parts by role.

    Where query, key and value are one matrix, the role ``qkv`` stands for ``query``, ``key`` and
    ``value``. `keep_heads`, `keep_neurons` and the squared sums hide such differences.
    """

    module: nn.Module
    family: Family

    def part(self, role: str) -> nn.Linear:
        """Give the linear layer of a role: ``query``, ``key``, …, ``ffn_in`` or ``ffn_out``.

        Raises
        ------
        StageError
            When it is a product of two matrices, or this family has no such layer.
        """
        from torch import nn

        found = self.linear(role)
        if not isinstance(found, nn.Linear):
            raise StageError(
                f"{role} of a layer is a product of two matrices, and this needs it whole; put "
                "`factorize` after the stages that prune"
            )
        return found

    def linear(self, role: str) -> nn.Linear | LowRankLinear:
        """Give the linear layer of a role, which may be a product of two matrices.

        Raises
        ------
        StageError
            When this family has no such layer.
        DataError
            When the description does not fit the module.
        """
        from torch import nn

        from edgecompress.surgery.low_rank import LowRankLinear

        family = self.family
        if role not in family.roles:
            raise StageError(
                f"{family.model_type} models have no {role} matrix of their own; theirs are "
                f"{', '.join(family.roles)}"
            )
        try:
            found = self.module.get_submodule(getattr(family, role))
        except AttributeError:
            found = None
        if not isinstance(found, nn.Linear | LowRankLinear):
            raise DataError(f"{role} of this {family.model_type} model is no linear layer")
        return found

    def set_part(self, role: str, linear: nn.Module) -> None:
        """Put another linear layer in the place of a role's."""
        self.module.set_submodule(getattr(self.family, role), linear)

    @property
    def output_linear(self) -> nn.Linear:
        """The linear layer behind attention: its inputs are the heads' outputs, head by head."""
        return self.part("output")

    @property
    def ffn_out_linear(self) -> nn.Linear:
        """The second linear layer of the feed-forward part: its inputs are the neurons."""
        return self.part("ffn_out")

    @property
    def attention(self) -> nn.Module:
        """The module that holds the number of heads."""
        return self.module.get_submodule(self.family.attention)

    @property
    def heads(self) -> int:
        """Number of attention heads now: of key-value heads, where several queries read one."""
        return int(self.linear("output").in_features) // (self.head_size * self.group)

    @property
    def head_size(self) -> int:
        """Width of one head."""
        return int(getattr(self.attention, self.family.head_size_attribute))

    @property
    def group(self) -> int:
        """Number of query heads that read one key-value head."""
        name = self.family.group_attribute
        return int(getattr(self.attention, name)) if name else 1

    @property
    def gated(self) -> bool:
        """Whether each neuron has a gate."""
        return self.family.gated or bool(self.family.ffn_gate)

    def head_rows(self, role: str, kept: Sequence[int]) -> torch.Tensor:
        """Give the rows (of ``output`` the columns) of some heads in a matrix of attention."""
        import torch

        size = self.head_size * (self.group if role in ("query", "output") else 1)
        return (torch.as_tensor(list(kept))[:, None] * size + torch.arange(size)).flatten()

    @property
    def neurons(self) -> int:
        """Number of neurons in the feed-forward part now."""
        return int(self.linear("ffn_in").out_features) // (2 if self.family.gated else 1)

    def set_heads(self, heads: int) -> None:
        """Tell the attention module, where it asks, how many heads its matrices now hold."""
        told = {self.family.heads_attribute: heads}
        told[self.family.width_attribute] = heads * self.head_size
        for name, number in told.items():
            if hasattr(self.attention, name):
                setattr(self.attention, name, number)

    def keep_heads(self, kept: Sequence[int]) -> None:
        """Keep only these heads: matrices become smaller, nothing is masked.

        Head h of H owns rows h·d … (h+1)·d of query, key and value (of each third of a `qkv`) and
        the same columns of the output matrix; d is the head size. Where several query heads read
        one key-value head, it owns theirs: d is as many times as large in query and output.

        Parameters
        ----------
        kept : sequence of int
            Ascending, at least one, all below `heads`.
        """
        from edgecompress.surgery.linear import slice_linear

        columns = self.head_rows("output", kept)
        if self.family.qkv:
            thirds = _repeated(columns, self.heads * self.head_size, 3)
            self.set_part("qkv", slice_linear(self.part("qkv"), thirds, dim=0))
        else:
            for role in ("query", "key", "value"):
                rows = self.head_rows(role, kept)
                self.set_part(role, slice_linear(self.part(role), rows, dim=0))
        self.set_part("output", slice_linear(self.output_linear, columns, dim=1))
        self.set_heads(len(kept))

    def keep_neurons(self, kept: Sequence[int]) -> None:
        """Keep only these neurons (of a gated part: with their gates).

        Parameters
        ----------
        kept : sequence of int
            Ascending, at least one, all below `neurons`.
        """
        import torch

        from edgecompress.surgery.linear import slice_linear

        columns = torch.as_tensor(list(kept))
        rows = _repeated(columns, self.neurons, 2) if self.family.gated else columns
        self.set_part("ffn_in", slice_linear(self.part("ffn_in"), rows, dim=0))
        if self.family.ffn_gate:
            self.set_part("ffn_gate", slice_linear(self.part("ffn_gate"), columns, dim=0))
        self.set_part("ffn_out", slice_linear(self.ffn_out_linear, columns, dim=1))

    def head_squares(self) -> torch.Tensor:
        """Sum of the squared weights that belong to each head, float64 (heads,)."""
        import torch

        with torch.no_grad():
            found = self.output_linear.weight.double().square().sum(0).view(self.heads, -1).sum(1)
            for role in self.family.inner:
                squares = self.part(role).weight.double().square().sum(1)
                parts = squares.view(3 if role == "qkv" else 1, self.heads, -1)
                found = found + parts.sum((0, 2))
            return found

    def neuron_squares(self) -> torch.Tensor:
        """Sum of the squared weights that belong to each neuron, float64 (neurons,)."""
        import torch

        with torch.no_grad():
            inner = self.part("ffn_in").weight.double().square().sum(1)
            inner = inner.view(-1, self.neurons).sum(0)
            if self.family.ffn_gate:
                inner = inner + self.part("ffn_gate").weight.double().square().sum(1)
            return inner + self.ffn_out_linear.weight.double().square().sum(0)

    def resize(self, heads: int, neurons: int) -> None:
        """Give the linear layers the shapes for `heads` and `neurons`, without values."""
        from edgecompress.surgery.linear import resized

        width = heads * self.head_size
        for role in self.family.inner:
            rows = width * {"qkv": 3, "query": self.group}.get(role, 1)
            self.set_part(role, resized(self.part(role), outputs=rows))
        self.set_part("output", resized(self.output_linear, inputs=width * self.group))
        self.set_heads(heads)
        rows = 2 * neurons if self.family.gated else neurons
        self.set_part("ffn_in", resized(self.part("ffn_in"), outputs=rows))
        if self.family.ffn_gate:
            self.set_part("ffn_gate", resized(self.part("ffn_gate"), outputs=neurons))
        self.set_part("ffn_out", resized(self.ffn_out_linear, inputs=neurons))


def _repeated(rows: torch.Tensor, stride: int, times: int) -> torch.Tensor:
    """Give the same rows of each of `times` parts that lie `stride` rows apart."""
    import torch

    return torch.cat([rows + stride * part for part in range(times)])
