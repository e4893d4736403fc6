"""Choose on validation data how answers are read from what a model gives.

The file of the model stays as it is: what was chosen stands among the files of its processor, and
travels with it into a bundle. Last of a chain, it is chosen for the model as it is deployed.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from edgecompress.errors import DataError, StageError
from edgecompress.stage import Context, Decisions, Kind, Transform
from edgecompress.values import Candidate, OnnxModel, Step


class Answers(Transform):
    """Choose on validation data how answers are read, such as when a question has none."""

    also_called: ClassVar[tuple[str, ...]] = ("threshold", "no_answer")
    accepts: ClassVar[tuple[Kind, ...]] = (OnnxModel,)
    yields: ClassVar[Kind] = OnnxModel
    needs_data: ClassVar[bool] = True

    target: str = "local"
    """Where the model answers, as the recipe names it."""

    def check_task(self, name: str) -> None:
        """Refuse a task whose answers can be read in one way only."""
        from edgecompress.tasks import task
        from edgecompress.tasks.base import Task

        if type(task(name)).tuned is Task.tuned:
            raise DataError(f"answers of {name} are read in one way; leave tune.answers out")

    @classmethod
    def tell(cls, step: Step) -> str:
        """Say what was chosen."""
        settings = step.decisions.get("settings")
        if not isinstance(settings, Mapping):
            return ""
        said = ", ".join(f"{name} {value}" for name, value in settings.items())
        return f"Chose on validation data how answers are read: {said}."

    def decide(self, candidate: Candidate, context: Context) -> Decisions:
        """Ask the model the validation examples, and choose by its answers.

        Raises
        ------
        StageError
            When its task has nothing to choose.
        DataError
            When there are no validation examples, or nobody has answered them.
        """
        from edgecompress.targets.accuracy import answers
        from edgecompress.tasks import task

        if candidate.task is None:
            raise StageError("tune.answers: nothing says what the model answers; name its task")
        if not context.validation:
            raise DataError("tune.answers chooses by validation examples, and there are none: give "
                            "`validation` in `data`")  # fmt: skip
        self.check_task(candidate.task)
        examples = context.validation
        said = answers(candidate, examples, context.target(self.target), context.progress)
        found: Any = task(candidate.task).tuned(said, examples)
        measured = {name: found[name] for name in ("before", "after")}
        return Decisions({"settings": found["settings"]}, measured)

    def make(self, candidate: Candidate, decisions: Decisions, context: Context) -> Candidate:
        """Write the model as it is, and the processor's files with what was chosen."""
        from edgecompress.models.inputs import onnx_model
        from edgecompress.models.storage import read_model, write_model
        from edgecompress.processors import processor_class
        from edgecompress.tasks import task

        folder = context.folder / "preprocessor"
        if candidate.preprocessor is None or candidate.task is None:
            raise StageError("tune.answers: the model has no files of a processor")
        shutil.copytree(candidate.preprocessor, folder)
        kind = processor_class(task(candidate.task).processor)
        kind.settle(decisions.record["settings"], folder)
        source = onnx_model(candidate)
        model = OnnxModel(context.folder / "model" / "model.onnx", source.session)
        model.directory.mkdir(parents=True)
        write_model(read_model(source.path), model.path)
        return replace(candidate.with_model(model), preprocessor=folder)
