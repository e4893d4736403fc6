"""A store says what lies in it, and makes room: what was not used for longest goes first."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import in_process

import edgecompress
from edgecompress.errors import EdgeCompressError
from edgecompress.report.document import to_json
from edgecompress.results import Row, RunResult, Verdict
from edgecompress.store import DIGESTS, Store
from edgecompress.values import Step

SIZES = {"a": 3_000_000, "b": 2_000_000, "c": 1_000_000}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store whose models were used one after the other, `a` first."""
    root = tmp_path / "store"
    store = Store(root)
    for age, (name, size) in enumerate(SIZES.items()):

        def build(folder: Path, _scratch: Path, size: int = size) -> None:
            (folder / "model.onnx").write_bytes(bytes(size))

        folder = store.obtain(name * 64, build)
        os.utime(folder / DIGESTS, (1000 + age, 1000 + age))
    (root / "scratch" / ("d" * 64)).mkdir()
    (root / "scratch" / ("d" * 64) / "state.pt").write_bytes(bytes(500_000))
    return root


def left(root: Path) -> str:
    return "".join(sorted(one.name[0] for one in (root / "results").glob("*/*")))


def test_it_says_what_lies_there(root: Path) -> None:
    done = in_process("store", "show", "--store", str(root))
    assert done.returncode == 0, done.stderr
    models = next(line for line in done.stdout.splitlines() if "ONNX models" in line)
    assert models.split()[2:4] == ["3", "0.01"]
    assert "unfinished trainings" in done.stdout
    found = edgecompress.show_store(root)
    assert [entry.key[0] for entry in found.entries] == ["a", "b", "c", "d"]
    assert sum(entry.size for entry in found.entries) > sum(SIZES.values())


def test_what_was_not_used_for_longest_goes_first(root: Path) -> None:
    Store(root).get("a" * 64)  # used again
    for most, stays in ((0.0058, "ac"), (0.0036, "a"), (0, "")):
        edgecompress.prune_store(max_size=most, store=root)
        assert left(root) == stays


def test_a_run_that_is_named_keeps_its_models(root: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    row = Row("small", "candidate", steps=(Step("export", key="a" * 64),))
    verdict = Verdict("budget", "pass", "")
    found = RunResult(
        "toy", "text-classification", {}, (row,), "small", verdict, "size", (), {}, {}
    )
    (run / "results.json").write_text(to_json(found))
    told = edgecompress.prune_store(max_size=0, keep=run, store=root, dry_run=True)
    assert left(root) == "abc" and "would be removed" in str(told)
    assert {entry.key[0] for entry in told.gone} == {"b", "c", "d"}
    done = in_process("store", "prune", "--max-size", "0", "--keep", str(run), "--store", str(root))
    assert done.returncode == 0, done.stderr
    assert left(root) == "a" and not list((root / "scratch").iterdir())


def test_nothing_goes_while_a_run_works_with_it(root: Path) -> None:
    working = Store(root)
    with pytest.raises(EdgeCompressError, match="a run works with the store"):
        edgecompress.prune_store(max_size=0, store=root)
    assert left(root) == "abc"
    del working


def test_what_is_no_store_is_left_alone(tmp_path: Path) -> None:
    for command in (("show",), ("prune", "--max-size", "0")):
        done = in_process("store", *command, "--store", str(tmp_path))
        assert done.returncode == 1 and "is no store" in done.stderr
    done = in_process(
        "store", "prune", "--max-size", "0", "--keep", str(tmp_path), "--store", str(tmp_path)
    )
    assert done.returncode == 2 and "no run to keep is here" in done.stderr
    assert not list(tmp_path.iterdir())
