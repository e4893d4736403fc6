"""docs/service.md names what there is: every option with its default, and every metric."""

from __future__ import annotations

import re
from pathlib import Path

from edgecompress.cli.serve import serve as command
from edgecompress.service.metrics import Metrics

TEXT = (Path(__file__).parents[2] / "docs" / "service.md").read_text(encoding="utf-8")


def rows(first: str) -> list[str]:
    return [line for line in TEXT.splitlines() if line.startswith(f"| `{first}")]


def test_every_option_is_there_with_its_default() -> None:
    named = " ".join(rows("--"))
    for option in command.params:
        if option.param_type_name != "option":
            continue
        assert f"`{option.opts[0]}`" in named
        if isinstance(option.default, int | float | str):
            shown = f"{option.default:,}" if type(option.default) is int else f"{option.default}"
            shown = shown.removesuffix(".0")
            assert shown.replace("8,000", "8000") in named, option.opts[0]


def test_every_metric_is_there() -> None:
    metrics = Metrics()
    metrics.watch(in_flight=lambda: 0, queue=lambda: 0, connections=lambda: 0, model={"name": "a"})
    names = {
        family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in metrics.registry.collect()
        if not family.name.startswith("process_")
    }
    assert names == set(re.findall(r"`(edgecompress_\w+)", " ".join(rows("edgecompress_"))))
