"""A bundle of every kind answers alike here, with the base install alone, and on an ARM board.

Here it is timed from its input to its answer, too.
The base install, and the extra that a kind needs: nothing else is there. The board is emulated.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from base_install import Bare, board, environment
from commands import in_process
from every_kind import KINDS, asked_of, write_bundle_of, write_inputs

from edgecompress.bundle import load_bundle
from edgecompress.errors import TargetError
from edgecompress.targets.base import Clock
from edgecompress.targets.local import Local
from edgecompress.targets.measure import time_candidates
from edgecompress.tasks import needed_extra, task, task_names

NEAR = 1e-3
"""How far a number may be from the same one elsewhere: kernels add up in another order."""
ASK = """\
import contextlib, io, json, sys
from edgecompress.cli.main import main

for name, arguments in json.load(sys.stdin).items():
    out, errors = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in "12")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
        try:
            code = main(arguments)
        except SystemExit as end:
            code = end.code
    said = [stream.buffer.getvalue().decode() for stream in (out, errors)]
    print(json.dumps([name, code or 0, *said]))
"""

Answered = dict[str, tuple[int, str, str]]
EXTRAS = {name: needed_extra(name) for name in KINDS}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="module")
def questions(inputs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What is typed for each kind."""
    found = {}
    for name in KINDS:
        asked = asked_of(name, inputs)
        bundle = write_bundle_of(name, tmp_path_factory.mktemp(name), asked)
        lines = map(json.dumps, asked)
        (inputs / f"{name}.jsonl").write_text("\n".join(lines))
        found[name] = ["predict", str(bundle), "--json", "--input", str(inputs / f"{name}.jsonl")]
    return found


@pytest.fixture(scope="module")
def here(questions: dict[str, list[str]]) -> dict[str, list[Any]]:
    """What the whole install answers."""
    found = {}
    for name, arguments in questions.items():
        said = in_process(*arguments)
        assert said.returncode == 0, said.stderr
        found[name] = _lines(said.stdout)
        assert len(found[name]) == len(KINDS[name].asked)
    return found


def _lines(said: str) -> list[Any]:
    return [json.loads(line) for line in said.splitlines()]


def _ask(run: Bare, questions: dict[str, list[str]]) -> Answered:
    said = run("-c", ASK, given=json.dumps(questions), check=False)
    assert said.returncode == 0, said.stderr
    return {name: tuple(rest) for name, *rest in _lines(said.stdout)}


@pytest.fixture(scope="module")
def on_base_install(
    questions: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Answered:
    """Ask all bundles that need the same extra in an environment with that extra alone."""
    found: Answered = {}
    for extra in sorted(set(EXTRAS.values())):
        folder = tmp_path_factory.mktemp(f"with-{extra or 'nothing'}")
        run = environment(folder, *filter(None, [extra]))
        found |= _ask(run, {name: questions[name] for name in KINDS if EXTRAS[name] == extra})
    return found


@pytest.fixture(scope="module")
def on_board(questions: dict[str, list[str]], tmp_path_factory: pytest.TempPathFactory) -> Answered:
    """Ask all bundles at once: an emulated process takes seconds to start."""
    try:
        run = board(tmp_path_factory.mktemp("board"), *filter(None, sorted(set(EXTRAS.values()))))
    except TargetError as error:
        pytest.skip(f"needs the Debian package qemu-user: {error}")
    return _ask(run, questions)


def test_every_task_that_can_be_asked_is_here() -> None:
    assert set(KINDS) == {name for name in task_names() if task(name).forms}


@pytest.mark.parametrize("name", KINDS)
def test_the_base_install_answers_the_same(
    name: str, here: dict[str, list[Any]], on_base_install: Answered
) -> None:
    code, said, errors = on_base_install[name]
    assert (code, errors) == (0, "")
    assert _lines(said) == here[name]


@pytest.mark.debian("qemu-user")
@pytest.mark.parametrize("name", KINDS)
def test_an_arm_board_answers_the_same(
    name: str, here: dict[str, list[Any]], on_board: Answered
) -> None:
    code, said, errors = on_board[name]
    assert (code, errors) == (0, "")
    assert _alike(_lines(said), here[name]), f"{said} is not {here[name]}"


def _alike(said: Any, right: Any) -> bool:
    """Whether two documents are the same, numbers that are no whole ones nearly so."""
    if isinstance(right, float):
        return isinstance(said, float) and abs(said - right) <= NEAR
    if isinstance(right, dict):
        return said.keys() == right.keys() and all(_alike(said[key], right[key]) for key in right)
    if isinstance(right, list):
        return len(said) == len(right) and all(map(_alike, said, right))
    return type(said) is type(right) and said == right


@pytest.mark.parametrize("name", KINDS)
def test_the_whole_way_is_timed(name: str, questions: dict[str, list[str]], inputs: Path) -> None:
    candidate = load_bundle(Path(questions[name][1]))
    examples = [task(name).timed(task(name).ask(one)) for one in asked_of(name, inputs)]
    quick = Clock(warmup_ms=0.0, max_warmup_ms=0.0, min_duration_ms=1.0, min_count=3)
    timed = time_candidates([candidate], examples, quick, Local(), attempts=1)
    whole = timed.end_to_end(0)
    if task(name).generates:  # it answers step by step, which is timed by what it has read
        assert whole is None
        return
    assert whole is not None
    assert whole.conditions["covers"] == "rows, model, answer"
    assert whole.value > timed.latencies(0)[0].value
    around = timed.readings.around[0]
    assert around is not None
    assert np.all(around.ns > 0)
