"""The fields by which a stage is told what to run a model on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from edgecompress.errors import DataError
from edgecompress.quantization.observe.calibration_data import CalibrationData, example_data
from edgecompress.reading import at_home
from edgecompress.stage import Context, Stage
from edgecompress.tables import SUFFIXES
from edgecompress.values import Candidate, Json, OnnxModel

PART_DATA = (".npz", "", ".npy", ".txt", *SUFFIXES)
"""How the samples of a part of a model may end, after its name."""


class InputFiles(Stage):
    """Fields of stages whose result is compared with the fp32 model on inputs that are given."""

    inputs: str | None = None
    """Run files of inputs instead of examples, for any graph: an ``.npz`` (arrays named as the
    inputs, first axis samples), a folder of ``.npz``, ``.npy`` or images, or texts (``.txt``,
    ``.csv``, ``.tsv``, ``.jsonl``, ``.parquet``)."""
    preprocessor: str | None = None
    """For `inputs`: a folder with the tokenizer of texts, or the ``preprocessor_config.json`` of
    images; by default the candidate's own."""

    @model_validator(mode="after")
    def _reads_something(self) -> Self:
        if self.preprocessor and not self.inputs:
            raise ValueError("preprocessor says how to read inputs; give inputs, too")
        return self

    def for_part(self, name: str) -> Self:
        """Take the part's own samples: a file or a folder of its name in the folder `inputs`."""
        if self.inputs is None or not at_home(self.inputs).is_dir():
            return self
        found = [at_home(self.inputs) / f"{name}{suffix}" for suffix in PART_DATA]
        there = next((place for place in found if place.exists()), None)
        if there is None:
            raise DataError(
                f"there are no samples for the part {name!r}; put {name}.npz, or a folder {name}, "
                "there",
                file=Path(self.inputs),
            )
        return self.model_copy(update={"inputs": str(there)})

    def check_inputs(self) -> None:
        """Check that the files are there.

        Raises
        ------
        DataError
            When one is missing or malformed.
        """
        if self.inputs:
            place = at_home(self.inputs)
            if not place.exists():
                raise DataError("there is no such calibration data", file=Path(self.inputs))
            if not (place.is_file() or place.is_dir()):
                raise DataError("is neither a file nor a folder", file=Path(self.inputs))

    def identity(self) -> Json:
        """Give the parameters with digests in the place of names: what files hold matters."""
        found: dict[str, Any] = self.model_dump(mode="json")
        if self.inputs:
            from edgecompress.models.samples import samples_digest

            self.check_inputs()
            found["inputs"] = samples_digest(at_home(self.inputs), self._folder())
            found["preprocessor"] = None
        return found

    def given_data(
        self, candidate: Candidate, source: OnnxModel, limit: int | None = None
    ) -> CalibrationData:
        """Give the samples of `inputs`, at most `limit`.

        Raises
        ------
        DataError
            When files are missing or malformed.
        """
        from edgecompress.models.graph import signature
        from edgecompress.models.samples import open_samples

        folder = self._folder() or candidate.preprocessor
        found = open_samples(at_home(str(self.inputs)), signature(source), folder)
        key: Json = {"inputs": found.digest(), "limit": limit}
        return CalibrationData(key, found.count(limit), lambda: found.feeds(limit))

    def _folder(self) -> Path | None:
        return at_home(self.preprocessor) if self.preprocessor else None


class NamedCalibration(Stage):
    """The field of stages that run a model on training examples."""

    calibration: str | None = None
    """A calibration set by name, or the path of its YAML file; without one, examples of the
    training set at random."""

    def check_inputs(self) -> None:
        """Check that the calibration set is there.

        Raises
        ------
        DataError
            When it is missing or malformed.
        """
        from edgecompress.data.calibration import load_calibration

        if self.calibration:
            load_calibration(self.calibration)
        super().check_inputs()

    def identity(self) -> Json:
        """Give the parameters with the calibration set's digest in its name's place."""
        from edgecompress.data.calibration import load_calibration

        found = super().identity()
        if self.calibration:
            found["calibration"] = load_calibration(self.calibration).digest
        return found


class CalibrationFields(NamedCalibration, InputFiles):
    """Fields of stages that run a model on examples, or on files of inputs."""

    samples: int | None = Field(default=None, ge=1)
    """How many examples to run; by default what the calibration set says, or 128; of `inputs` all,
    or the first so many."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if self.inputs and self.calibration:
            raise ValueError("calibration chooses examples, and inputs are files; give one of them")
        return self

    def reads_examples(self) -> bool:
        """Whether samples come from examples: not where files of inputs are given."""
        return self.inputs is None

    def calibration_data(
        self, candidate: Candidate, source: OnnxModel, context: Context
    ) -> CalibrationData:
        """Give the samples that the fields mean.

        Parameters
        ----------
        candidate : Candidate
            Whose preprocessor and task encode examples.
        source : OnnxModel
            What the samples are for.
        context : Context

        Raises
        ------
        StageError
            When there are no examples, or nothing to encode them with.
        DataError
            When files of inputs, or the calibration set, are missing or malformed.
        """
        from edgecompress.models.graph import signature

        if self.inputs:
            return self.given_data(candidate, source, self.samples)
        name, specs = self.stage_name(), signature(source)
        return example_data(name, self.calibration, self.samples, candidate, context, specs)
