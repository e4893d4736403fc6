"""Whatever is killed in the middle of a job: no wrong number, no hang, nothing left behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from board_kills import VICTIMS, expected_answers, kill_once, make_model
from boards import Server, sshd


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("kills") / "board") as server:
        yield server


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def expected(model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[list[object]]:
    return expected_answers(model, tmp_path_factory.mktemp("expected") / "job")


@pytest.mark.debian("openssh-server")
@pytest.mark.parametrize("seed", range(len(VICTIMS)))
def test_a_kill_at_a_seeded_moment(
    seed: int, board: Server, model: Path, expected: list[list[object]], tmp_path: Path
) -> None:
    outcome = kill_once(board, seed, model, expected, tmp_path)
    assert outcome.victim == VICTIMS[seed]
