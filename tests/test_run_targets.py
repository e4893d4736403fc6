"""A run on several targets: a board that is away leaves the rest whole and the budget undecided."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from boards import Server, free_port, sshd
from commands import in_process
from lookup_models import write_candidate

from edgecompress.report.document import from_json
from edgecompress.results import Row
from edgecompress.values import find

RECIPE = """\
name: several
task: text-classification
model: {model}
data: {{format: tsv, root: {root}, train: a.tsv, validation: b.tsv, test: c.tsv}}
stages: [quantize.dynamic]
targets: [local, {a72}, pi]
profile:
  {{min_duration_ms: 150, warmup_ms: 10, max_warmup_ms: 50, min_count: 40, cold_starts: 0,
   attempts: 1}}
budget:
  accuracy: {{min: 0.9}}
"""
TEXTS = {"a": ("sannu ina", "habari asubuhi"), "b": ("sannu", "habari"), "c": ("ina", "asubuhi")}
A72 = "emulated://cortex-a72"


def fleet(file: Path, server: Server, port: int) -> None:
    """Name the board `pi`, at a port."""
    spec = server.spec(connect_timeout_s=5.0).model_dump(mode="json", exclude={"name"})
    spec["url"] = f"ssh://{server.user}@127.0.0.1:{port}"
    kept = {key: value for key, value in spec.items() if value is not None}
    file.write_text(json.dumps({"pi": kept}))  # JSON is YAML


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with sshd(tmp_path_factory.mktemp("board") / "sshd") as found:
        yield found


@pytest.fixture(scope="module")
def both(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same command twice: while nothing listens for the board, and when it is back."""
    folder = tmp_path_factory.mktemp("several")
    candidate = write_candidate(folder / "candidate", "text-classification")
    candidate.save(folder / "candidate")
    for name, (hausa, swahili) in TEXTS.items():
        rows = (f"{hausa}{' ina' * n}\thau\n{swahili}{' asubuhi' * n}\tswa\n" for n in range(6))
        (folder / f"{name}.tsv").write_text("text\tlabel\n" + "".join(rows))
    text = RECIPE.format(model=folder / "candidate", root=folder, a72=A72)
    (folder / "several.yaml").write_text(text)
    found = []
    for port in (free_port(), server.port):
        fleet(folder / "targets.yaml", server, port)
        command = ("run", folder / "several.yaml", "-o", folder / "out")
        done = in_process(*command, "--store", folder / "store", COLUMNS="200")
        found.append((done, from_json((folder / "out" / "results.json").read_text())))
    return found


def candidate(result: Any) -> Row:
    (row,) = (row for row in result.rows if row.kind == "candidate")
    return row


def test_a_board_that_is_away_leaves_the_budget_undecided(both: Any) -> None:
    done, result = both[0]
    assert done.returncode == 4, done.stderr
    row = candidate(result)
    for target in ("local", A72):
        accuracy = find(row.measurements, "accuracy", target=target, split="validation")
        assert accuracy is not None
        assert accuracy.value == 1
    for observer in ("profile", "evaluate"):
        lost = find(row.measurements, observer, target="pi")
        assert lost is not None
        assert lost.invalid
        assert "nothing listens" in lost.invalid
    assert result.verdict.state == "undecided"
    assert "pi" in result.verdict.reason
    assert "error" in result.environment["targets"]["pi"]
    assert "Traceback" not in done.stderr


def test_the_same_command_measures_what_is_missing(both: Any) -> None:
    done, result = both[1]
    assert done.returncode == 0, done.stderr
    row = candidate(result)
    assert result.winner == row.name
    assert not find(row.measurements, "profile")
    accuracy = find(row.measurements, "accuracy", target="pi", split="validation")
    assert accuracy is not None
    assert accuracy.value == 1
    latency = find(row.measurements, "latency_p50", target="pi")
    assert latency is not None
    assert latency.value > 0
    assert result.environment["targets"]["pi"]["machine"]
    before = find(candidate(both[0][1]).measurements, "latency_p50", target="local")
    after = find(row.measurements, "latency_p50", target="local")
    assert before is not None
    timed = [one for row in both[0][1].rows for one in row.measurements if one.target == "local"]
    if not any(one.invalid for one in timed):  # sound readings are not taken again
        assert after == before


def test_emulated_processors_count_instructions(both: Any) -> None:
    row = candidate(both[0][1])
    counted = find(row.measurements, "instructions", target=A72)
    assert counted is not None
    assert counted.value > 1000
    assert not find(row.measurements, "latency_p50", target=A72)


def test_a_board_keeps_its_cache_folder_only(both: Any, server: Server) -> None:
    server.wait_until_quiet()
    assert server.litter() == []
