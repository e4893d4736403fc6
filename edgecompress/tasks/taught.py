"""What trains a task's models: their class in PyTorch, what they learn, how far two are apart.

`Taught` is the part of `edgecompress.tasks.base.Task` that only stages on PyTorch ask for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from edgecompress.tasks.rows import Row
from edgecompress.values import OnnxModel, Runner


@dataclass(frozen=True, slots=True)
class Output:
    """One thing that a model of a task gives: a tensor by its name, and what it is trained to.

    Attributes
    ----------
    name : str
        In the module's answer and among the graph's outputs.
    kind : {"categorical", "vector"}
        Scores of classes along the last axis, or plain numbers. It says what the loss is, and how
        far a student is from its teacher (`edgecompress.training.losses`).
    target : str
        The right answer among a row's `Row.target`.
    candidates : bool
        Whether a row has such an answer for each of many candidates, whose number only the model
        knows: (rows, candidates, width).
    apart : tuple of str
        The outputs of one shape that graphs of other programs give in its place: along a new last
        axis they are this one.
    """

    name: str = "logits"
    kind: Literal["categorical", "vector"] = "categorical"
    target: str = "labels"
    candidates: bool = False
    apart: tuple[str, ...] = ()


class Taught:
    """What a task says of its models in PyTorch and of their training."""

    auto_class: ClassVar[str]
    """Name of the transformers class that loads a model for it."""
    outputs: ClassVar[tuple[Output, ...]] = (Output(),)
    """What its models give; of the first one answers are read."""
    redraws: ClassVar[bool] = False
    """Whether the head answers at places of a row only, which may be others in each epoch, with a
    score for each piece of the vocabulary: too much to keep, so that a teacher is asked while the
    student trains."""
    marks: ClassVar[tuple[str, ...]] = ()
    """Files by which a folder shows that its model answers it, whatever its class is called."""
    untaught: ClassVar[str] = ""
    """Why the right answers of the data teach a model nothing, where that is so."""
    unchanged: ClassVar[str] = ""
    """Why no stage can change or train its models in PyTorch yet, where that is so."""
    in_parts: ClassVar[bool] = False
    """Whether its models are exported as several graphs, of which `join` makes one that answers."""
    proposed: ClassVar[tuple[Any, ...]] = ()
    """Chains of stages that are tried of its models where no recipe names any; empty: those that
    suit most."""
    tells: ClassVar[bool] = False
    """Whether its models work out their loss themselves, and are `told` what is right."""
    architectures: ClassVar[tuple[str, ...]] = ()
    """Endings of the names of classes whose heads answer it, where `auto_class` does not say it."""
    head_tensors: ClassVar[tuple[str, ...]] = ()
    """Beginnings of the names of tensors that such heads have, in the families described here."""

    def head_class(self, config: Any) -> type | None:
        """Give the class of `transformers.PreTrainedModel` that answers it, by a configuration."""
        import transformers

        mapping = getattr(transformers, self.auto_class)._model_mapping
        found = mapping.get(type(config), None)
        several = found if isinstance(found, tuple | list) else (found,)
        named = next(iter(getattr(config, "architectures", None) or ()), "")
        return next((one for one in several if one and one.__name__ == named), several[0])

    def lacks_head(self, folder: Path) -> str | None:  # noqa: ARG002
        """Say why a folder has no head for it, a part of a sentence, where its class cannot say."""
        return None

    def take_files(self, source: Path, folder: Path) -> None:  # noqa: ARG002
        """Take what else its rows need out of a checkpoint, into the processor's folder."""
        return

    def take_graph(
        self,
        graph: OnnxModel,
        opened: Callable[[], Runner],  # noqa: ARG002
        processor: Any,  # noqa: ARG002
        classes: Sequence[str],  # noqa: ARG002
        folder: Path,  # noqa: ARG002
    ) -> OnnxModel:
        """Make a graph of another program give what is read here, in a new one in `folder`.

        `opened` opens the graph, so that it can be asked what it gives.
        """
        return graph

    def complete(self, config: Any, source: Path) -> None:  # noqa: ARG002
        """Put into a checkpoint's configuration what its model needs of the files beside it."""
        return

    def models(self) -> tuple[type, ...]:
        """Give classes that answer it and that transformers lacks, each with its configuration's.

        Subclasses of `transformers.PreTrainedModel` with a ``config_class``, loaded as its own are.
        """
        return ()

    @property
    def head_classes(self) -> tuple[str, ...]:
        """Endings of the names of classes whose heads answer it."""
        return self.architectures or (self.auto_class.removeprefix("AutoModel"),)

    def joint_target(self, example: Any) -> Mapping[str, Any]:  # noqa: ARG002
        """Give what all rows of an example should teach together, where none does so alone.

        Returns
        -------
        mapping of str to ndarray
            The right answers of `loss`, of one shape for all examples; empty: nothing is known.
        """
        return {}

    def loss(self, outputs: Any, targets: Mapping[str, Any]) -> Any | None:  # noqa: ARG002
        """Give the loss of a batch, where the kinds of the `outputs` do not say it; here they do.

        Parameters
        ----------
        outputs : mapping of str to torch.Tensor
            The module's answer, (batch, …) each.
        targets : mapping of str to torch.Tensor
            The rows' targets, padded along their first axis with `IGNORED` or NaN.

        Returns
        -------
        torch.Tensor or None
        """
        return None

    def told(self, targets: Mapping[str, Any]) -> Mapping[str, Any]:  # noqa: ARG002
        """Give what a module is told in training beside its inputs, where it `tells` them.

        Parameters
        ----------
        targets : mapping of str to torch.Tensor
            As `loss` is given them.
        """
        return {}

    def distance(self, student: Any, teacher: Any) -> Any | None:  # noqa: ARG002
        """Give how far a student's answers are from its teacher's, where their kind says it not.

        Parameters
        ----------
        student, teacher : torch.Tensor
            Of the first output, float (answers, width), or (rows, candidates, width) where it has
            `Output.candidates`; the distances are float (answers,) or (rows,).
        """
        return None

    def redrawn(self, row: Row, processor: Any, random: Any, settings: Any) -> Row:  # noqa: ARG002
        """Give a row as an epoch of training asks it, where `redraws`; here as it is.

        `random` is a `numpy.random.Generator` of this row in this epoch, `settings` a
        `training.masking_fields.Masking`.
        """
        return row
