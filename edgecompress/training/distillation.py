"""A student's loss: its teachers' answers, inner states and relations, and the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from edgecompress.tasks import Output
from edgecompress.training.align import AlignedSpans, Alignment, Ids, runs
from edgecompress.training.layer_maps import Mixture, Pairs
from edgecompress.training.losses import (
    Distance,
    Kind,
    averaged,
    divergence,
    hidden_loss,
    mean,
    relation_loss,
    softened,
    task_loss,
)
from edgecompress.training.online_teacher import OnlineTeacher
from edgecompress.training.outputs import TeacherOutputs
from edgecompress.training.relations import ROLES
from edgecompress.training.rows import TorchRows


@dataclass(frozen=True, slots=True)
class Weights:
    """How much each comparison counts, and how it is made."""

    logits: float = 1.0
    hidden: float = 0.0
    embeddings: float = 0.0
    relations: float = 0.0
    labels: float = 0.0
    temperature: float = 1.0
    distance: Distance = "normalized"


@dataclass(frozen=True, slots=True)
class Relations:
    """Which layers' queries, keys and values are compared, divided into how many heads."""

    ours: int
    its: int
    heads: int


@dataclass(frozen=True, eq=False)
class Supervision:
    """What one teacher says of a student's rows.

    Attributes
    ----------
    outputs : TeacherOutputs or OnlineTeacher
    alignment : Alignment
    answers : numpy.ndarray
        float64 (rows,): how much its answer counts for a row; 0 where it does not teach.
    inner : numpy.ndarray
        bool (rows,): whose hidden states and the like are its to teach; of several teachers of a
        row the first.
    pairs : sequence of (int, int)
        Student's and teacher's layers to compare, from 0.
    relations : Relations or None
    projections : Projections
        What is trained with the student to make them comparable.
    """

    outputs: TeacherOutputs | OnlineTeacher
    alignment: Alignment
    answers: np.ndarray
    inner: np.ndarray
    pairs: Pairs
    relations: Relations | None
    projections: Projections


class Projections(nn.Module):
    """Linear maps from the student's width to the teacher's, and the mixture of its layers.

    Parameters
    ----------
    pairs : sequence of (int, int)
    ours, its : int
        Widths; where they are the same, nothing is mapped.
    embeddings : bool
        Whether the embeddings are compared, too.
    layers : int or None
        The teacher's, where the map between layers is learned.
    seed : int
    """

    def __init__(
        self, pairs: Pairs, ours: int, its: int, embeddings: bool, layers: int | None, seed: int
    ) -> None:
        super().__init__()
        count = 0 if ours == its else len(pairs) + embeddings
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.maps = nn.ModuleList(nn.Linear(ours, its, bias=False) for _ in range(count))
        self.mixture = Mixture(pairs, layers) if layers else None

    def forward(self, states: torch.Tensor, index: int) -> torch.Tensor:
        """Map states of the student's pair `index`; the embeddings are the last."""
        found: torch.Tensor = self.maps[index](states) if len(self.maps) else states
        return found


@dataclass(frozen=True, eq=False)
class Teaching:
    """What a student is compared with, and how much each comparison counts.

    Attributes
    ----------
    rows : TorchRows
        The student's.
    supervisions : sequence of Supervision
        One for each teacher.
    weights : Weights
    row_weights : numpy.ndarray or None
        float32 (rows,): how much each row counts in what the teachers say; None: all alike.
    captured : mapping of str to torch.Tensor
        Where hooks leave the student's queries, keys and values (`relations.captured`).
    """

    rows: TorchRows
    supervisions: Sequence[Supervision]
    weights: Weights
    row_weights: np.ndarray | None
    captured: Mapping[str, torch.Tensor]

    @property
    def reads_hidden_states(self) -> bool:
        """Whether the loss needs ``output.hidden_states``."""
        return bool(self.weights.hidden or self.weights.embeddings)

    def loss(self, output: Any, numbers: np.ndarray) -> torch.Tensor:
        """Weigh the student's distances from the teachers and from the labels.

        Parameters
        ----------
        output : transformers.ModelOutput
            The student's outputs and hidden states of a batch.
        numbers : numpy.ndarray
            int64 (batch,): the batch's rows.
        """
        chosen, length = self.weights, self.rows.length(numbers)
        answers = self.rows.task.outputs
        # So that there is a gradient even when nothing of a batch can be compared.
        total = output[answers[0].name].float().sum() * 0
        for one in answers if chosen.logits else ():
            total = total + chosen.logits * self._answers(one, output[one.name], numbers, length)
        if chosen.labels:
            taught = self.rows.taught(numbers)
            total = total + chosen.labels * task_loss(self.rows.task, output, taught)
        if not (self.reads_hidden_states or chosen.relations):
            return total
        parts = [
            (supervision, at, supervision.alignment.spans.of(numbers[at]))
            for supervision in self.supervisions
            if len(at := np.flatnonzero(supervision.inner[numbers]))
        ]
        everything = sum(len(spans.row) for _, _, spans in parts)
        for supervision, at, spans in parts:
            if len(spans.row):
                said = self._inner(supervision, output, at, spans, numbers[at], length)
                total = total + said * (len(spans.row) / everything)
        return total

    def _answers(self, of: Output, logits: torch.Tensor, numbers: Ids, length: int) -> torch.Tensor:
        """Compare answers where they are read: nobody asked the teacher about inner pieces."""
        temperature, kind = self.weights.temperature, of.kind
        flat = logits.flatten(1) if of.candidates else logits.flatten(0, -2)
        first = self.supervisions[0].outputs
        if isinstance(first, OnlineTeacher):
            # Both answered the hidden places only, in the same order.
            its = first.guesses(numbers).to(logits.device)
            return divergence(flat, softened(its, temperature), temperature)
        found = []
        for supervision in self.supervisions:
            at = np.flatnonzero(supervision.answers[numbers] > 0)
            asked = numbers[at]
            if self.rows.stepwise:
                spans = supervision.alignment.answers.of(asked)
                row, ours = at[spans.row], at[spans.row] * length + spans.ours
                starts, counts = spans.its, spans.its_count
            else:
                row = ours = at
                starts, counts = (
                    supervision.alignment.first_row[asked],
                    supervision.alignment.row_count[asked],
                )
            if len(ours):
                its = supervision.outputs.of(of.name, starts, counts).to(logits.device)
                share = supervision.answers[numbers[row]]
                found.append((ours, its, share))
        if not found:
            return logits.float().sum() * 0
        ours, said, _ = found[0]
        if len(found) == 1:
            wanted = softened(said, temperature, kind)
        else:
            ours, wanted = _together(
                [(at, softened(its, temperature, kind), share) for at, its, share in found],
                len(flat),
                kind,
            )
        counts_of = None
        if self.row_weights is not None:
            row = ours // length if self.rows.stepwise else ours
            counts_of = torch.from_numpy(self.row_weights[numbers[row]]).to(logits.device)
        mine = flat.index_select(0, torch.from_numpy(ours).to(logits.device))
        if of.candidates:
            mine, said = (one.unflatten(1, (-1, logits.shape[-1])) for one in (mine, said))
        own = self.rows.task.distance(mine, said) if len(found) == 1 else None
        if own is not None:
            return mean(own, counts_of)
        return divergence(mine, wanted, temperature, counts_of, kind)

    def _inner(
        self,
        supervision: Supervision,
        output: Any,
        at: Ids,
        spans: AlignedSpans,
        numbers: Ids,
        length: int,
    ) -> torch.Tensor:
        """Compare what lies inside both models, for the rows that a supervision has in a batch.

        `at` are their places in the batch, `numbers` their numbers, `spans` theirs.
        """
        chosen = self.weights
        device = output[self.rows.task.outputs[0].name].device
        take = _Pool(at[spans.row] * length + spans.ours, spans.ours_count, device)
        row_weights = span_weights = None
        if self.row_weights is not None:
            row_weights = torch.from_numpy(self.row_weights[numbers]).to(device)
            span_weights = row_weights[torch.from_numpy(spans.row).to(device)]

        def its(name: str) -> torch.Tensor:
            return supervision.outputs.of(name, spans.its, spans.its_count).to(device)

        def distance(states: torch.Tensor, index: int, wanted: torch.Tensor) -> torch.Tensor:
            mapped = supervision.projections(take(states), index)
            return hidden_loss(mapped, wanted, chosen.distance, span_weights)

        total = torch.zeros((), device=device)
        if chosen.hidden:
            mixture = supervision.projections.mixture
            if mixture is not None:
                layers = range(mixture.scores.shape[1])
                wanted = mixture(torch.stack([its(f"hidden-{layer}") for layer in layers]))
            for index, (student, teacher) in enumerate(supervision.pairs):
                one = its(f"hidden-{teacher}") if mixture is None else wanted[index]
                found = distance(output.hidden_states[student + 1], index, one)
                total = total + chosen.hidden / len(supervision.pairs) * found
        if chosen.embeddings:
            found = distance(output.hidden_states[0], -1, its("embeddings"))
            total = total + chosen.embeddings * found
        if chosen.relations and supervision.relations is not None:
            layout = _Layout(spans, device)
            for role in ROLES:
                mine = layout(take(self.captured[f"{role}-{supervision.relations.ours}"]))
                other = layout(its(f"{role}-{supervision.relations.its}"))
                found = relation_loss(
                    mine, other, layout.real, supervision.relations.heads, row_weights
                )
                total = total + chosen.relations * found
        return total


class _Pool:
    """Means over runs of tokens of a padded batch, float (batch, length, width) → (runs, width)."""

    def __init__(self, starts: Ids, counts: Ids, device: torch.device) -> None:
        self.index = torch.from_numpy(runs(starts, counts)).to(device)
        self.owner = self.counts = None
        if (counts != 1).any():
            self.owner = torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(device)
            self.counts = torch.from_numpy(counts.astype(np.float32))[:, None].to(device)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        found = states.flatten(0, 1).index_select(0, self.index)
        if self.owner is None or self.counts is None:
            return found
        sums = found.new_zeros((len(self.counts), found.shape[1]), dtype=torch.float32)
        return sums.index_add(0, self.owner, found.float()) / self.counts


class _Layout:
    """Spans one after the other, float (spans, width) → (rows, most spans of a row, width)."""

    def __init__(self, spans: AlignedSpans, device: torch.device) -> None:
        counts = np.diff(spans.starts)
        most = int(counts.max())
        place = spans.row * most + np.arange(len(spans.row)) - spans.starts[spans.row]
        self.place = torch.from_numpy(place).to(device)
        self.shape = (len(counts), most)
        real = np.arange(most)[None, :] < counts[:, None]
        self.real = torch.from_numpy(real).to(device)

    def __call__(self, values: torch.Tensor) -> torch.Tensor:
        flat = values.new_zeros((self.shape[0] * self.shape[1], values.shape[1]))
        return flat.index_copy(0, self.place, values).view(*self.shape, -1)


def _together(
    found: Sequence[tuple[Ids, torch.Tensor, np.ndarray]], places: int, kind: Kind
) -> tuple[Ids, torch.Tensor]:
    """Average several teachers' answers, each at places of its own: (places, mean answers)."""
    shares = np.zeros((len(found), places))
    answers = []
    for number, (ours, wanted, share) in enumerate(found):
        shares[number, ours] = share
        full = wanted.new_zeros((places, wanted.shape[1]))
        answers.append(full.index_copy(0, torch.from_numpy(ours).to(wanted.device), wanted))
    taught = np.flatnonzero(shares.sum(0))
    index = torch.from_numpy(taught).to(answers[0].device)
    weights = torch.from_numpy(shares[:, taught]).to(answers[0])
    return taught, averaged([answer[index] for answer in answers], weights, kind)


def rows_for(rows: TorchRows, preprocessor: Any, asked: Ids, names: tuple[str, ...]) -> TorchRows:
    """Encode some of the student's examples for a teacher.

    Parameters
    ----------
    rows : TorchRows
        The student's.
    preprocessor : Processor
        The teacher's.
    asked : numpy.ndarray
        int64: the numbers of the examples, rising.
    names : tuple of str
        Inputs that the teacher takes.
    """
    whole = len(asked) == len(rows.examples)
    if whole and preprocessor.digest == rows.processor.digest:
        return replace(rows, input_names=names)
    examples = rows.examples if whole else [rows.examples[number] for number in asked.tolist()]
    made = rows.task.rows(examples, preprocessor, rows.classes)
    return TorchRows(made.rows, examples, rows.task, preprocessor, rows.classes, input_names=names)
