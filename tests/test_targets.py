"""The same candidates on x86, on x86 without VNNI and on two ARM cores, one behind a real sshd.

Int8 answers must be equal on ARM and where 16 bits cannot overflow; on AVX2 full 8-bit weights do
overflow, and that must be found.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boards import sshd
from helpers import SmallContext, small_context, tagged_examples
from small_encoders import write_encoder

from edgecompress.stages.evaluate import Evaluate
from edgecompress.stages.profile import Profile
from edgecompress.targets import Target, open_target
from edgecompress.targets.kinds.emulated import EmulatedSpec
from edgecompress.texts import words_of
from edgecompress.values import Candidate, Measurement, find

EXAMPLES = tagged_examples(60, seed=11)
AVX2, A72 = "emulated://x86-avx2", "emulated://cortex-a72"
A76 = "board"  # cortex-a76 behind sshd
ASKED = {"fp32": (A72, AVX2), "full": (A72, A76, AVX2), "portable": (A76, AVX2)}
"""Where each kind of candidate is asked; an emulated process takes seconds to start."""


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Candidate]:
    """A small encoder in fp32, in int8 with full 8-bit weights, and in portable int8."""
    from edgecompress.stages.export import Export
    from edgecompress.stages.quantize.dynamic import Dynamic

    folder = tmp_path_factory.mktemp("candidates")
    encoder = write_encoder(folder / "encoder", "Bert", "token-classification")
    found = {"fp32": Export().apply(encoder, small_context(folder / "fp32"))}
    for name, preset in (("full", "x86-vnni"), ("portable", "portable")):
        stage = Dynamic(preset=preset)
        found[name] = stage.apply(found["fp32"], small_context(folder / name))
    return found


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A Cortex-A76 behind a real sshd: its Python is an ARM program, run by the emulator."""
    from edgecompress.targets.emulated.setup import prepare
    from edgecompress.targets.ssh.target import Ssh

    arm = prepare("emulated://cortex-a76")
    folder = tmp_path_factory.mktemp("board")
    python = folder / "python3"
    settings = [
        word for key, value in arm.environment().items() for word in ("-E", f"{key}={value}")
    ]
    command = [*arm.emulate(), *settings, *arm.python()]
    python.write_text(f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')
    python.chmod(0o755)
    with sshd(folder / "sshd") as server:
        target = Ssh(server.spec(name=A76, python=str(python)))
        yield target
        target.close()


@pytest.fixture(scope="module")
def answers(
    candidates: dict[str, Candidate], board: Target, tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], tuple[Measurement, ...]]:
    """What each candidate scored on each target."""
    context = SmallContext(
        **{name: tmp_path_factory.mktemp(name) for name in ("folder", "scratch", "cache")},
        validation=EXAMPLES,
        targets={A76: board},
    )
    return {
        (kind, target): Evaluate(target=target).observe(candidates[kind], context)
        for kind, targets in ASKED.items()
        for target in targets
    }


def difference(found: tuple[Measurement, ...]) -> float:
    measured = find(found, "host_difference")
    assert measured is not None
    assert measured.samples == sum(len(words_of(example)) for example in EXAMPLES)
    return measured.value


@pytest.mark.parametrize(
    ("kind", "target"), [("fp32", A72), ("full", A72), ("full", A76), ("portable", A76)]
)
def test_arm_answers_as_the_host_does(kind: str, target: str, answers: Any) -> None:
    assert difference(answers[kind, target]) == 0


def test_full_weights_answer_differently_where_16_bits_overflow(answers: Any) -> None:
    assert difference(answers["full", AVX2]) > 0
    lost = find(answers["full", AVX2], "f1_host_drop")
    assert lost is not None
    assert lost.interval is not None


@pytest.mark.parametrize("kind", ["fp32", "portable"])
def test_fp32_and_portable_weights_do_not(kind: str, answers: Any) -> None:
    assert difference(answers[kind, AVX2]) == 0


def test_a_board_that_is_emulated_gives_no_valid_time(
    candidates: dict[str, Candidate], board: Target, tmp_path: Path
) -> None:
    context = SmallContext(
        **{name: tmp_path / name for name in ("folder", "scratch", "cache")},
        validation=EXAMPLES,
        targets={A76: board},
    )
    assert board.describe()["machine"] == "aarch64"
    assert board.describe()["emulated"] is True
    quick = Profile(
        target=A76, warmup_ms=1, max_warmup_ms=50, min_duration_ms=50, max_duration_ms=2000,
        min_count=12, cold_starts=1, attempts=1,
    )  # fmt: skip
    found = quick.observe(candidates["portable"], context)
    clocked = [m for m in found if m.unit in ("ms", "bytes", "x")]
    assert clocked
    assert all(m.invalid and m.invalid.startswith("emulated") for m in clocked)


def test_specifications_reach_targets() -> None:
    assert EmulatedSpec(name="a72", url=A72, samples=7).open().samples == 7
    assert json.dumps(sorted(open_target(A72).metrics)) == '["answers", "instructions"]'
