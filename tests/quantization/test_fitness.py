"""What 8 bits cannot hold stays in fp32: the kinds of `odd_graphs`, and each rule by itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import odd_graphs
import pytest
from helpers import small_context
from onnx import helper

from edgecompress.errors import EdgeCompressError
from edgecompress.quantization.graphs.regions import UNLIKE, find_regions, unlike_joins
from edgecompress.quantization.plan.fitness import (
    MOST_LOST,
    TABLE_NOT_FINITE,
    UNLIKE_ROWS,
    lost_in_blocks,
    lost_share,
    read_exactly,
    table_form,
)
from edgecompress.stage import stage_class
from edgecompress.values import Candidate, OnnxModel

NOTHING = ("no layer", "nothing")
COUNTS = {"long_sums": 1, "external": 5}


@pytest.mark.parametrize("kind", odd_graphs.KINDS)
def test_no_scheme_is_wrong_in_silence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_right = refused = 0
    for case in list(odd_graphs.cases(kind, COUNTS.get(kind, 3), tmp_path)):
        for name, (stage, fields) in odd_graphs.SCHEMES.items():
            if stage == "quantize.static":
                fields = {**fields, "inputs": str(case.calibration)}
            monkeypatch.chdir(case.decoy or tmp_path)
            context = small_context(case.calibration.parent / name.replace(" ", "_"))
            try:
                made = stage_class(stage)(**fields).apply(Candidate(OnnxModel(case.model)), context)
            except EdgeCompressError as error:
                assert str(error) and "Traceback" not in str(error)
                refused += not any(word in str(error) for word in NOTHING)
                continue
            assert not case.refused, f"{case.model} {name}"
            found = odd_graphs.wrong(case, made.model.path)
            assert not found, f"{case.model} {name}: {found}"
            made_right += 1
    assert made_right >= 4 and (refused > 0) == (kind == "external")


def test_a_table_takes_the_form_that_loses_little() -> None:
    random = np.random.default_rng(0)
    plain = random.standard_normal((300, 32)).astype(np.float32)
    assert table_form(plain) == ("table", "")
    assert table_form(np.zeros((4, 8), np.float32)) == ("table", "")
    rows = (plain * 10.0 ** random.uniform(-3, 2, (300, 1))).astype(np.float32)
    assert table_form(rows) == ("rows", "")
    assert table_form(rows, ("table",)) == ("", UNLIKE_ROWS)
    columns = (plain * 10.0 ** random.uniform(-4, 2, (1, 32))).astype(np.float32)
    assert table_form(columns) == ("", UNLIKE_ROWS)
    for odd in (np.inf, -np.inf, np.nan):
        broken = plain.copy()
        broken[3, 4] = odd
        assert table_form(broken) == ("", TABLE_NOT_FINITE)
    hidden = np.triu(np.full((32, 32), -1e9, np.float32), 1)
    assert table_form(hidden) == ("table", "")  # two values are exact
    biased = np.where(hidden == 0, plain[:32], hidden)
    assert table_form(biased) == ("", UNLIKE_ROWS)


def test_a_few_lost_rows_are_no_reason() -> None:
    """Words that no text has seen stay as small as they were made."""
    random = np.random.default_rng(0)
    table = random.standard_normal((400, 64)).astype(np.float32)
    table[:60] *= 1e-4
    assert 0.1 < lost_share(table, "table") < MOST_LOST
    assert lost_share(table, "rows") == 0
    assert lost_in_blocks(table, 32) < MOST_LOST


def test_what_reads_a_table_decides() -> None:
    make = helper.make_node
    nodes = [
        make("Unsqueeze", ["rows", "axes"], ["a"]),
        make("Mul", ["a", "half"], ["b"]),
        make("Concat", ["b", "b"], ["c"], axis=-1),
        make("Cos", ["c"], ["d"]),
        make("MatMul", ["words", "w"], ["e"]),
        make("Exp", ["e"], ["f"]),
        make("Cast", ["ranks"], ["g"], to=7),
        make("Cast", ["rates"], ["h"], to=10),
        make("Add", ["sum", "words"], ["i"]),
        make("Exp", ["i"], ["j"]),
    ]
    consumers: dict[str, list] = {}
    for node in nodes:
        for name in node.input:
            consumers.setdefault(name, []).append(node)
    found = {
        name: read_exactly(name, consumers, {"half", "axes", "w"})
        for name in ("rows", "words", "ranks", "rates", "sum")
    }
    assert found == {
        "rows": "Cos", "words": "", "ranks": "Cast to whole numbers", "rates": "", "sum": "",
    }  # fmt: skip


def test_unlike_tensors_share_no_scale() -> None:
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "w"], ["boxes"], "first"),
        make("Conv", ["x", "w"], ["scores"], "second"),
        make("Concat", ["boxes", "scores"], ["joined"], "join", axis=1),
        make("Relu", ["joined"], ["kept"], "relu"),
        make("Reshape", ["kept", "shape"], ["flat"], "reshape"),
        make("Conv", ["flat", "w"], ["y"], "third"),
        make("Mul", ["boxes", "scores"], ["z"], "product"),
        make("Reshape", ["z", "shape"], ["z_flat"], "last"),
    ]
    convolutions = {"first", "second", "third"}
    whole = find_regions(nodes, ["y", "z_flat"], convolutions)
    # A product that becomes an output, here behind a Reshape, is not rounded.
    assert set(whole.sources) == {"x", "boxes", "scores", "kept", "flat", "y"}
    alike = {"boxes": (-4.0, 4.0), "scores": (0.0, 1.0)}
    assert unlike_joins(nodes, whole, alike) == {}
    apart = unlike_joins(nodes, whole, {"boxes": (-300.0, 300.0), "scores": (0.0, 1.0)})
    assert apart == {"joined": UNLIKE}
    found = find_regions(nodes, ["y", "z_flat"], convolutions, apart)
    assert set(found.sources) == {"x", "boxes", "scores"}
    assert found.left == {"third": UNLIKE}
