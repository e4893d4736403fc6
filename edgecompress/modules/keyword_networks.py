"""Small convolutional networks that spot keywords in spectra: res8, res15 and narrower ones.

Source: R. Tang, J. Lin, «Deep residual learning for small-footprint keyword spotting» (ICASSP
2018). Tensors are called as in the authors' code (honk), so that its checkpoints can be read.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

from edgecompress.errors import DataError


class ResKeywordConfig(PretrainedConfig):
    """What ``config.json`` says of such a network.

    Parameters
    ----------
    width : int
        Channels of the residual stream: of the first convolution, and of the second of each block.
    inner : list of int
        Channels between the two convolutions of each block.
    pool : list of int or None
        How many frames and bands are averaged behind the first convolution.
    dilated : bool
        Whether convolutions widen from block to block, as in res15 and res26.
    """

    model_type = "res-keyword"

    def __init__(
        self,
        width: int = 45,
        inner: tuple[int, ...] = (45, 45, 45),
        pool: tuple[int, int] | None = (4, 3),
        dilated: bool = False,
        **others: Any,
    ) -> None:
        super().__init__(**others)
        self.width, self.inner = width, list(inner)
        self.pool, self.dilated = None if pool is None else list(pool), dilated


class ResKeywordForAudioClassification(PreTrainedModel):
    """res8 with its usual configuration."""

    config_class = ResKeywordConfig
    base_model_prefix = "network"
    main_input_name = "input_values"

    def __init__(self, config: ResKeywordConfig) -> None:
        super().__init__(config)
        sizes = [config.width, *config.inner]
        if not config.inner or not all(isinstance(size, int) and size > 0 for size in sizes):
            raise DataError("width and inner of config.json must be whole numbers of channels")
        self.conv0 = nn.Conv2d(1, config.width, 3, padding=1, bias=False)
        self.pool = nn.AvgPool2d(tuple(config.pool)) if config.pool else nn.Identity()
        for block, inner in enumerate(config.inner):
            first = 2 * block + 1
            for number, given, made in (
                (first, config.width, inner),
                (first + 1, inner, config.width),
            ):
                wide = 2 ** ((number - 1) // 3) if config.dilated else 1
                conv = nn.Conv2d(given, made, 3, padding=wide, dilation=wide, bias=False)
                setattr(self, f"conv{number}", conv)
                setattr(self, f"bn{number}", nn.BatchNorm2d(made, affine=False))
            self.register_parameter(f"scale{first}", nn.Parameter(torch.ones(inner)))
        self.output = nn.Linear(config.width, config.num_labels)
        self.post_init()

    def forward(self, input_values: torch.Tensor, labels: Any = None) -> SequenceClassifierOutput:  # noqa: ARG002
        """Give the scores of classes.

        Parameters
        ----------
        input_values : torch.Tensor
            float (batch, frames, bands).
        """
        states = self.pool(functional.relu(self.conv0(input_values.unsqueeze(1))))
        stream = states
        for block in range(len(self.config.inner)):
            first, second = 2 * block + 1, 2 * block + 2
            inner = getattr(self, f"bn{first}")(functional.relu(self._conv(first, states)))
            inner = inner * getattr(self, f"scale{first}")[:, None, None]
            stream = stream + functional.relu(self._conv(second, inner))
            states = getattr(self, f"bn{second}")(stream)
        return SequenceClassifierOutput(logits=self.output(states.flatten(2).mean(2)))

    def _conv(self, number: int, states: torch.Tensor) -> torch.Tensor:
        made: torch.Tensor = getattr(self, f"conv{number}")(states)
        return made

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def narrowed(self, width: int, inner: tuple[int, ...]) -> ResKeywordForAudioClassification:
        """Give a narrower network of this one's strongest channels.

        A channel of the stream counts by the classifier's weights that read it, an inner one by
        those on both of its sides.

        Parameters
        ----------
        width : int
        inner : tuple of int
            Of each block.
        """
        config = type(self.config)(**{**self.config.to_dict(), "width": width, "inner": inner})
        made = type(self)(config)
        norms = self.output.weight.norm(dim=0)
        stream = norms.topk(width).indices.sort().values
        made.conv0.weight.copy_(self.conv0.weight[stream])
        for block, count in enumerate(inner):
            first, second = 2 * block + 1, 2 * block + 2
            one, two = (getattr(self, f"conv{number}").weight for number in (first, second))
            scale = getattr(self, f"scale{first}")
            strength = one[:, stream].flatten(1).norm(dim=1) * scale.abs()
            strength = strength * two[stream].transpose(0, 1).flatten(1).norm(dim=1)
            kept = strength.topk(count).indices.sort().values
            getattr(made, f"conv{first}").weight.copy_(one[kept][:, stream])
            getattr(made, f"conv{second}").weight.copy_(two[stream][:, kept])
            getattr(made, f"scale{first}").copy_(scale[kept])
            for number, channels in ((first, kept), (second, stream)):
                given, new = (getattr(each, f"bn{number}") for each in (self, made))
                new.running_mean.copy_(given.running_mean[channels])
                new.running_var.copy_(given.running_var[channels])
        made.output.weight.copy_(self.output.weight[:, stream])
        made.output.bias.copy_(self.output.bias)
        return made.eval()
