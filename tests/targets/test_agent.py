"""The agent, run as the lone file that it is, on real ONNX models."""

from __future__ import annotations

import ast
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from quantized_models import two_layers
from systems import PI5_PMIC, PI5_WATTS, System

from edgecompress.targets import agent
from edgecompress.targets.agent.arrays import Feed, pack, read_items, unpack
from edgecompress.targets.agent.loop import _rounds, warm_up
from edgecompress.targets.agent.operators import summed
from edgecompress.targets.agent.sensors import memory_bytes
from edgecompress.targets.agent.sessions import Null
from edgecompress.targets.archive import agent_archive
from edgecompress.targets.base import Feeds, Job, JobModel, feeds_from_rows
from edgecompress.targets.jobs import write_job as _write_job
from edgecompress.values import Candidate, OnnxModel


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


ROW = {"input_ids": np.array([[2, 4, 5, 3]]), "attention_mask": np.ones((1, 4), np.int64)}
SHORT = {"input_ids": np.array([[2, 3]]), "attention_mask": np.ones((1, 2), np.int64)}


def run(folder: Path, beside: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a copy of the agent's file that has no package around it."""
    alone = (beside or folder.parent) / "alone" / "agent.pyz"
    alone.parent.mkdir(exist_ok=True)
    shutil.copy(agent_archive(), alone)
    return subprocess.run(
        [sys.executable, "-P", str(alone), str(folder)], capture_output=True, text=True, check=False
    )


def write_job(job: Job, folder: Path) -> None:
    _write_job(job, folder, lambda files: str(files[0]))


def time_job(*models: JobModel, rows: int = 3, **fields: object) -> Job:
    feeds = feeds_from_rows([ROW] * rows, range(rows))
    quick = {"warmup_ms": 1.0, "max_warmup_ms": 50.0, "min_duration_ms": 20.0, "min_count": 12,
             "timeout_s": 60.0}  # fmt: skip
    return Job("time", models, (feeds,), **{**quick, **fields})  # type: ignore[arg-type]


def test_it_imports_the_standard_library_numpy_onnxruntime_and_tokenizers_only() -> None:
    names = set()
    for file in Path(str(agent.__file__)).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                module = str(node.module)
                own = module.startswith("edgecompress.targets.agent")
                names.add("agent" if own else module.partition(".")[0])
    assert names - sys.stdlib_module_names == {"agent", "numpy", "onnxruntime", "tokenizers"}


def test_telemetry_is_off_before_onnxruntime_is_imported() -> None:
    code = (
        "import os, sys, edgecompress.targets.agent.sessions;"
        "print(os.environ['ORT_DISABLE_TELEMETRY'], 'onnxruntime' in sys.modules)"
    )
    clean = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=clean
    )
    assert said.stdout.split() == ["1", "False"]


@given(
    st.integers(0, 3).flatmap(
        lambda rank: st.lists(
            array_shapes(min_dims=rank, max_dims=rank, min_side=0, max_side=4).flatmap(
                lambda shape: arrays(np.int64, shape)
            ),
            min_size=1,
            max_size=6,
        )
    )
)
def test_packing_keeps_arrays_of_any_shape(values: list[np.ndarray]) -> None:
    packed = pack("x", values)
    back = unpack("x", packed)
    assert [found.shape for found in back] == [value.shape for value in values]
    assert all(np.array_equal(*pair) for pair in zip(back, values, strict=True))


def test_packing_nothing() -> None:
    assert unpack("x", pack("x", [])) == []


def test_answers_are_those_of_onnxruntime(tagger: Candidate, tmp_path: Path) -> None:
    model = tagger.model
    assert isinstance(model, OnnxModel)
    feeds = feeds_from_rows([ROW, SHORT, SHORT], [0, 0, 1])
    folder = tmp_path / "job"
    write_job(Job("answers", (JobModel(model),), (feeds,)), folder)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "outputs-0.npz") as stored:
        given_back = unpack("0", dict(stored))
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    for row, logits in zip((ROW, SHORT, SHORT), given_back, strict=True):
        assert np.array_equal(session.run(["logits"], row)[0], logits)
    assert not list(folder.glob("*.part"))


def test_models_are_timed_in_turns(tagger: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    job = time_job(JobModel(tagger.model), JobModel(tagger.model), JobModel(None))
    write_job(job, folder)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "readings.json").read_text())["time"]
    count = len(found["items"])
    assert count >= 12
    assert count % 3 == 0  # whole passes over the three inputs
    assert found["items"] == [k % 3 for k in range(count)]
    assert [len(ns) for ns in found["ns"]] == [count] * 3
    assert found["around_ns"] == [None] * 3
    assert found["duration_ms"] >= 20
    assert np.median(found["ns"][2]) < np.median(found["ns"][0])  # nothing takes less than a model
    for when in ("before", "after"):
        assert {"load_average", "frequency_mhz", "governor", "temperature_c"} <= set(found[when])


def readings(job: Job, folder: Path) -> dict[str, Any]:
    write_job(job, folder)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "readings.json").read_text())
    return found


def test_warm_up_goes_on_until_it_is_stable_or_has_lasted_too_long(tmp_path: Path) -> None:
    class Settling:
        """Takes long at first and a steady time later on."""

        dtypes: dict[str, np.dtype] = {}  # noqa: RUF012

        def __init__(self, unsteady: int) -> None:
            self.left, self.calls = unsteady, 0

        def __call__(self, feed: Feed, /) -> tuple[np.ndarray, ...]:
            self.left, self.calls = self.left - 1, self.calls + 1
            time.sleep(min(0.005 * 1.5 ** min(max(self.left, 0), 20), 0.3))
            return ()

    def warm(unsteady: int, max_warmup_ms: float) -> dict[str, Any]:
        rows: list[list[Feed]] = [[{}]] * 2
        job = {"warmup_ms": 1.0, "max_warmup_ms": max_warmup_ms}
        return warm_up([Settling(unsteady), Null()], [rows, rows], [None, None], job)

    steady = warm(0, 60000.0)
    assert steady["stable"]
    later = warm(10, 60000.0)
    assert later["stable"]
    assert later["rounds"] > 10
    never = warm(10**6, 1.0)
    assert not never["stable"]
    assert never["rounds"] == 2


def test_the_harness_alone_needs_no_warm_up() -> None:
    rows: list[list[Feed]] = [[{}]]
    assert warm_up([Null()], [rows], [None], {"warmup_ms": 0, "max_warmup_ms": 0})["stable"]


def test_warm_up_and_the_clock_are_recorded(
    tagger: Candidate, tmp_path: Path, system: System
) -> None:
    system.core(cpufreq__scaling_cur_freq=1_700_000, cpufreq__scaling_governor="performance")
    job = time_job(JobModel(tagger.model), min_duration_ms=1300.0)
    found = readings(job, tmp_path / "job")["time"]
    assert found["warmup"]["rounds"] >= 2
    assert found["frequencies_mhz"] == [1700.0] * 3  # at the start, and twice in 1.3 s
    assert found["before"]["governor"] == "performance"
    assert found["energy"] is None


def test_energy_is_read_around_the_loop(tagger: Candidate, tmp_path: Path, system: System) -> None:
    system.vcgencmd(pmic_read_adc=PI5_PMIC)
    job = time_job(JobModel(tagger.model), min_duration_ms=600.0, energy=True)
    found = readings(job, tmp_path / "job")["time"]["energy"]
    seconds = found["end_s"] - found["start_s"]
    assert seconds >= 0.6
    assert found["meters"]["pmic"]["joules"] == pytest.approx(PI5_WATTS * seconds, rel=0.05)


def test_a_process_is_bound_to_its_cores(tagger: Candidate, tmp_path: Path) -> None:
    core = max(os.sched_getaffinity(0))
    found = readings(time_job(JobModel(tagger.model), affinity=(core,)), tmp_path / "job")
    assert found["time"]["before"]["cores"] == 1


def test_a_core_that_is_not_there(tagger: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    write_job(time_job(JobModel(tagger.model), affinity=(4095,)), folder)
    done = run(folder)
    assert done.returncode
    assert "there is no core 4095 for this process; affinity may name 0" in done.stderr


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("job.json", None, "No such file"),
        ("job.json", b"{", "JSONDecodeError"),
        ("job.json", b"\xff", "UnicodeDecodeError"),
        ("job.json", b"[]", "TypeError"),
        ("job.json", b'{"mode": "sing"}', "mode 'sing', and there are time, answers"),
        ("job.json", b'{"mode": "time", "threads": 1}', "'models'"),
        ("inputs.npz", None, "No such file"),
        ("inputs.npz", b"", "EOFError"),
        ("inputs.npz", b"none", "not the arrays of a job"),
        ("inputs.npz", b"PK\x03\x04none", "BadZipFile"),
        ("inputs.npz", 200, "BadZipFile"),
    ],
)
def test_a_damaged_job(
    file: str, content: bytes | int | None, said: str, tagger: Candidate, tmp_path: Path
) -> None:
    folder = tmp_path / "job"
    write_job(time_job(JobModel(tagger.model)), folder)
    whole = (folder / file).read_bytes()
    (folder / file).unlink()
    if content is not None:
        (folder / file).write_bytes(whole[:content] if isinstance(content, int) else content)
    done = run(folder)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{folder / file} is missing or damaged")
    assert said in line
    assert not list(folder.glob("readings*"))


def test_inputs_of_another_job(tagger: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    write_job(time_job(JobModel(tagger.model)), folder)
    np.savez(folder / "inputs.npz", x=np.zeros(1))
    done = run(folder)
    assert done.returncode == 1
    assert "inputs.npz is missing or damaged (KeyError" in done.stderr


def test_describe_says_what_this_machine_is(tmp_path: Path) -> None:
    done = run(Path("describe"), beside=tmp_path)
    assert done.returncode == 0
    said = json.loads(done.stdout)
    assert said["libraries"]["onnxruntime"] == ort.__version__
    assert said["cores"] == len(os.sched_getaffinity(0))
    assert said["bits"] == 64
    assert not said["emulated"]


def test_without_the_arena_memory_goes_back(tagger: Candidate, tmp_path: Path) -> None:
    job = time_job(JobModel(tagger.model), arena=False)
    assert readings(job, tmp_path / "job")["time"]["items"]


def test_operators_take_the_time_of_the_model(tmp_path: Path) -> None:
    model = two_layers(tmp_path).model
    rows = [{"x": np.ones((k, 32), np.float32)} for k in (1, 2, 3)]
    job = Job("operators", (JobModel(model),), (feeds_from_rows(rows, range(3)),))
    (found,) = readings(job, tmp_path / "job")["operators"]
    assert found["inferences"] == 9  # three inputs, three times
    nodes = {node["name"]: node for node in found["nodes"]}
    assert nodes["integer"]["op"] == "DynamicQuantizeMatMul"
    assert nodes["kept"]["inputs"][0] == "float"
    assert {node["calls"] for node in nodes.values()} == {9}
    times = [node["ns"] for node in found["nodes"]]
    assert times == sorted(times, reverse=True)
    assert not list((tmp_path / "job").glob("profile*"))


def event(name: str, op: str, ts: int, dur: int, **args: object) -> dict[str, Any]:
    described = {"op_name": op, "provider": "CPUExecutionProvider", **args}
    return {
        "cat": "Node", "name": f"{name}_kernel_time", "ts": ts, "dur": dur, "tid": 1,
        "args": described,
    }  # fmt: skip


def test_a_node_with_a_graph_of_its_own_does_not_count_twice() -> None:
    events = [
        {"cat": "Session", "name": "model_run", "ts": 0, "dur": 5},
        event("early", "Add", 1, 3),
        {"cat": "Session", "name": "model_run", "ts": 10, "dur": 200},
        event("inner", "MatMul", 20, 30, input_type_shape=[{"float": [1, 2]}, {"int8": [2]}]),
        event("inner", "MatMul", 60, 20),
        event("loop", "Loop", 15, 100),
        event("after", "Add", 120, 5),
    ]
    found = {node["name"]: node for node in summed(events, skip=1)}
    assert set(found) == {"loop", "inner", "after"}
    assert (found["inner"]["ns"], found["inner"]["calls"]) == (50_000, 2)
    assert found["inner"]["inputs"] == ["float", "int8"]
    assert found["loop"]["ns"] == 50_000  # what is left of 100 µs
    assert sum(node["ns"] for node in found.values()) == 105_000


def test_a_loop_ends_at_its_maximum_duration(tagger: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    write_job(time_job(JobModel(tagger.model), min_count=10**9, max_duration_ms=50.0), folder)
    assert run(folder).returncode == 0
    assert json.loads((folder / "readings.json").read_text())["time"]["items"]


def test_tokenization_is_timed_apart(tagger: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    assert tagger.preprocessor is not None
    tokenizer = tagger.preprocessor / "tokenizer.json"
    job = time_job(
        JobModel(tagger.model, tokenizer=tokenizer, max_length=12),
        JobModel(None),
        texts=(("muhammadu", "buhari"), "a text of many words " * 20, ""),
    )
    write_job(job, folder)
    done = run(folder)
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "readings.json").read_text())["time"]
    assert len(found["around_ns"][0]) == len(found["items"])
    assert min(found["around_ns"][0]) > 0
    assert found["covers"] == ["tokenizer, model", None]
    assert found["around_ns"][1] is None


def test_a_cold_start_loads_once_and_knows_its_memory(tagger: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    write_job(Job("cold", (JobModel(tagger.model),), (feeds_from_rows([ROW], [0]),)), folder)
    assert run(folder).returncode == 0
    found = json.loads((folder / "readings.json").read_text())["cold"]
    assert found["load_ns"] > 0
    assert found["first_ns"] > 0
    assert found["peak_bytes"] > found["bare_bytes"] > 1_000_000


def test_a_model_is_given_its_inputs_in_its_dtypes(tagger: Candidate, tmp_path: Path) -> None:
    folder = tmp_path / "job"
    narrow = {name: value.astype(np.int32) for name, value in ROW.items()}
    more = narrow | {"token_type_ids": np.zeros((1, 4), np.int32)}
    write_job(Job("answers", (JobModel(tagger.model),), (feeds_from_rows([more], [0]),)), folder)
    done = run(folder)
    assert done.returncode == 0, done.stderr


class Recorder:
    """A model that notes who ran when."""

    dtypes: dict[str, np.dtype] = {}  # noqa: RUF012

    def __init__(self, name: int, said: list[int]) -> None:
        self.name, self.said = name, said

    def __call__(self, feed: Feed, /) -> tuple[np.ndarray, ...]:
        self.said.append(self.name)
        return ()


@given(st.integers(1, 4), st.integers(1, 7))
def test_of_two_models_each_goes_first_half_of_the_time(models: int, items: int) -> None:
    said: list[int] = []
    recorders = [Recorder(index, said) for index in range(models)]
    rows: list[list[Feed]] = [[{}] for _ in range(items)]
    steps = _rounds(recorders, [rows] * models, [None] * models)
    rounds = [next(steps)[0] for _ in range(2 * items * models)]
    assert rounds == list(range(items)) * 2 * models
    turns = np.array(said).reshape(-1, models)
    assert all(sorted(turn) == list(range(models)) for turn in turns.tolist())
    places = np.argsort(turns, axis=1)
    for item in range(items):  # over twice as many passes as models, for each input
        own = places[item::items]
        assert np.bincount(turns[item::items, 0]).tolist() == [2] * models
        for one, other in itertools.combinations(range(models), 2):
            assert np.count_nonzero(own[:, one] < own[:, other]) == models


def test_windows_of_one_example_are_timed_together() -> None:
    said: list[int] = []
    steps = _rounds([Recorder(0, said)], [[[{}, {}, {}], [{}]]], [None])
    next(steps)
    assert len(said) == 3


def test_usage() -> None:
    done = subprocess.run(
        [sys.executable, str(agent_archive())], capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "usage" in done.stderr


def test_feeds_of_an_example_without_rows() -> None:
    feeds = Feeds({"x": (np.zeros((1, 2)),)}, np.array([1]))
    arrays_ = {"0/items": feeds.items, **pack("0/x", feeds.arrays["x"])}
    assert [len(rows) for rows in read_items(arrays_, 0)] == [0, 1]


if sys.platform == "linux":

    @pytest.mark.parametrize("kind", ["now", "peak"])
    def test_memory_is_that_of_this_process(kind: str) -> None:
        now, peak, source = memory_bytes()
        assert source == "VmHWM"
        assert 0 < now <= peak
