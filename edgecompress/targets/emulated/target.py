"""The target: the agent under QEMU's user mode emulation."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from edgecompress.errors import TargetError
from edgecompress.targets.archive import agent_archive
from edgecompress.targets.base import Job, Progress, Readings
from edgecompress.targets.emulated import debian, plugin
from edgecompress.targets.emulated.cpus import Cpu, find_cpu
from edgecompress.targets.emulated.setup import emulation_folder, prepare
from edgecompress.targets.process import agent_environment, run_agent
from edgecompress.targets.running import run_job
from edgecompress.targets.size import model_files
from edgecompress.targets.spec import TargetFields
from edgecompress.values import Json, OnnxModel, json_digest

SAMPLES = 200
"""Examples that it answers unless its specification says otherwise: emulation is slow."""
MODES = ("answers", "instructions")


@dataclass(frozen=True, slots=True)
class Emulated:
    """A processor of `edgecompress.targets.emulated.CPUS`.

    It is prepared when it is first needed. Emulated instructions take a time that says nothing of
    a real processor's, so it answers and counts, and refuses to time.

    Attributes
    ----------
    name : str
        As recipes and measurements write it.
    cpu : Cpu
    samples : int or None
        How many examples it is asked to judge its accuracy.
    """

    name: str
    cpu: Cpu
    metrics: frozenset[str] = frozenset({"answers", "instructions"})
    samples: int | None = SAMPLES
    on_host: bool = True
    emulated: bool = True

    @classmethod
    def of(cls, spec: TargetFields) -> Emulated:
        """Give the target that a specification means; nothing is prepared yet.

        Raises
        ------
        RecipeError
            When there is no such processor; the text names the nearest.
        """
        return cls(name=spec.name, cpu=find_cpu(spec.url), samples=spec.samples or SAMPLES)

    def describe(self) -> Json:
        """Describe the emulated machine; memory and kernel are the host's.

        Raises
        ------
        TargetError
            When it cannot be prepared or does not run.
        """
        now = prepare(self.cpu.url)
        command = [*now.emulate(), *now.python(), str(agent_archive()), "describe"]
        said = debian.run(_alone(now.environment(), command), f"{self.name}: describing it")
        found: Json = json.loads(said.splitlines()[-1])
        return {**found, "cpu": f"{self.cpu.title}, emulated", "emulated": True}

    def fingerprint(self) -> str:
        """Digest of processor, emulator, and the versions of the root's packages and wheels."""
        return json_digest(prepare(self.cpu.url).versions())

    def not_measured(self, metric: str) -> str | None:
        """Say why a metric cannot be measured here, or None if it can.

        Raises
        ------
        TargetError
            When the target cannot be prepared.
        """
        if metric == "instructions":
            return prepare(self.cpu.url).reason
        return None if metric in self.metrics else _refusal(metric)

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        """Run `job` of the mode ``answers`` or ``instructions``.

        Raises
        ------
        TargetError
            When the mode would time, the target cannot be prepared, instructions cannot be
            counted here, or the agent fails.
        """
        if job.mode not in MODES:
            raise TargetError(f"{self.name}: {_refusal(job.mode)}")
        if not all(isinstance(entry.model, OnnxModel | None) for entry in job.models):
            raise TargetError(f"{self.name}: only ONNX models run here; export the model first")
        now = prepare(self.cpu.url, progress)
        if job.mode == "instructions" and now.plugin is None:
            raise TargetError(f"{self.name}: instructions are not measured: {now.reason}")
        return run_job(job, folder, self, progress)

    def carry(self, files: tuple[Path, ...], progress: Progress | None) -> str:  # noqa: ARG002
        """Give the path of the first of `files`, which the emulated program finds as it is."""
        return str(files[0].resolve())

    def launch(self, folder: Path, job: Job, progress: Progress | None) -> None:
        """Run the agent on `folder` under emulation, in an environment that is always the same."""
        now = prepare(self.cpu.url, progress)
        environment = now.environment() | agent_environment(job)
        environment["EDGECOMPRESS_DIE_WITH_PARENT"] = "1"
        program = [*now.python(), str(agent_archive())]
        if job.mode != "instructions":
            command = _alone(environment, [*now.emulate(), *program, str(folder)])
            run_agent(command, {}, folder, job, self.name, progress)
            return
        with counting_place(folder, job) as place:
            environment[plugin.COUNTS] = "counts.jsonl"
            (place / environment[plugin.COUNTS]).write_bytes(b"")
            command = [*now.emulate(counting=True), *program, "."]
            command = _alone(environment, command, place)
            run_agent(command, {}, folder, job, self.name, progress)
            shutil.move(place / "readings.json", folder / "readings.json")

    def close(self) -> None:
        """Nothing is kept open."""


def _refusal(what: str) -> str:
    return (
        f"{what} is not measured under emulation, where wall time and memory mean nothing; it "
        f"gives {' and '.join(MODES)}"
    )


def _alone(
    environment: Mapping[str, str], command: list[str], folder: Path | None = None
) -> list[str]:
    """Put a command into `environment` and nothing else, and into a working directory."""
    place = [] if folder is None else [f"--chdir={folder}"]
    return [
        "env",
        "-i",
        *place,
        *(f"{key}={value}" for key, value in environment.items()),
        *command,
    ]


@contextlib.contextmanager
def counting_place(folder: Path, job: Job) -> Iterator[Path]:
    """Lay a job out in a place that is the same each time; one job is in it at a time.

    A path's length moves what Python and ONNX Runtime allocate, and with the addresses the number
    of instructions in their caches: some 0.1 %. Two runs in different folders shall count the
    same.

    Parameters
    ----------
    folder : Path
        With the job's files as `edgecompress.targets.jobs.write_job` wrote them.
    job : Job

    Yields
    ------
    Path
        A folder with the same job, and the models in it.
    """
    from filelock import FileLock

    base = emulation_folder()
    place = base / "counting"
    with FileLock(base / ".counting.lock"):
        shutil.rmtree(place, ignore_errors=True)  # of one that was killed
        place.mkdir()
        try:
            document = json.loads((folder / "job.json").read_text(encoding="utf-8"))
            for index, (entry, model) in enumerate(
                zip(document["models"], job.models, strict=True)
            ):
                entry["tokenizer"] = None
                if isinstance(model.model, OnnxModel):
                    graph, *data = model_files(model.model)
                    entry["path"] = f"model-{index}/model.onnx"
                    _lend(graph, place / entry["path"])
                    for file in data:
                        within = os.path.relpath(file, graph.parent)
                        _lend(file, place / f"model-{index}" / within)
            text = json.dumps(document, ensure_ascii=False)
            (place / "job.json").write_text(text, encoding="utf-8")
            _lend(folder / "inputs.npz", place / "inputs.npz")
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def _lend(file: Path, place: Path) -> None:
    """Have `file` at `place` too, without a copy where the disk is the same."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file.resolve(), place)
    except OSError:  # another disk, or one without links
        shutil.copyfile(file, place)
