"""A teacher's outputs: read in part, over several files, and as means over runs."""

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import labelled_texts, small_context, tagged_examples, tiny_teacher
from hypothesis import given
from hypothesis import strategies as st

from edgecompress.surgery.model import load_module
from edgecompress.training.encoding import make_rows
from edgecompress.training.mapped import MappedHalves
from edgecompress.training.outputs import Joined, TeacherOutputs, output_names, teacher_outputs


def in_files(parts, folder):
    """Write each array to a file, and read them as one."""
    mapped = []
    for number, part in enumerate(parts):
        file = Path(folder) / f"{number}.f16"
        part.tofile(file)
        mapped.append(MappedHalves(file, len(part)))
    return Joined(mapped)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=4), st.data())
def test_several_files_read_as_one(sizes, data):
    """In any order, once and again, runs and single rows, over the borders of pages."""
    whole = np.random.default_rng(len(sizes)).normal(size=(sum(sizes), 12)).astype(np.float16)
    index = np.array(data.draw(st.lists(st.integers(0, len(whole) - 1))), dtype=np.int64)
    with tempfile.TemporaryDirectory() as folder:
        joined = in_files(np.split(whole, np.cumsum(sizes)[:-1]), folder)
        assert np.array_equal(joined[index], whole[index])


def test_means_over_runs(tmp_path):
    values = np.random.default_rng(0).normal(size=(9, 4)).astype(np.float16)
    outputs = TeacherOutputs({"hidden-0": in_files([values], tmp_path)}, np.array([0, 9]))
    starts, counts = np.array([3, 0, 8]), np.array([4, 2, 1])
    expected = [
        values[s : s + c].astype(np.float32).mean(0) for s, c in zip(starts, counts, strict=True)
    ]
    found = outputs.of("hidden-0", starts, counts).numpy()
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5)
    assert np.array_equal(outputs.of("hidden-0", starts, np.ones(3, int)).numpy(), values[starts])


@pytest.mark.parametrize("task", ["token-classification", "text-classification"])
def test_every_output_is_the_modules_own(task, tmp_path):
    """Row by row, without padding; the rows without labels lie in files of their own."""
    made = tagged_examples if task == "token-classification" else labelled_texts
    bare = tuple(replace(e, target=None) for e in made(5, 2))
    examples = (*made(20, 1), *bare)
    teacher = tiny_teacher(tmp_path, examples, task)
    module = load_module(teacher.model)
    rows = make_rows(teacher, examples, module)
    context = small_context(tmp_path / "run")
    names = output_names((0, 2), embeddings=True, relations=(1,))
    outputs = teacher_outputs(teacher, rows, names, lambda: module, context)
    assert sorted(context.built) == sorted([*names, *names])
    caught = {}
    for role in ("query", "key", "value"):
        part = getattr(module.base_model.encoder.layer[1].attention.self, role)
        part.register_forward_hook(lambda _m, _i, out, role=role: caught.update({role: out}))
    for row in (0, 7, 19, 20, 24):
        given_ = module(**rows.feed([row]), output_hidden_states=True)
        at = np.arange(outputs.starts[row], outputs.starts[row + 1])
        expected = {
            "embeddings": given_.hidden_states[0][0],
            "hidden-0": given_.hidden_states[1][0],
            "hidden-2": given_.hidden_states[3][0],
            "query-1": caught["query"][0],
            "key-1": caught["key"][0],
            "value-1": caught["value"][0],
        }
        for name, value in expected.items():
            found = outputs.of(name, at, np.ones_like(at)).numpy()
            np.testing.assert_allclose(found, value.detach().numpy(), atol=5e-3)
        per_row = task == "text-classification"
        place = np.array([row]) if per_row else at
        found = outputs.of("logits", place, np.ones_like(place)).numpy()
        expected_logits = given_.logits.detach().numpy().reshape(len(place), -1)
        np.testing.assert_allclose(found, expected_logits, atol=5e-3)

    def nobody():
        raise AssertionError("the teacher was asked again")

    teacher_outputs(teacher, rows, names, nobody, context)
