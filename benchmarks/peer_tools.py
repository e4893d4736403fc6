"""The quantizers of ``peers.py`` as commands of fresh processes, and what such a process costs.

Settings are those that the documentation of each tool gives for int8 on a CPU with VNNI. Every tool
reads the same ONNX file and the same samples: a folder of .npz files, one inference each.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# Optimum's guide for dynamic quantization, and its example scripts for static: min-max ranges,
# matrix products and sums, without LayerNorm, GELU and residual sums; all operators of a CNN.
ORT_QUANTIZER = """
import sys
from pathlib import Path
import numpy as np
from onnxruntime.quantization import CalibrationMethod
from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig, CalibrationConfig
from optimum.onnxruntime.preprocessors import QuantizationPreprocessor
from optimum.onnxruntime.preprocessors.passes import (
    ExcludeGeLUNodes, ExcludeLayerNormNodes, ExcludeNodeAfter, ExcludeNodeFollowedBy)
model, samples, out, scheme, kind = sys.argv[1:]
quantizer = ORTQuantizer.from_pretrained(Path(model).parent, file_name=Path(model).name)
if scheme == "dynamic":
    config = AutoQuantizationConfig.avx512_vnni(is_static=False, per_channel=True)
    quantizer.quantize(save_dir=out, quantization_config=config)
else:
    wanted = None if kind == "cnn" else ["MatMul", "Gemm", "Add"]
    config = AutoQuantizationConfig.avx512_vnni(
        is_static=True, per_channel=True, operators_to_quantize=wanted)
    files = sorted(Path(samples).glob("*.npz"))
    rows = [{name: value[0] for name, value in np.load(file).items()} for file in files]
    calibration = CalibrationConfig("samples", "", "train", len(rows), CalibrationMethod.MinMax)
    ranges = quantizer.fit(rows, calibration, onnx_augmented_model_name="augmented.onnx",
        operators_to_quantize=config.operators_to_quantize)
    excluded = QuantizationPreprocessor()
    for each in (ExcludeLayerNormNodes(), ExcludeGeLUNodes(), ExcludeNodeAfter("Add", "Add"),
                 ExcludeNodeAfter("Gather", "Add"), ExcludeNodeFollowedBy("Add", "Softmax")):
        if kind != "cnn":
            excluded.register_pass(each)
    quantizer.quantize(save_dir=out, quantization_config=config, preprocessor=excluded,
        calibration_tensors_range=ranges)
"""

OLIVE_SAMPLES = """
from pathlib import Path
import numpy as np
from olive.data.registry import Registry

class Samples:
    def __init__(self, folder):
        self.files = sorted(Path(folder).glob("*.npz"))
    def __len__(self):
        return len(self.files)
    def __getitem__(self, index):
        return {name: value[0] for name, value in np.load(self.files[index]).items()}, 0

@Registry.register_dataset()
def samples_dataset(folder):
    return Samples(folder)
"""

# A small process in between: a forked child's peak starts with that of its parent.
WATCH = """
import json, os, sys, time
start = time.perf_counter()
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, used = os.wait4(child, 0)
seconds = time.perf_counter() - start
with open(sys.argv[1], "w") as file:
    json.dump({"status": status, "seconds": seconds, "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": used.ru_maxrss * 1024}, file)
"""


@dataclass(frozen=True)
class Work:
    """What a tool is given: the model, the folder of samples, an empty folder, and which model."""

    model: Path
    samples: Path
    out: Path
    kind: str


@dataclass(frozen=True)
class Tool:
    """A quantizer with its scheme; `command` is made for some work."""

    name: str
    scheme: str
    command: Callable[[Work], list[str]]


@dataclass(frozen=True)
class Cost:
    """What a fresh process took, on the clock and of processors; no `error` where it went well."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    error: str = ""


def ours(work: Work, *more: str) -> list[str]:
    """Give our command line, with a store of its own so that no earlier result is taken."""
    command = [sys.executable, "-m", "edgecompress", "quantize", str(work.model)]
    return [*command, "-o", str(work.out / "model.onnx"), "--store", str(work.out / "store"), *more]


def ours_static(work: Work) -> list[str]:
    """Give our command line with calibration samples."""
    return ours(work, "--scheme", "static", "--data", str(work.samples))


def ort_quantizer(python: Path, scheme: str) -> Callable[[Work], list[str]]:
    """Give the command of Optimum's quantizer."""

    def command(work: Work) -> list[str]:
        given = [str(work.model), str(work.samples), str(work.out)]
        return [str(python), "-c", ORT_QUANTIZER, *given, scheme, work.kind]

    return command


def olive_line(python: Path, *words: str) -> Callable[[Work], list[str]]:
    """Give a command line of Olive."""

    def command(work: Work) -> list[str]:
        name, *more = words
        given = ["-m", str(work.model), "-o", str(work.out), *more]
        return [str(python), "-m", "olive", name, *given, "--disable_telemetry"]

    return command


def olive_static(python: Path) -> Callable[[Work], list[str]]:
    """Give Olive's command for a run configuration with its pass of static quantization."""

    def command(work: Work) -> list[str]:
        script, config = work.out / "samples.py", work.out / "config.json"
        script.write_text(OLIVE_SAMPLES)
        load = {"type": "samples_dataset", "params": {"folder": str(work.samples)}}
        accelerator = {"device": "cpu", "execution_providers": ["CPUExecutionProvider"]}
        data = {"name": "samples", "user_script": str(script), "load_dataset_config": load}
        static = {
            "type": "OnnxStaticQuantization",
            "data_config": "samples",
            "precision": "int8",
            "activation_type": "uint8",
            "per_channel": True,
        }
        found = {
            "input_model": {"type": "OnnxModel", "model_path": str(work.model)},
            "systems": {"local": {"type": "LocalSystem", "accelerators": [accelerator]}},
            "data_configs": [data],
            "passes": {"static": static},
            "host": "local",
            "target": "local",
            "no_artifacts": True,
            "cache_dir": str(work.out / "cache"),
            "output_dir": str(work.out / "made"),
        }
        config.write_text(json.dumps(found))
        return [str(python), "-m", "olive", "run", "--config", str(config), "--disable_telemetry"]

    return command


def tools(optimum: Path | None, olive: Path | None) -> list[Tool]:
    """Give all quantizers, Optimum's and Olive's where there is a Python that has them."""
    found = [
        Tool("edgecompress", "dynamic", ours),
        Tool("edgecompress", "static", ours_static),
    ]
    if optimum is not None:
        schemes = ("dynamic", "static")
        found += [Tool("ORTQuantizer", each, ort_quantizer(optimum, each)) for each in schemes]
    if olive is not None:
        words = ("--algorithm", "rtn", "--precision", "int8", "--implementation", "ort")
        found += [
            Tool("Olive auto-opt", "dynamic", olive_line(olive, "auto-opt", "--precision", "int8")),
            Tool("Olive quantize", "dynamic", olive_line(olive, "quantize", *words)),
            Tool("Olive run", "static", olive_static(olive)),
        ]
    return found


def watched(command: Sequence[str], folder: Path) -> Cost:
    """Run a command in a fresh process; its peak is that of the largest process it starts.

    The peak is the resident set's (``ru_maxrss``), shared pages and libraries included.
    """
    report, said = folder / "report.json", folder / "said.txt"
    # Olive tries to report even when told not to, and waits ten seconds for a network that is not
    # there; on a build server (CI) it does not.
    environment = {
        **os.environ,
        "CI": "1",
        "OMP_NUM_THREADS": "1",
        "ORT_DISABLE_TELEMETRY": "1",
        "OLIVE_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }
    watcher = [sys.executable, "-I", "-S", "-c", WATCH, str(report), *command]
    with said.open("wb") as log:
        subprocess.run(watcher, check=True, stdout=log, stderr=log, cwd=folder, env=environment)
    found = json.loads(report.read_text())
    error = ""
    if found["status"]:
        error = first_error(said.read_text(errors="replace")) or f"status {found['status']}"
    return Cost(found["seconds"], found["cpu_seconds"], found["peak_bytes"], error)


def first_error(said: str) -> str:
    """Give the last exception of a log in one line, or its last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Fail\w*)\b", line)]
    return (named or lines or [""])[-1][:160]
