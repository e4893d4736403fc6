"""Who teaches: the recipe's teacher, several at once, or one for each file of the data.

Nothing here loads torch until a model is opened, so that a recipe can be checked without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat

from edgecompress.checkpoint import check_folder, find_weights, folder_digests
from edgecompress.context import Context
from edgecompress.errors import DataError, StageError
from edgecompress.hub import check_name
from edgecompress.onnx_files import model_digests
from edgecompress.reading import at_home
from edgecompress.tasks import takes_examples
from edgecompress.values import Candidate, Example, Json, directory_digests


class TeacherUse(BaseModel):
    """One of several teachers."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str | None = None
    """Directory of a candidate or of a Hugging Face model; null is the recipe's teacher."""
    weight: PositiveFloat = 1.0
    """How much its probabilities count beside those of the other teachers of an example."""
    sources: tuple[str, ...] = ()
    """Data files whose examples it teaches, by name (`hau` for `hau/train.txt`); empty: all."""

    def identity(self) -> Json:
        """Give what a result depends on: the files' digests instead of the place."""
        found = self.model_dump(mode="json")
        if self.model is not None:
            found["model"] = model_identity(self._folder(self.model))
        return found

    def check(self) -> None:
        """See that the directory is there and holds a model.

        Raises
        ------
        DataError
            When it does not.
        """
        if self.model is not None:
            folder = self._folder(self.model)
            if not (folder / "candidate.json").is_file():
                check_folder(folder)
                find_weights(folder)

    def open(self, task: str, context: Context) -> Candidate:
        """Open the model as a candidate; one in Hugging Face's form is brought into ours once.

        Raises
        ------
        DataError
            When it is missing, damaged, or has no head for the task.
        StageError
            When it is the recipe's teacher and there is none.
        """
        if self.model is None:
            if context.teacher is None:
                raise StageError("distil needs a teacher; give the recipe a `teacher`")
            return context.teacher
        folder = self._folder(self.model)
        if (folder / "candidate.json").is_file():
            return Candidate.load(folder)

        def build(into: Path) -> None:
            from edgecompress.training.teacher import import_teacher

            import_teacher(str(folder), task, None, into).save(into)

        key = {"kind": "another teacher", "task": task, "files": model_identity(folder)}
        return Candidate.load(context.cached(key, build))

    @staticmethod
    def _folder(model: str) -> Path:
        folder = at_home(model)
        if not folder.exists():
            check_name(model)
        if not any((folder / name).is_file() for name in ("candidate.json", "config.json")):
            raise DataError(
                "a teacher must be a directory with a candidate.json or a config.json", file=folder
            )
        return folder


@dataclass(frozen=True, eq=False)
class Opened:
    """A teacher and how much it counts for each example.

    Attributes
    ----------
    name : str
        For messages.
    candidate : Candidate
    weights : numpy.ndarray
        float64 (examples,), 0 where it does not teach.
    """

    name: str
    candidate: Candidate
    weights: NDArray[np.float64]


def open_teachers(
    uses: Sequence[TeacherUse],
    student: Candidate,
    examples: Sequence[Example],
    context: Context,
) -> list[Opened]:
    """Open all teachers; what none of them teaches, the recipe's teacher does.

    Parameters
    ----------
    uses : sequence of TeacherUse
        None: the recipe's teacher teaches everything.
    student : Candidate
    examples : sequence of Example
        What the student learns from.
    context : Context

    Raises
    ------
    StageError
        When a teacher is of another task, has other labels, or teaches nothing.
    """
    found: list[Opened] = []
    for use in uses:
        name = f"the teacher {Path(use.model).name}" if use.model else "the teacher"
        candidate = use.open(str(student.task), context)
        _check(name, candidate, student)
        teaches = [not use.sources or example.source in use.sources for example in examples]
        if not any(teaches):
            there = ", ".join(sorted({example.source for example in examples})) or "no file's name"
            raise StageError(
                f"{name} is to teach {', '.join(use.sources)}, and no example comes from there; "
                f"the examples come from {there}"
            )
        found.append(Opened(name, candidate, use.weight * np.array(teaches, dtype=np.float64)))
    total = np.sum([opened.weights for opened in found], axis=0) + np.zeros(len(examples))
    left = (total == 0).astype(np.float64)
    if left.any():
        candidate = TeacherUse().open(str(student.task), context)
        _check("the teacher", candidate, student)
        found.append(Opened("the teacher", candidate, left))
    return found


def _check(name: str, teacher: Candidate, student: Candidate) -> None:
    if teacher.task != student.task:
        raise StageError(f"{name}'s task is {teacher.task}, the student's {student.task}")
    if teacher.labels != student.labels:
        raise StageError(
            f"{name}'s labels ({', '.join(teacher.labels)}) are not the student's "
            f"({', '.join(student.labels)}), in the same order; where they mean the same, name "
            "them so in the model's id2label (config.json)"
        )
    if not takes_examples(teacher):
        raise StageError(f"{name} has no tokenizer")


def model_identity(folder: Path) -> Json:
    """Give digests of all files that are read of a model; of a candidate also what it says."""
    if (folder / "candidate.json").is_file():
        candidate = Candidate.load(folder)
        tokenizer = directory_digests(candidate.preprocessor) if candidate.preprocessor else None
        return {
            "model": model_digests(candidate.model),
            "preprocessor": tokenizer,
            "task": candidate.task,
            "labels": list(candidate.labels),
            **({"ranges": dict(candidate.ranges)} if candidate.ranges else {}),
        }
    return dict(folder_digests(folder))
