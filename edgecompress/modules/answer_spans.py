"""A model that finds answers in passages: transformers' own, with both its scores in one tensor.

Transformers gives the scores of starts and of ends apart; one tensor goes the same way through
training, export and a bundle as any other model's answer.
"""

from __future__ import annotations

import functools
import inspect
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput


@dataclass
class SpanOutput(ModelOutput):
    """What such a model gives.

    Attributes
    ----------
    logits : torch.Tensor
        float (batch, length, 2): the scores of an answer's first and last token.
    hidden_states : tuple of torch.Tensor, optional
    """

    logits: torch.Tensor | None = None
    hidden_states: tuple[torch.Tensor, ...] | None = None


@functools.cache
def spans_of(head: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """Give the class over a head of transformers, as ``BertSpansForQuestionAnswering``."""
    segments = "token_type_ids" in inspect.signature(head.forward).parameters

    def forward(
        self: Any, input_ids: Any = None, attention_mask: Any = None, token_type_ids: Any = None,
        output_hidden_states: bool | None = None,
    ) -> SpanOutput:  # fmt: skip
        """Give both scores of each token, float (batch, length, 2)."""
        given = {"token_type_ids": token_type_ids} if segments else {}
        found = head.forward(
            self, input_ids=input_ids, attention_mask=attention_mask,
            output_hidden_states=output_hidden_states, return_dict=True, **given,
        )  # fmt: skip
        both = torch.stack((found.start_logits, found.end_logits), dim=-1)
        return SpanOutput(both, found.hidden_states)

    def forward_without(
        self: Any, input_ids: Any = None, attention_mask: Any = None,
        output_hidden_states: bool | None = None,
    ) -> SpanOutput:  # fmt: skip
        """Give both scores of each token, float (batch, length, 2)."""
        return forward(self, input_ids, attention_mask, None, output_hidden_states)

    made: type[PreTrainedModel] = type(
        f"{head.__name__.removesuffix('ForQuestionAnswering')}SpansForQuestionAnswering",
        (head,),
        {
            "__module__": __name__,
            "__doc__": f"{head.__name__} with both its scores in one tensor.",
            "config_class": head.config_class,
            "forward": forward if segments else forward_without,
        },
    )
    return made
