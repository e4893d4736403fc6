"""Emulated processors: the real QEMU, a real ARM Debian, the real plugin, on small models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from edgecompress.errors import RecipeError, TargetError
from edgecompress.targets import open_target
from edgecompress.targets.base import Feeds, Job, JobModel, feeds_from_rows
from edgecompress.targets.conformance import check_target
from edgecompress.targets.emulated import CPUS, Emulated, prepare, prepared
from edgecompress.targets.kinds.emulated import EmulatedSpec
from edgecompress.values import OnnxModel, TorchModel

pytestmark = pytest.mark.debian("qemu-user")

WIDTH = 64
KINDS = ("dot_product", "fma", "multiply_add", "load_store")


@pytest.fixture(scope="session")
def emulation() -> None:
    """Have all processors ready in the user's own cache, where later runs find them."""
    try:
        for name in CPUS:
            prepare(name)
    except TargetError as error:
        pytest.skip(f"needs the Debian packages qemu-user and gcc: {error}")


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxModel]:
    """A product with float weights (as external data), and the same in int8 of 7 bits."""
    folder = tmp_path_factory.mktemp("models")
    weight = np.random.default_rng(0).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, WIDTH])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, folder / "plain.onnx")
    quantize_dynamic(
        folder / "plain.onnx", folder / "int8.onnx", weight_type=QuantType.QInt8, reduce_range=True
    )
    data = {"save_as_external_data": True, "location": "weights.bin", "size_threshold": 0}
    onnx.save_model(model, folder / "fp32.onnx", **data)
    return {name: OnnxModel(folder / f"{name}.onnx") for name in ("fp32", "int8")}


@pytest.fixture(scope="session")
def feeds() -> Feeds:
    rows = np.random.default_rng(1).normal(size=(3, 5, WIDTH)).astype(np.float32)
    return feeds_from_rows([{"x": row} for row in rows], [0, 1, 1])


def emulated(name: str) -> Emulated:
    target = open_target(f"emulated://{name}")
    assert isinstance(target, Emulated)
    return target


def on_host(model: OnnxModel, feeds: Feeds) -> list[np.ndarray]:
    session = ort.InferenceSession(str(model.path), providers=["CPUExecutionProvider"])
    return [session.run(None, {"x": row})[0] for row in feeds.arrays["x"]]


@pytest.mark.parametrize("name", ["cortex-a72", "cortex-a76"])
def test_answers_are_the_hosts(
    name: str, emulation: None, models: dict[str, OnnxModel], feeds: Feeds, tmp_path: Path
) -> None:
    job = Job("answers", (JobModel(models["int8"]), JobModel(models["fp32"])), (feeds,))
    outputs = emulated(name).run(job, tmp_path / "job").outputs
    for here, there in zip(on_host(models["int8"], feeds), outputs[0][0], strict=True):
        assert np.array_equal(here, there)
    for here, there in zip(on_host(models["fp32"], feeds), outputs[1][0], strict=True):
        assert np.abs(here - there).max() <= 1e-5 * np.abs(here).max()


def test_instructions_are_counted_by_kind_and_equally(
    emulation: None, models: dict[str, OnnxModel], feeds: Feeds, tmp_path: Path
) -> None:
    entries = (JobModel(models["int8"]), JobModel(models["fp32"]))
    job = Job("instructions", (entries[0], JobModel(None)), (feeds,))
    old, new = emulated("cortex-a72"), emulated("cortex-a76")
    assert new.not_measured("instructions") is None
    old_int8, null = old.run(job, tmp_path / "old").instructions
    new_int8, new_fp32 = new.run(replace(job, models=entries), tmp_path / "new").instructions
    elsewhere = tmp_path / "somewhere" / "else" / "entirely"
    assert new.run(replace(job, models=entries[:1]), elsewhere).instructions == (new_int8,)
    products = 3 * 5 * WIDTH * WIDTH
    for counts in (old_int8, null, new_int8, new_fp32):
        assert counts["inferences"] == 2  # two examples, of one and two rows
        assert sum(counts[kind] for kind in KINDS) < counts["all"]
        assert counts["load_store"] > 0
    assert new_fp32["fma"] >= products / 4  # a vector holds four
    assert new_fp32["dot_product"] == 0
    assert null["fma"] == null["dot_product"] == old_int8["fma"] == old_int8["dot_product"] == 0
    assert old_int8["multiply_add"] > 0
    assert new_int8["dot_product"] >= products / 16
    assert null["all"] < new_int8["all"] < old_int8["all"]


def test_an_emulated_processor_keeps_the_contract(emulation: None) -> None:
    found = check_target(EmulatedSpec(name="a72", url="emulated://cortex-a72"))
    assert {one.metric for one in found} == {"instructions"}
    assert all(one.invalid is None for one in found)


def integer_product(file: Path, largest: int) -> OnnxModel:
    """A product of uint8 and int8 whose neighbouring products all have the same sign."""
    weight = np.full((WIDTH, WIDTH), largest, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["x", "w"], ["y"])],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.UINT8, [None, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.INT32, [None, WIDTH])],
        [numpy_helper.from_array(weight, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(model, file)
    return OnnxModel(file)


def test_saturation_of_avx2_is_found_and_is_gone_with_weights_of_7_bits(
    emulation: None, tmp_path: Path
) -> None:
    full, reduced = (integer_product(tmp_path / f"{n}.onnx", n) for n in (127, 64))
    feeds = feeds_from_rows([{"x": np.full((2, WIDTH), 255, np.uint8)}], [0])
    job = Job("answers", (JobModel(full), JobModel(reduced)), (feeds,))
    exact = [255 * largest * WIDTH for largest in (127, 64)]
    given = {}
    for name in ("x86-avx2", "cortex-a72"):
        outputs = emulated(name).run(job, tmp_path / name).outputs
        given[name] = [int(output[0][0][0, 0]) for output in outputs]
    assert given["cortex-a72"] == exact
    # The sum of two neighbouring products stays at the largest 16-bit number.
    assert given["x86-avx2"] == [32767 * WIDTH // 2, exact[1]]


def test_it_says_what_it_is(emulation: None) -> None:
    old, new, x86 = (emulated(name) for name in ("cortex-a72", "cortex-a76", "x86-avx2"))
    described = new.describe()
    assert described["emulated"]
    assert described["machine"] == "aarch64"
    assert described["isa"] == ["dotprod", "fp16"]
    assert set(described["libraries"]) == {"onnxruntime", "numpy", "tokenizers"}
    assert old.describe()["isa"] == []
    assert x86.describe()["isa"] == ["avx2"]
    assert len({target.fingerprint() for target in (old, new, x86)}) == 3
    assert old.fingerprint() == emulated("cortex-a72").fingerprint()
    assert old.samples == 200
    assert old.metrics == {"answers", "instructions"}
    old.close()


@pytest.mark.parametrize("mode", ["time", "cold", "operators"])
def test_it_refuses_to_time(mode: str, models: dict[str, OnnxModel], tmp_path: Path) -> None:
    job = Job(mode, (JobModel(models["fp32"]),), ())  # type: ignore[arg-type]
    with pytest.raises(TargetError, match="wall time and memory mean nothing"):
        emulated("cortex-a72").run(job, tmp_path)


def test_a_model_that_cannot_run_there(tmp_path: Path) -> None:
    job = Job("answers", (JobModel(TorchModel(tmp_path)),), ())
    with pytest.raises(TargetError, match="export the model"):
        emulated("cortex-a72").run(job, tmp_path)


def test_a_model_that_cannot_be_loaded(emulation: None, feeds: Feeds, tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("Unheard", ["x"], ["y"], domain="elsewhere")],
        "unheard",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, WIDTH])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("elsewhere", 1)]
    onnx.save_model(helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "m")
    job = Job("answers", (JobModel(OnnxModel(tmp_path / "m")),), (feeds,))
    with pytest.raises(TargetError, match=r"^emulated://cortex-a72: .*elsewhere.*Unheard"):
        emulated("cortex-a72").run(job, tmp_path / "job")


def test_an_unknown_processor_has_a_nearest_one() -> None:
    with pytest.raises(RecipeError, match="did you mean 'cortex-a72'"):
        open_target("emulated://cortex-a722")
    with pytest.raises(RecipeError, match=r"there are cortex-a53, .* x86-avx2"):
        prepared("m")
