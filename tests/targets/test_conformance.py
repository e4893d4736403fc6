"""`check_target`: ours keep the contract, the page's does, and each broken promise is named."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
import pytest

from edgecompress.errors import TargetError
from edgecompress.targets import (
    Job,
    Readings,
    Target,
    TargetReport,
    TargetSpec,
    conformance,
    report_of,
)
from edgecompress.targets.base import Progress
from edgecompress.targets.conformance import check_target
from edgecompress.targets.kinds.local import LocalSpec
from edgecompress.values import Json, OnnxModel

PAGE = (Path(__file__).parents[2] / "docs" / "targets.md").read_text(encoding="utf-8")


def test_this_machine_keeps_the_contract() -> None:
    found = check_target(LocalSpec(name="here", url="local"), clean=True)
    measured = {one.metric for one in found}
    assert {"latency_p50", "throughput", "operator_time", "peak_memory"} <= measured
    assert {one.target for one in found} == {"here"}


def test_the_kind_of_the_page_keeps_the_contract(tmp_path: Path) -> None:
    code = re.findall(r"```python\n# their_targets.py\n(.*?)```", PAGE, re.DOTALL)[0]
    file = tmp_path / "their_targets.py"
    file.write_text(code)
    found = importlib.util.spec_from_file_location("their_targets", file)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["their_targets"] = module
    try:
        found.loader.exec_module(module)
        spec = module.WrappedSpec(name="small", url="wrapped://small", command=("nice", "-n", "1"))
        assert {"latency", "ms"} & {one.unit for one in check_target(spec, clean=True)}
    finally:
        del sys.modules["their_targets"]


class Here(TargetSpec):
    """This process; `fault` says which promise it breaks."""

    form: ClassVar[str] = "here://x"
    title: ClassVar[str] = "this process"

    fault: str = ""

    def open(self) -> Target:
        return Process(self)

    def check(self) -> TargetReport:
        found = report_of(self, self.open(), {"cpu": "this"})
        cans = {"claims more when checked": ("answers", "latency"), "silent": ("answers",)}
        return replace(found, can=cans.get(self.fault, found.can))

    def prepare(self, progress: Progress) -> str:
        return "nothing"

    def clean(self) -> str:
        return "removed 3 kB" if self.fault == "never clean" else "nothing was left there"


@dataclass
class Process:
    """Answers in this process."""

    spec: Here
    on_host: bool = True
    samples: int | None = None
    runs: int = 0

    @property
    def name(self) -> str:
        return "another" if self.spec.fault == "another name" else self.spec.name

    @property
    def metrics(self) -> frozenset[str]:
        more = {"claims nonsense": {"speed"}}
        more |= {fault: {"instructions"} for fault in ("silent", "claims what it cannot")}
        return frozenset({"answers"} | more.get(self.spec.fault, set()))

    def describe(self) -> Json:
        return {"cpu": np.int64(3) if self.spec.fault == "no JSON" else "this"}

    def fingerprint(self) -> str:
        self.runs += 1
        return str(self.runs if self.spec.fault == "new fingerprint" else 0)

    def run(self, job: Job, folder: Path, progress: Progress | None = None) -> Readings:
        import onnxruntime as ort

        fault = self.spec.fault
        if job.mode != "answers":
            if fault == "times all the same":
                return Readings()
            raise TargetError(f"{self.name}: nothing but answers")
        outputs = []
        for entry in job.models:
            assert isinstance(entry.model, OnnxModel)
            session = ort.InferenceSession(str(entry.model.path))
            arrays = job.feeds[entry.feeds].arrays
            rows = [
                dict(zip(arrays, row, strict=True)) for row in zip(*arrays.values(), strict=True)
            ]
            try:
                given = [session.run(None, row)[0] for row in rows]
            except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises
                if fault == "swallows failures":
                    return Readings(outputs=((),))
                text = "it failed" if fault == "nameless" else f"{self.name}: it failed"
                text += "\n" if fault == "many lines" else ""
                raise TargetError(f"{text} {type(error).__name__}") from None
            if fault == "nearly right":
                given = [given[0] * np.float32(1.0000001), *given[1:]]
            if fault == "one row less":
                given = given[:-1]
            outputs.append((given,))
        if progress is not None:
            progress(2.0 if fault == "beyond the end" else 1.0, 1.0, "")
        return Readings(outputs=tuple(outputs[:1] if fault == "one model" else outputs))

    def close(self) -> None:
        pass


def test_a_target_that_only_answers_keeps_the_contract() -> None:
    assert check_target(Here(name="this", url="here://x"), clean=True) == ()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("another name", "is called this in its specification"),
        ("claims nonsense", "claims speed; there are"),
        ("claims more when checked", "when it is checked"),
        ("no JSON", "what is no JSON"),
        ("new fingerprint", "a fingerprint that changes"),
        ("silent", "no finding that says why"),
        ("claims what it cannot", "nothing but answers"),
        ("swallows failures", "readings of a job that cannot be done"),
        ("nameless", "does not name itself"),
        ("many lines", "in several lines"),
        ("nearly right", "other answers than this machine"),
        ("one row less", "other answers than this machine"),
        ("one model", "other models than asked"),
        ("beyond the end", "progress beyond its end"),
        ("times all the same", "claims no latency, and"),
        ("never clean", "cleans twice"),
    ],
)
def test_each_broken_promise_is_named(fault: str, said: str) -> None:
    spec = Here(name="this", url="here://x", fault=fault)
    with pytest.raises(TargetError, match=re.escape(said)):
        check_target(spec, clean=True)


def test_a_url_of_another_form() -> None:
    with pytest.raises(TargetError, match="does not look like here://x"):
        check_target(Here(name="this", url="ssh://x"))


@pytest.fixture
def left() -> Iterator[subprocess.Popen[bytes]]:
    """A program that looks like an agent whose target forgot it."""
    command = [sys.executable, "-c", "import time; time.sleep(600)", "agent.pyz"]
    with subprocess.Popen(command) as process:
        yield process
        process.kill()


def test_an_agent_that_is_left_behind(
    left: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conformance, "LATE_S", 0.2)
    assert psutil.pid_exists(left.pid)
    with pytest.raises(TargetError, match="leaves an agent behind"):
        check_target(Here(name="this", url="here://x"))


def test_an_emulated_machine_whose_times_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real machine says that it is emulated, and its readings do not."""
    spec = LocalSpec(name="here", url="local")
    described: Any = {**spec.open().describe(), "emulated": True}
    monkeypatch.setattr("edgecompress.targets.local.Local.describe", lambda _: described)
    with pytest.raises(TargetError, match="is emulated, and its latency_p50"):
        check_target(spec)
