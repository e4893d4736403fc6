"""ALBERT (Lan et al., 2020): the same layer runs again and again, on a factorized embedding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgecompress.errors import StageError
from edgecompress.surgery.families._family import Family

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class SharedLayers(Family):
    """A few groups of layers whose weights all layers of a group share."""

    def run_layers(self, module: Any) -> list[nn.Module]:
        """Give the layers as they run: the same one many times.

        Source: ``AlbertTransformer.forward`` of transformers.
        """
        groups = module.base_model.get_submodule(self.layers)
        runs = int(module.config.num_hidden_layers)
        found: list[nn.Module] = []
        for run in range(runs):
            found += groups[int(run / (runs / len(groups)))].albert_layers
        return found

    def distinct_layers(self, module: Any) -> list[nn.Module]:
        """Give each layer that has weights once."""
        return list(dict.fromkeys(self.run_layers(module)))

    def set_layers(self, module: Any, layers: Sequence[nn.Module]) -> None:
        """Run the one layer as often as `layers` is long.

        Raises
        ------
        StageError
            When there are several groups, whose layers a count does not tell apart.
        """
        if len(self.distinct_layers(module)) > 1:
            raise StageError(
                "the layers of this albert model share their weights in groups, so that none of "
                "them can be left out alone; prune heads and neurons instead"
            )
        module.config.num_hidden_layers = len(layers)


FAMILY = SharedLayers(
    "albert",
    layers="encoder.albert_layer_groups",
    attention="attention",
    query="attention.query",
    key="attention.key",
    value="attention.value",
    output="attention.dense",
    ffn_in="ffn",
    ffn_out="ffn_output",
)
