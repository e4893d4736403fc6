"""A full disk is found out by asking the file system, whatever a library says of it."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from edgecompress import disk
from edgecompress.errors import DiskError
from edgecompress.writing import private

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[Path]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        # Lazily: a library may still hold the file that it could not finish.
        subprocess.run(["umount", "-l", folder], check=True)


def by_python(file: Path) -> None:
    file.write_bytes(bytes(1 << 22))


def by_torch(file: Path) -> None:
    import torch

    torch.save({"a": torch.zeros(1 << 20)}, file)


def by_safetensors(file: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"a": np.zeros(1 << 20, np.float32)}, file)


def by_onnx(file: Path) -> None:
    import onnx

    onnx.save(_model(), file)


def by_onnxruntime(file: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(file)
    options.log_severity_level = 4
    onnxruntime.InferenceSession(
        _model().SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def by_numpy(file: Path) -> None:
    np.savez(file, a=np.zeros(1 << 20, np.float32))


def by_a_library_without_a_word(file: Path) -> None:
    with contextlib.suppress(OSError):
        file.write_bytes(bytes(1 << 22))
    raise RuntimeError("writing failed")


def _model() -> object:
    from onnx import TensorProto, helper, numpy_helper

    weight = numpy_helper.from_array(np.ones((1024, 1024), np.float32), "w")
    return helper.make_model(
        helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1024])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1024])],
            [weight],
        ),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17)],
    )


WRITERS = (by_python, by_torch, by_safetensors, by_onnx, by_onnxruntime, by_numpy,
           by_a_library_without_a_word)  # fmt: skip


@needs_root
@pytest.mark.parametrize("write", WRITERS)
def test_every_library_that_finds_no_room_ends_in_the_same_sentence(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    with small_disk(tmp_path / "small", "size=2m") as small:
        with pytest.raises(DiskError) as error, private(small, "--store") as folder:
            write(folder / "file.npz")
        said = str(error.value)
        assert said.startswith(f"nothing more can be written to {small}")
        assert "No space left on device" in said
        assert "--store" in said
        assert "\n" not in said
        assert list(small.iterdir()) == []


@needs_root
@pytest.mark.parametrize("write", WRITERS[1:])
def test_a_limit_on_the_size_of_files_counts_as_well(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limited = 1 << 20
    try:
        with (
            pytest.raises(DiskError, match=r"File too large.*ulimit -f"),
            private(tmp_path, "-o") as folder,
        ):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limited, hard))
            write(folder / "file.npz")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@needs_root
def test_no_more_files_and_a_read_only_disk(tmp_path: Path) -> None:
    with (
        small_disk(tmp_path / "few", "size=2m,nr_inodes=8") as few,
        pytest.raises(DiskError, match="No space left"),
        private(few, "-o") as folder,
    ):
        for number in range(20):
            (folder / str(number)).touch()
    with (
        small_disk(tmp_path / "fixed", "size=2m") as fixed,
        pytest.raises(DiskError, match=r"Read-only file system.*name another place"),
    ):
        subprocess.run(["mount", "-o", "remount,ro", fixed], check=True)
        with private(fixed, "-o"):
            raise AssertionError("nothing can be written there")


def test_an_error_of_another_kind_stays_what_it_is(tmp_path: Path) -> None:
    for error in (
        ValueError("no"), OSError(errno.EACCES, "denied"), RuntimeError("PytorchStreamWriter"),
        RuntimeError("the model is larger than 2 GB: file too large for protobuf"),
    ):  # fmt: skip
        with pytest.raises(type(error)) as found, private(tmp_path, "-o"):
            raise error
        assert found.value is error


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        OSError(errno.EDQUOT, "x"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
        RuntimeError("open file failed, errcode = 28"),
        RuntimeError("OSError: [Errno 122] Disk quota exceeded"),
    ],
)
def test_a_number_in_the_words_of_a_library_is_read(tmp_path: Path, error: Exception) -> None:
    wrapped = ValueError("a wrapper")
    wrapped.__cause__ = error
    assert disk.named_errno(wrapped) in disk.FATAL
    with pytest.raises(DiskError, match=r"make room|remove files"), disk.asking(tmp_path, "-o"):
        raise wrapped
