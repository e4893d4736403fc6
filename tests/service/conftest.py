"""Bundles to serve, and a way to start a service on one."""

from __future__ import annotations

from pathlib import Path

import pytest
from serving import Start, running

from edgecompress.bundle import write_bundle
from edgecompress.values import Candidate


@pytest.fixture
def start() -> Start:
    """Give `running`."""
    return running


def _bundle(folder: Path, candidate: Candidate) -> Path:
    write_bundle(folder / "bundle", candidate, {"name": "tiny"}, {"edgecompress": "0.1.0"})
    return folder / "bundle"


@pytest.fixture(scope="session")
def tags_bundle(tagger: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that tags words."""
    return _bundle(tmp_path_factory.mktemp("tags"), tagger)


@pytest.fixture(scope="session")
def languages_bundle(classifier: Candidate, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that classifies texts."""
    return _bundle(tmp_path_factory.mktemp("languages"), classifier)
