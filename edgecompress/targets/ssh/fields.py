"""The settings of a board over SSH."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from edgecompress.targets.spec import TargetFields


class SshFields(TargetFields):
    """How a board is reached, and what is used there."""

    url: str
    """``ssh://user@host:port``."""
    python: str | None = None
    """The board's Python; else the one that `targets prepare` made, else python3."""
    cache: str | None = None
    """The only folder that is written to there; else ``~/.cache/edgecompress``."""
    key: Path | None = None
    """Private key; else those of ~/.ssh/config, the agent and ~/.ssh."""
    known_hosts: Path | None = None
    """Else ~/.ssh/known_hosts."""
    connect_timeout_s: float = Field(default=10.0, gt=0)
    """Longest wait for a connection."""
    idle_timeout_s: float = Field(default=120.0, gt=0)
    """Longest silence of a connected board."""
