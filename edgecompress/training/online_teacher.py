"""What a teacher says of text in which pieces are hidden, asked while the student trains.

Other pieces are hidden each epoch, so that no answer is needed twice and none is kept: logits over
a whole vocabulary would fill any disk. The teacher reads the student's own pieces by their names,
so that token stands beside token even where the student's vocabulary was trimmed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from edgecompress.errors import StageError
from edgecompress.processors import TextProcessor
from edgecompress.surgery.hidden import hidden_size
from edgecompress.tasks.rows import IGNORED
from edgecompress.training.align import AlignedSpans, Alignment, Ids, same_pieces
from edgecompress.training.devices import training_device
from edgecompress.training.masking import MaskedRows, MaskState
from edgecompress.training.relations import captured


@dataclass(frozen=True, eq=False)
class TeacherRows(MaskedRows):
    """The student's rows as the teacher reads them.

    Attributes
    ----------
    table : numpy.ndarray
        int64 (student's ids,): the teacher's id of the same piece.
    """

    table: Ids = field(default_factory=lambda: np.zeros(0, np.int64))

    def feed(self, rows: Sequence[int] | np.ndarray) -> dict[str, torch.Tensor]:
        """Give a batch's inputs in the teacher's ids."""
        found = super().feed(rows)
        found["input_ids"] = torch.from_numpy(self.table)[found["input_ids"]]
        return found


class OnlineTeacher:
    """A teacher that is asked batch by batch; takes the place of `TeacherOutputs`.

    Parameters
    ----------
    load : callable
        Gives the teacher's module.
    student : MaskedRows
    teacher : TextProcessor
    input_names : tuple of str
        What the teacher takes.
    names : sequence of str
        The outputs that are wanted (`outputs.output_names`).

    Raises
    ------
    StageError
        When the teacher's tokenizer lacks pieces of the student's, or it takes shorter rows.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        student: MaskedRows,
        teacher: TextProcessor,
        input_names: tuple[str, ...],
        names: Sequence[str],
    ) -> None:
        table = same_pieces(student.processor, teacher)
        missing = int((table < 0).sum())
        if missing:
            raise StageError(
                f"{missing} of the {len(table)} pieces of the student's tokenizer are none of the "
                f"teacher's; with {student.task.name} the student's vocabulary must be the "
                "teacher's, or a part of it (vocabulary.trim)"
            )
        if len(student) and int(student.lengths.max()) > teacher.max_length:
            raise StageError(
                f"the teacher reads at most {teacher.max_length} tokens, and the student's rows "
                f"have up to {int(student.lengths.max())}"
            )
        self.student, self.names = student, tuple(names)
        self.rows = TeacherRows(
            student.rows,
            student.examples,
            student.task,
            student.processor,
            student.classes,
            input_names,
            student.masking,
            MaskState(),
            table,
        )
        self.module = load().to(training_device())
        self.layers = {int(name.split("-")[1]) for name in names if name.startswith("query-")}
        self.begin = np.concatenate([[0], np.cumsum(student.lengths)]).astype(np.int64)
        self.asked: tuple[object, ...] = ()
        self.said: dict[str, torch.Tensor] = {}

    def of(self, name: str, starts: Ids, counts: Ids) -> torch.Tensor:  # noqa: ARG002
        """Give an output for tokens, counted over all rows laid end to end: float32 (…, width)."""
        row = np.searchsorted(self.begin, starts, side="right") - 1
        rows, place = np.unique(row, return_inverse=True)
        self._ask(rows)
        states = self.said[name]
        at = place * states.shape[1] + (starts - self.begin[row])
        return states.flatten(0, 1)[torch.from_numpy(at).to(states.device)].float()

    def width(self, _name: str) -> int:
        """Give the width of the hidden states."""
        return hidden_size(self.module)

    def guesses(self, rows: Ids) -> torch.Tensor:
        """Give the logits of the hidden places of rows, in their order: float32 (hidden, pieces).

        The pieces are the student's.
        """
        order = np.argsort(rows, kind="stable")
        self._ask(rows[order])
        drawn = [self.student.drawn(number) for number in rows[order].tolist()]
        hidden = [row.target["labels"] != IGNORED for row in drawn]
        counts = [int(each.sum()) for each in hidden]
        parts = self.said["logits"].split(counts)
        there = {int(position): part for position, part in zip(order, parts, strict=True)}
        found = torch.cat([there[position] for position in range(len(rows))])
        return found.index_select(1, torch.from_numpy(self.rows.table).to(found.device)).float()

    def _ask(self, rows: Ids) -> None:
        """Run the teacher on a batch, once for all that is asked about it."""
        now = (self.student.mask_state.epoch, self.student.mask_state.seed, rows.tobytes())
        if now == self.asked:
            return
        device = next(self.module.parameters()).device
        several = any(not name.startswith("logits") for name in self.names)
        with (
            torch.no_grad(),
            self.rows.reading(self.module),
            captured(self.module, self.layers) as caught,
        ):
            if self.student.mask_state.epoch is not None:
                self.rows.begin(self.student.mask_state.epoch, self.student.mask_state.seed)
            feed = {name: value.to(device) for name, value in self.rows.feed(rows).items()}
            output = self.module(**feed, output_hidden_states=several)
            self.said = {"logits": output.logits[0].clone()}
            for name in self.names:
                if name == "embeddings":
                    self.said[name] = output.hidden_states[0]
                elif name.startswith("hidden-"):
                    self.said[name] = output.hidden_states[int(name.removeprefix("hidden-")) + 1]
                elif name != "logits":
                    self.said[name] = caught[name]
        self.asked = now


def token_by_token(rows: MaskedRows) -> Alignment:
    """Put every token beside itself: the teacher reads the student's pieces."""
    lengths = rows.lengths
    begin = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    row = np.repeat(np.arange(len(lengths)), lengths)
    flat = np.arange(begin[-1])
    one = np.ones(len(flat), dtype=np.int64)
    spans = AlignedSpans(row, flat - begin[row], one, flat, one, begin)
    nothing = np.zeros(0, dtype=np.int64)
    none = AlignedSpans(nothing, nothing, nothing, nothing, nothing, np.zeros(len(begin), np.int64))
    each = np.arange(len(lengths))
    return Alignment(spans, none, each, np.ones(len(lengths), dtype=np.int64))
