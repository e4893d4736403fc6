"""The proof that a kind of target keeps the contract, on small graphs whose answers are known."""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from edgecompress.disturbance import EMULATED
from edgecompress.errors import TargetError
from edgecompress.targets.base import Clock, Feeds, Job, JobModel, Mode, Target, feeds_from_rows
from edgecompress.targets.cold import Cold
from edgecompress.targets.instructions import Instructions
from edgecompress.targets.measure import time_candidates
from edgecompress.targets.offline import Offline
from edgecompress.targets.operators import Operators
from edgecompress.targets.power import Energy
from edgecompress.targets.probe import Probe, ask
from edgecompress.targets.spec import MEASURES, TargetReport, TargetSpec
from edgecompress.values import Candidate, Measurement, OnnxModel
from edgecompress.writing import temporary

CLOCK = Clock(
    warmup_ms=1.0, max_warmup_ms=50.0, min_duration_ms=120.0, max_duration_ms=2000.0, min_count=12,
    cold_starts=1,
)  # fmt: skip
REFUSED: tuple[tuple[Mode, str], ...] = (
    ("time", "latency"), ("answers", "answers"), ("cold", "memory"),
    ("instructions", "instructions"),
)  # fmt: skip
"""What each mode gives; a target that does not claim that must refuse the mode."""
WIDTH = 8
LATE_S = 10.0
"""How long an agent that was left behind may take to end."""


def check_target(spec: TargetSpec, *, clean: bool = False) -> tuple[Measurement, ...]:
    """Prove that a target keeps the contract, and give what was measured on it.

    Checked: its settings stay the same through a round trip as JSON; `check` claims no more than
    `metrics`; its description is JSON and its fingerprint does not change; answers to graphs whose
    arithmetic is exact on every processor are right to the last bit, for several models, with
    external data, and for inputs of several rows, also after a job that failed and after `close`; a
    job that fails says so in one sentence; what it claims to measure is measured or marked invalid
    with a reason, and everything that a clock or memory gives is invalid where it is emulated; what
    it does not claim is refused; progress stays within bounds; no agent is left behind.

    Parameters
    ----------
    spec : TargetSpec
        Of a target that is prepared.
    clean : bool
        Also remove what was left there, and what was prepared, and prove that nothing is left.

    Raises
    ------
    TargetError
        Naming the target and the first promise that it breaks, or when it cannot be reached.
    """
    _check_spec(spec)
    target = spec.open()
    try:
        report, emulated = _check_description(spec, target)
        with temporary() as folder:
            models = _models(folder)
            _check_failure(target, models[0])
            target.close()  # the next job opens it again
            if "answers" in target.metrics:
                _check_answers(target, models)
            _check_refusals(target, models[0])
            found = _measured(spec, target, report.can, models[0], emulated)
    finally:
        target.close()
    _promise(not _left_behind(), target, "leaves an agent behind")
    if clean:
        spec.clean()
        again = spec.clean()
        _promise("removed" not in again, target, f"cleans twice, and then says: {again}")
    return found


def _promise(kept: bool, target: Target | TargetSpec, broken: str) -> None:
    if not kept:
        raise TargetError(f"{target.name} {broken}")


def _listed(metrics: Iterable[str]) -> str:
    return ", ".join(sorted(metrics))


def _check_spec(spec: TargetSpec) -> None:
    again = type(spec).model_validate(spec.model_dump(mode="json"))
    _promise(again == spec, spec, "has settings that change in a JSON round trip")
    fits = re.match(spec.pattern(), spec.url) is not None
    _promise(fits, spec, f"has the URL {spec.url}, which does not look like {spec.form}")


def _check_description(spec: TargetSpec, target: Target) -> tuple[TargetReport, bool]:
    _promise(target.name == spec.name, target, f"is called {spec.name} in its specification")
    unknown = target.metrics - set(MEASURES)
    _promise(not unknown, target, f"claims {_listed(unknown)}; there are {', '.join(MEASURES)}")
    report = spec.check()
    more = set(report.can) - target.metrics
    _promise(not more, target, f"claims {_listed(more)} when it is checked, and not in `metrics`")
    facts = target.describe()
    try:
        json.dumps([facts, report.facts])
    except TypeError as error:
        raise TargetError(f"{target.name} describes itself in what is no JSON: {error}") from None
    same = target.fingerprint() == target.fingerprint()
    _promise(same, target, "has a fingerprint that changes, so that no result could be kept")
    silent = target.metrics - set(report.can) if not report.findings else ()
    _promise(
        not silent,
        target,
        f"cannot measure {_listed(silent)} now, and has no finding that says why",
    )
    return report, bool(facts.get("emulated"))


def _models(folder: Path) -> tuple[OnnxModel, OnnxModel]:
    """Write x @ w in float32, its weights outside the graph, and in uint8 × int8."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def written(name: str, op: str, weights: np.ndarray, kinds: tuple[int, int]) -> OnnxModel:
        graph = helper.make_graph(
            [helper.make_node(op, ["x", "w"], ["y"])],
            name,
            [helper.make_tensor_value_info("x", kinds[0], ["batch", WIDTH])],
            [helper.make_tensor_value_info("y", kinds[1], ["batch", WIDTH])],
            [numpy_helper.from_array(weights, "w")],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        file = folder / f"{name}.onnx"
        outside = {"location": f"{name}.data", "size_threshold": 0} if op == "MatMul" else {}
        onnx.save_model(model, file, save_as_external_data=bool(outside), **outside)
        return OnnxModel(file)

    floats, integers = (
        (TensorProto.FLOAT, TensorProto.FLOAT),
        (TensorProto.UINT8, TensorProto.INT32),
    )
    return (
        written("float", "MatMul", _weights(np.float32), floats),
        written("integer", "MatMulInteger", _weights(np.int8), integers),
    )


def _weights(kind: type[np.generic]) -> np.ndarray:
    """Whole numbers below 2⁶: sums of products fit 16 bits and a float's 24, in any order."""
    return np.random.default_rng(0).integers(-63, 64, (WIDTH, WIDTH)).astype(kind)


def _inputs() -> list[np.ndarray]:
    random = np.random.default_rng(1)
    return [random.integers(0, 64, (rows, WIDTH)) for rows in (1, 2, 3)]


def _feeds(kind: type[np.generic]) -> Feeds:
    return feeds_from_rows([{"x": row.astype(kind)} for row in _inputs()], [0, 1, 1])


def _check_failure(target: Target, model: OnnxModel) -> None:
    unknown = feeds_from_rows([{"unknown": np.zeros((1, WIDTH), np.float32)}], [0])
    mode: Mode = "answers" if "answers" in target.metrics else "time"
    try:
        ask(target, Job(mode, (JobModel(model),), (unknown,), **CLOCK.fields()), None)
    except TargetError as error:
        text = str(error)
        _promise("\n" not in text, target, f"says in several lines why a job failed: {text}")
        _promise(target.name in text, target, f"does not name itself where a job failed: {text}")
    else:
        raise TargetError(f"{target.name} gives readings of a job that cannot be done")


def _check_answers(target: Target, models: Sequence[OnnxModel]) -> None:
    told: list[tuple[float, float]] = []
    feeds = (_feeds(np.float32), _feeds(np.uint8))
    entries = tuple(JobModel(model, index) for index, model in enumerate(models))
    readings = ask(
        target, Job("answers", entries, feeds), lambda done, total, _: told.append((done, total))
    )
    _promise(len(readings.outputs) == len(models), target, "answers for other models than asked")
    wanted = [row @ _weights(np.int64) for row in _inputs()]
    for model, outputs, kind in zip(models, readings.outputs, (np.float32, np.int32), strict=True):
        given = outputs[0] if outputs else []
        right = len(given) == len(wanted) and all(
            one.dtype == kind and np.array_equal(one, other)
            for one, other in zip(given, wanted, strict=True)
        )
        _promise(right, target, f"gives other answers than this machine ({model.path.stem})")
    within = all(0 <= done <= total for done, total in told)
    _promise(within, target, f"tells progress beyond its end: {told}")


def _check_refusals(target: Target, model: OnnxModel) -> None:
    for mode, metric in REFUSED:
        if metric not in target.metrics:
            job = Job(mode, (JobModel(model),), (_feeds(np.float32),), **CLOCK.fields())
            try:
                ask(target, job, None)
            except TargetError:
                continue
            raise TargetError(
                f"{target.name} claims no {metric}, and does what gives it all the same"
            )


def _measured(
    spec: TargetSpec, target: Target, can: Sequence[str], model: OnnxModel, emulated: bool
) -> tuple[Measurement, ...]:
    """Measure all that can be measured now; a metric that is claimed and cannot has its finding."""
    shared = (Candidate(model), (), CLOCK, target)
    probes: list[Probe] = [Offline(*shared, batch=2), Operators(*shared), Cold(*shared)]
    probes += [Energy(*shared, meter=spec.meter), Instructions(*shared)]
    found: list[Measurement] = []
    if "latency" in can:
        timed = time_candidates([Candidate(model)], (), CLOCK, target, attempts=1)
        counts = {len(series.ns) for series in timed.readings.series}
        _promise(len(counts) == 1 and 0 not in counts, target, "times one model more than another")
        found += [*timed.latencies(0), timed.overhead(1)]
    for probe in probes:
        if probe.needs in can:
            measured = probe.measure()
            _promise(bool(measured), target, f"claims {probe.needs}, and gives nothing of it")
            found += measured
    for one in found:
        which = f"{one.metric} ({one.slice or 'whole'})"
        said = math.isfinite(one.value) or one.invalid
        _promise(bool(said), target, f"gives no number of {which}, and no reason")
        trusted = emulated and one.metric != "instructions" and one.invalid != EMULATED
        _promise(not trusted, target, f"is emulated, and its {which} counts all the same")
    return tuple(found)


def _left_behind() -> list[str]:
    """Give the agents that run still, below this process; those that are ending get a while."""
    import psutil

    end = time.monotonic() + LATE_S
    while True:
        found = []
        for child in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                found += [word for word in child.cmdline() if word.endswith(".pyz")]
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.1)
