"""Fixtures that several rooms use; what they need is imported when they are used."""

from __future__ import annotations

import os
import signal

# Tests run side by side; on tiny models a second thread only waits, and waiting threads that spin
# take the cores of the others.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs
import pytest
from hypothesis import settings
from scheduling import (  # noqa: F401 - hooks of pytest
    pytest_collection_modifyitems,
    pytest_xdist_make_scheduler,
)

from edgecompress.collecting import collect_rarely

if TYPE_CHECKING:
    from edgecompress.values import Candidate

# Timings on one machine wait for each other. Here no time is judged, so every process of tests, of
# every checkout, has a cache of its own, with a lock of its own. Emulated processors take long to
# prepare and are kept. Processes of pytest-xdist inherit what the first one set.
CACHE = os.environ.setdefault("TESTS_CACHE", str(platformdirs.user_cache_path("edgecompress")))
WHO = f"{Path(__file__).parents[1].name}-{os.environ.get('PYTEST_XDIST_WORKER', 'alone')}"
os.environ.setdefault("EDGECOMPRESS_EMULATION", f"{CACHE}/emulation")
os.environ["XDG_CACHE_HOME"] = f"{CACHE}/tests/{WHO}"

# A shell that starts a job in the background has it ignore Ctrl-C, and all that the job starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# As in the program's own processes: the objects of PyTorch and transformers are not garbage.
collect_rarely()

# A wall time says nothing on a machine that others use too.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a test that skips for want of a program fails: CI installs what it needs."""
    report = yield
    if (
        report.skipped
        and os.environ.get("EDGECOMPRESS_NO_SKIPS")
        and not hasattr(report, "wasxfail")
    ):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, and CI must not skip: {report.longrepr}"
    return report


@pytest.fixture(scope="session", autouse=True)
def short_trials() -> None:
    """Time the variants of a stage for 0.2 s and not for 2: which one wins is not judged here.

    Nor do they run until they are stable, which on a busy machine takes three seconds.
    """
    from edgecompress.targets.measure import time_interleaved

    threads, duration_ms, *others, warmup_ms = time_interleaved.__defaults__ or ()
    assert (duration_ms, warmup_ms) == (2000, 3000)
    time_interleaved.__defaults__ = (threads, 200.0, *others, 50.0)


@pytest.fixture(scope="session")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A token classifier: `WORD_TAGS`, every other word is O."""
    from lookup_models import write_candidate

    return write_candidate(tmp_path_factory.mktemp("tagger"), "token-classification")


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    """A text classifier: the language with most words of `WORD_LANGUAGES`; external data."""
    from lookup_models import write_candidate

    folder = tmp_path_factory.mktemp("classifier")
    return write_candidate(folder, "text-classification", external=True)


@pytest.fixture
def make_bundle(tmp_path: Path) -> Callable[..., Path]:
    """Write a candidate as a bundle and give its directory; further arguments as `write_bundle`."""

    from edgecompress.bundle import write_bundle

    def make(candidate: Candidate, name: str = "bundle", **further: object) -> Path:
        recipe = {"name": "tiny", "seed": 7}
        arguments = {"recipe": recipe, "versions": {"edgecompress": "0.1.0"}} | further
        write_bundle(tmp_path / name, candidate, **arguments)
        return tmp_path / name

    return make
