"""``edgecompress serve BUNDLE``: answer over HTTP."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from edgecompress.cli._options import KEY
from edgecompress.service.limits import Limits

_DEFAULT = Limits()
_COUNT = click.IntRange(min=1)
_SECONDS = click.FloatRange(min=0, min_open=True, max=86_400)


@click.command(name="serve")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; 0.0.0.0 lets everyone in who reaches this machine.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 takes any free one.",
)
@click.option(
    "--threads",
    type=_COUNT,
    help="Threads within an inference; default: measured once on this machine.",
)
@click.option(
    "--workers",
    type=_COUNT,
    help="Inferences at the same time; default: as many as the cores have room for.",
)
@click.option(
    "--max-batch",
    type=_COUNT,
    default=_DEFAULT.max_batch,
    show_default=True,
    help="Most texts that a worker takes at once.",
)
@click.option(
    "--max-delay-ms",
    type=click.FloatRange(min=0, max=60_000),
    default=_DEFAULT.max_delay_ms,
    show_default=True,
    help="How long to wait for more texts, where the model may answer them together.",
)
@click.option(
    "--max-queue",
    type=_COUNT,
    default=_DEFAULT.max_queue,
    show_default=True,
    help="Most texts that wait; beyond, requests get 503.",
)
@click.option(
    "--max-body",
    type=_COUNT,
    default=_DEFAULT.max_body_bytes,
    show_default=True,
    help="Most bytes of a request's body.",
)
@click.option(
    "--max-text",
    type=_COUNT,
    default=_DEFAULT.max_text,
    show_default=True,
    help="Most characters of a text.",
)
@click.option(
    "--texts-per-request",
    type=_COUNT,
    default=_DEFAULT.max_texts,
    show_default=True,
    help="Most texts in one request; never more than the queue holds.",
)
@click.option(
    "--max-connections",
    type=_COUNT,
    default=_DEFAULT.max_connections,
    show_default=True,
    help="Most open connections; beyond, one that waits for its client makes room.",
)
@click.option(
    "--read-timeout",
    type=_SECONDS,
    default=_DEFAULT.read_timeout_s,
    show_default=True,
    help="Seconds until a request's head has arrived, and then until its body has.",
)
@click.option(
    "--timeout",
    type=_SECONDS,
    default=_DEFAULT.timeout_s,
    show_default=True,
    help="Seconds from a request's first line to its answer; beyond, 504.",
)
@click.option(
    "--grace",
    type=_SECONDS,
    default=_DEFAULT.grace_s,
    show_default=True,
    help="Seconds to answer what was accepted, once told to stop.",
)
@KEY
def command(**options: Any) -> None:
    """Answer over HTTP with the model in BUNDLE: /predict, /health and /metrics.

    \b
    curl -d '{"text": "…"}' http://127.0.0.1:8000/predict

    A body holds "text" (one text), "texts" (a list of them) or "words" (one text, split already);
    answers are those of `edgecompress predict --json`. SIGTERM and Ctrl-C stop accepting, answer
    what was accepted and end with exit code 0; with 1 when --grace was too short for that.

    There is no encryption and no password: put a proxy in front of what faces a network.
    """  # noqa: D301 - click's own mark for a line to leave alone
    from edgecompress.api.serving import serve

    served = serve(**options, started=_say)
    _say(str(served))
    if served.unanswered:
        # A thread is still computing, and Python would wait for it: the grace is over.
        sys.stderr.flush()
        os._exit(1)


def _say(text: str) -> None:
    click.echo(f"edgecompress: {text}", err=True)
