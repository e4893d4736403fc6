"""What is said of this machine, and what is not."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import numpy

from edgecompress.targets.machine import environment, fingerprint


def test_environment() -> None:
    found = environment()
    assert found["cores"] >= 1
    assert found["machine"] == platform.machine()
    assert found["libraries"]["numpy"] == numpy.__version__
    assert found["flags"] == sorted(found["flags"])
    assert found["memory_bytes"] > 2**28


def test_environment_names_no_person_and_no_place() -> None:
    text = json.dumps(environment())
    assert str(Path.home()) not in text
    assert str(Path.cwd()) not in text


def test_fingerprint_is_stable() -> None:
    assert fingerprint() == fingerprint()
    assert len(fingerprint()) == 64
