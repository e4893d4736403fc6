"""Fixtures that several rooms use; what they need is imported when they are used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from edgecompress.values import Candidate


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
