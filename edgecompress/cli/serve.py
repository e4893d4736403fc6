"""``edgecompress serve BUNDLE``: answer over HTTP."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from edgecompress.cli._functions import command_of
from edgecompress.cli._values import number, whole
from edgecompress.service.limits import Limits

_DEFAULT = Limits()
_SECONDS = number(0, 86_400, above=True)


def _limit(default: float, kind: click.ParamType[Any] | None = None) -> dict[str, Any]:
    metavar = "SECONDS" if kind is _SECONDS else "N"
    given = {"type": kind} if kind else {}
    return {"default": default, "show_default": True, "metavar": metavar, **given}


@command_of(
    "serving.serve",
    changes={
        "port": {"type": whole(0, 65_535), "metavar": "N"},
        "max_batch": _limit(_DEFAULT.max_batch),
        "max_delay_ms": _limit(_DEFAULT.max_delay_ms, number(0, 60_000)),
        "max_queue": {"type": whole(1), "metavar": "N"},
        "max_body": {"type": whole(1), "metavar": "N"},
        "max_text": _limit(_DEFAULT.max_text),
        "texts_per_request": _limit(_DEFAULT.max_texts),
        "max_connections": _limit(_DEFAULT.max_connections),
        "read_timeout": _limit(_DEFAULT.read_timeout_s, _SECONDS),
        "timeout": _limit(_DEFAULT.timeout_s, _SECONDS),
        "grace": _limit(_DEFAULT.grace_s, _SECONDS),
        "started": None,
    },
)
def serve(function: Any, **options: Any) -> None:
    """Say what is served where, and how it ended."""
    served = function(**options, started=_say)
    _say(str(served))
    if served.unanswered:
        # A thread is still computing, and Python would wait for it: the grace is over.
        sys.stderr.flush()
        os._exit(1)


def _say(text: str) -> None:
    click.echo(f"edgecompress: {text}", err=True)
