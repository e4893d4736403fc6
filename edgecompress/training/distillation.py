"""Student beside teacher: which rows, which layers, and one loss of what the teacher says."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.errors import StageError
from edgecompress.tasks import Preprocessor
from edgecompress.training.losses import hard_loss, hidden_loss, soft_loss
from edgecompress.training.outputs import TeacherOutputs
from edgecompress.training.rows import Rows
from edgecompress.values import Candidate

Pairs = Sequence[tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Teaching:
    """What a student is compared with, and how much each comparison counts.

    Attributes
    ----------
    rows : Rows
        The student's.
    outputs : TeacherOutputs
        The teacher's, for the same rows.
    pairs : sequence of (int, int)
        Student's and teacher's layers to compare, from 0.
    projections : torch.nn.ModuleList or None
        One linear map per pair where the widths differ.
    temperature, logits_weight, hidden_weight, label_weight : float
    """

    rows: Rows
    outputs: TeacherOutputs
    pairs: Pairs
    projections: nn.ModuleList | None
    temperature: float
    logits_weight: float
    hidden_weight: float
    label_weight: float

    def loss(self, output: Any, mask: torch.Tensor, numbers: np.ndarray) -> torch.Tensor:
        """Weigh the student's distances from the teacher and from the labels.

        Parameters
        ----------
        output : transformers.ModelOutput
            The student's logits and hidden states of a batch.
        mask : torch.Tensor
            bool (batch, length): real tokens.
        numbers : numpy.ndarray
            int64 (batch,): the batch's rows.
        """
        total = torch.zeros(())
        if self.logits_weight:
            its = self.outputs.logits_of(numbers)
            ours = output.logits
            if ours.ndim == 3:
                # Only where an answer is read: nobody asked the teacher about inner word pieces.
                read = self._answers(numbers, mask)
                ours, its = ours[read], its[read[mask]]
            total = total + self.logits_weight * soft_loss(ours, its, self.temperature)
        if self.label_weight:
            targets = self.rows.targets(numbers, mask.shape[1])
            total = total + self.label_weight * hard_loss(output.logits, targets)
        for index, (student, teacher) in enumerate(self.pairs):
            states = output.hidden_states[student + 1][mask]
            if self.projections is not None:
                states = self.projections[index](states)
            distance = hidden_loss(states, self.outputs.hidden_of(teacher, numbers))
            total = total + self.hidden_weight / len(self.pairs) * distance
        return total

    def _answers(self, numbers: np.ndarray, mask: torch.Tensor) -> torch.Tensor:
        read = torch.zeros_like(mask)
        for row, number in enumerate(numbers.tolist()):
            read[row, torch.from_numpy(self.rows.encoded.word_positions[number])] = True
        return read


def projections(pairs: Pairs, ours: int, its: int, seed: int) -> nn.ModuleList | None:
    """Make a linear map per pair from the student's width to the teacher's, where they differ."""
    if ours == its or not pairs:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.ModuleList(nn.Linear(ours, its, bias=False) for _ in pairs)


def same_rows(teacher: Candidate, rows: Rows, config: Any) -> Rows:
    """Encode the student's examples for the teacher; token must stand beside token.

    Parameters
    ----------
    teacher : Candidate
    rows : Rows
        The student's.
    config : transformers.PretrainedConfig
        The teacher's.

    Raises
    ------
    StageError
        When the two tokenizers divide some text differently.
    """
    import transformers

    if teacher.preprocessor is None:
        raise StageError("the teacher has no tokenizer")
    preprocessor = Preprocessor.load(teacher.preprocessor)
    taken = inspect.signature(getattr(transformers, config.architectures[0]).forward).parameters
    names = tuple(name for name in preprocessor.input_names if name in taken)
    if preprocessor.digest == rows.preprocessor.digest:
        return replace(rows, input_names=names)
    encoded = rows.task.encode(rows.examples, preprocessor, rows.labels)
    differ = _differing(rows, encoded)
    if differ:
        raise StageError(
            f"the student's tokenizer divides {differ} of {len(rows.examples)} training examples "
            "otherwise than the teacher's, so that their tokens cannot be compared; distil with "
            "the teacher's own tokenizer"
        )
    return replace(rows, encoded=encoded, preprocessor=preprocessor, input_names=names)


def _differing(rows: Rows, encoded: Any) -> int:
    if len(encoded) != len(rows.encoded):
        return max(1, abs(len(encoded) - len(rows.encoded)))
    return sum(
        len(ours) != len(its) or not np.array_equal(our_words, its_words)
        for ours, its, our_words, its_words in zip(
            rows.encoded.input_ids,
            encoded.input_ids,
            rows.encoded.word_positions,
            encoded.word_positions,
            strict=True,
        )
    )
