"""An encoder that gives one vector for a text: any body of transformers with what pools it.

``config.json`` says what lies behind the body, under ``sentence_embedding``
(`sentence_files.SentenceModules`), so that a checkpoint of ours needs no further files.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from edgecompress.errors import DataError
from edgecompress.modules.sentence_files import SentenceModules, has_modules, read_modules

FIELD = "sentence_embedding"
"""In config.json, and the name of what such a model gives."""


@dataclass
class SentenceOutput(ModelOutput):
    """What a sentence encoder gives.

    Attributes
    ----------
    sentence_embedding : torch.Tensor
        float (batch, width).
    hidden_states : tuple of torch.Tensor, optional
    """

    sentence_embedding: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


class SentenceEncoder(PreTrainedModel):
    """What all of these have in common; `encoder_of` makes one of a body."""

    body_class: type[PreTrainedModel]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        try:
            chosen = SentenceModules.from_json(getattr(config, FIELD, SentenceModules().to_json()))
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"damaged {FIELD} in config.json ({error})") from None
        taken = inspect.signature(self.body_class.__init__).parameters
        options = {"add_pooling_layer": False} if "add_pooling_layer" in taken else {}
        setattr(self, self.base_model_prefix, self.body_class(config, **options))
        width = config.hidden_size * len(chosen.pooling)
        parts: list[nn.Module] = []
        for one in chosen.dense:
            activation = getattr(nn, one.activation)()
            parts += [nn.Linear(width, one.width, bias=one.bias), activation]
            width = one.width
        self.dense = nn.Sequential(*parts)
        self.pooling, self.normalize = chosen.pooling, chosen.normalize
        self.dimensions = chosen.dimensions
        self.post_init()

    @property
    def width(self) -> int:
        """How many numbers a vector has."""
        linears = [part for part in self.dense if isinstance(part, nn.Linear)]
        pooled = self.config.hidden_size * len(self.pooling)
        return self.dimensions or (linears[-1].out_features if linears else pooled)

    def cut(self, dimensions: int) -> None:
        """Give the first numbers of each vector only."""
        self.dimensions = dimensions
        setattr(self.config, FIELD, {**getattr(self.config, FIELD), "dimensions": dimensions})

    def pooled(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Make one vector of the states of the real tokens.

        Parameters
        ----------
        states : torch.Tensor
            float (batch, length, width).
        mask : torch.Tensor
            int64 (batch, length): 1 for what is no padding; the padding is on the right.

        Returns
        -------
        torch.Tensor
            float (batch, width · ways to pool).
        """
        real = mask.unsqueeze(-1).to(states.dtype)
        count = real.sum(1).clamp(min=1e-9)
        found = []
        for way in self.pooling:
            if way == "cls":
                one = states[:, 0]
            elif way == "max":
                one = states.masked_fill(real == 0, torch.finfo(states.dtype).min).amax(1)
            elif way == "lasttoken":
                last = torch.arange(1, mask.shape[1] + 1, device=mask.device) == mask.sum(1, True)
                one = (states * last.unsqueeze(-1).to(states.dtype)).sum(1)
            elif way == "weightedmean":
                places = torch.arange(1, mask.shape[1] + 1, device=mask.device)
                weights = real * places.to(states.dtype)[None, :, None]
                one = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
            else:
                one = (states * real).sum(1)
                one = one / (count if way == "mean" else count.sqrt())
            found.append(one)
        return torch.cat(found, dim=-1) if len(found) > 1 else found[0]

    def vector(self, states: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Make the vector that is given, float (batch, width)."""
        made: torch.Tensor = self.dense(self.pooled(states, mask))
        if self.dimensions:
            made = made[:, : self.dimensions]
        return functional.normalize(made, p=2.0, dim=-1) if self.normalize else made


@functools.cache
def encoder_of(body: type[PreTrainedModel]) -> type[SentenceEncoder]:
    """Give the class of sentence encoders with a body, such as ``BertForSentenceEmbedding``."""
    own = (one for one in body.__mro__[1:] if issubclass(one, PreTrainedModel))
    parent = next((one for one in own if one is not PreTrainedModel), PreTrainedModel)
    segments = "token_type_ids" in inspect.signature(body.forward).parameters

    def forward(
        self: Any, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None,
        output_hidden_states: bool | None = None,
    ) -> SentenceOutput:  # fmt: skip
        """Give the vector of each row, float (batch, width)."""
        given = {"token_type_ids": token_type_ids} if segments else {}
        states = self.base_model(
            input_ids=input_ids, attention_mask=attention_mask,
            output_hidden_states=output_hidden_states, return_dict=True, **given,
        )  # fmt: skip
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        return SentenceOutput(self.vector(states.last_hidden_state, mask), states.hidden_states)

    def forward_without(
        self: Any, input_ids: Any = None, attention_mask: Any = None,
        output_hidden_states: bool | None = None,
    ) -> SentenceOutput:  # fmt: skip
        """Give the vector of each row, float (batch, width)."""
        return forward(self, input_ids, attention_mask, None, output_hidden_states)

    @classmethod  # type: ignore[misc]
    def from_pretrained(cls: Any, source: Any, *rest: Any, config: Any, **options: Any) -> Any:
        """Read a checkpoint with what sentence-transformers wrote beside it."""
        folder = Path(source)
        modules = SentenceModules()
        if not hasattr(config, FIELD):
            if has_modules(folder):
                modules = read_modules(folder)
            setattr(config, FIELD, modules.to_json())
        made, report = super(made_class, cls).from_pretrained(
            folder, *rest, config=config, **options
        )
        _load_dense(made, modules)
        # What lies behind the body has just been read, or is new where a head may be.
        kept = [key for key in report["missing_keys"] if not key.startswith("dense.")]
        report["missing_keys"] = type(report["missing_keys"])(kept)
        return made, report

    name = f"{body.__name__.removesuffix('Model')}ForSentenceEmbedding"
    made_class: Any = type(
        name,
        (SentenceEncoder, parent),
        {
            "__module__": __name__,
            "__doc__": f"{body.__name__} that gives one vector for a text.",
            "body_class": body,
            "config_class": body.config_class,
            "forward": forward if segments else forward_without,
            "from_pretrained": from_pretrained,
        },
    )
    found: type[SentenceEncoder] = made_class
    return found


def _load_dense(made: SentenceEncoder, modules: SentenceModules) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    linears = [part for part in made.dense if isinstance(part, nn.Linear)]
    for part, one in zip(linears, modules.dense, strict=False):
        if one.weights is None:
            continue
        try:
            found = {key.removeprefix("linear."): t for key, t in load_file(one.weights).items()}
            part.load_state_dict({key: tensor.float() for key, tensor in found.items()})
        except (OSError, SafetensorError, RuntimeError) as error:
            cause = " ".join(str(error).split())[:200]
            raise DataError(f"the dense layer cannot be read ({cause})", file=one.weights) from None
