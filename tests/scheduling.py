"""Which tests run first and together when pytest-xdist gives files to several processes."""

from __future__ import annotations

from typing import Any

import pytest

LONGEST = (
    "tests/docker/",
    "tests/test_run.py",
    "tests/test_afriberta.py",
    "tests/test_toy_modality.py",
    "tests/test_run_targets.py",
    "tests/test_targets.py",
    "tests/test_reproduce.py",
    "tests/stages/test_fuse.py",
    "tests/targets/",
    "tests/api/",
)
"""Files that take long; one of them as the last would leave the other processes idle."""
TOGETHER = ("tests/docker/",)
"""Files that share what takes long to make (`scope="session"`), so one process runs them all."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; `sort` keeps the order of all others."""

    def place(item: pytest.Item) -> int:
        found = (at for at, name in enumerate(LONGEST) if item.nodeid.startswith(name))
        return next(found, len(LONGEST))

    items.sort(key=place)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give files out in the order above; pytest-xdist itself begins with those of most tests."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Files(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return next((name for name in TOGETHER if file.startswith(name)), file)

    config.option.loadscopereorder = False
    return Files(config, log)
