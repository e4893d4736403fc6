"""Answering over HTTP with the model in a bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edgecompress.api.arguments import StrPath
from edgecompress.api.signing import verify_with_key
from edgecompress.service import require
from edgecompress.service.limits import (
    MAX_BODY_BYTES,
    MAX_BODY_BYTES_OF_FILES,
    MAX_QUEUE,
    MAX_QUEUE_OF_FILES,
    Limits,
)

DEFAULT = Limits()


@dataclass(frozen=True, slots=True)
class Served:
    """How many requests were answered before the service stopped, and how many were not."""

    answered: int
    unanswered: int

    def __str__(self) -> str:
        return f"stopped after {self.answered} answered requests; {self.unanswered} left unanswered"


def serve(
    bundle: StrPath,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    threads: int | None = None,
    workers: int | None = None,
    max_batch: int = DEFAULT.max_batch,
    max_delay_ms: float = DEFAULT.max_delay_ms,
    max_queue: int | None = None,
    max_body: int | None = None,
    max_text: int = DEFAULT.max_text,
    texts_per_request: int = DEFAULT.max_texts,
    max_connections: int = DEFAULT.max_connections,
    read_timeout: float = DEFAULT.read_timeout_s,
    timeout: float = DEFAULT.timeout_s,
    grace: float = DEFAULT.grace_s,
    key: StrPath | None = None,
    started: Callable[[str], None] | None = None,
) -> Served:
    """Answer over HTTP with the model in `bundle`: /predict, /health and /metrics.

        curl -d '{"text": "…"}' http://127.0.0.1:8000/predict

    A body holds "text" (one text), "texts" (a list of them) or "words" (one text, split already),
    or what else the bundle's task is asked about, such as "image" or "audio"; answers are those of
    `edgecompress predict --json`. SIGTERM and Ctrl-C stop accepting, answer what was accepted and
    end with exit code 0; with 1 when `grace` was too short for that.

    There is no encryption and no password: put a proxy in front of what faces a network.

    Parameters
    ----------
    bundle : path
        The bundle's directory.
    host : str
        Address to listen on; 0.0.0.0 lets everyone in who reaches this machine.
    port : int
        Port to listen on; 0 takes any free one.
    threads : int, optional
        Threads of one inference. Left out, the best number is measured once on this machine.
    workers : int, optional
        Inferences at the same time. Left out, there are as many as the cores have room for.
    max_batch : int
        A worker answers at most so many texts, images or sounds at once.
    max_delay_ms : float
        Milliseconds to wait for more texts, where the model may answer them together.
    max_queue : int, optional
        At most so many wait; a request beyond that gets 503. Left out: 256 texts, or 32 files.
    max_body : int, optional
        A request's body has at most so many bytes. Left out: 1,000,000, or 8,000,000 where files
        are sent (images, sounds).
    max_text : int
        A text has at most so many characters.
    texts_per_request : int
        A request has at most so many of them, and never more than may wait.
    max_connections : int
        At most so many connections are open; for one more, one that waits for its client is closed.
    read_timeout : float
        Seconds until a request's head has arrived, and then until its body has.
    timeout : float
        Seconds from a request's first line to its answer; after that it gets 504.
    grace : float
        Seconds to answer what was accepted, once told to stop.
    key : path, optional
        Public key: refuse a bundle that was not signed with it, before anything of it is used.
    started : callable, optional
        Given a sentence that says what is served where, once it is.

    Raises
    ------
    EdgeCompressError
        When the bundle is damaged or the address cannot be taken.
    """
    require()
    from edgecompress.runtime import load
    from edgecompress.runtime.threads import usable_cores
    from edgecompress.service.answering import answerer
    from edgecompress.service.app import Service
    from edgecompress.service.questions import inputs_of, sends_files
    from edgecompress.service.server import bind, run, served

    place = Path(bundle)
    if key is not None:
        verify_with_key(place, key, evidence=False)
    with bind(host, port) as listener:
        predictor = load(place, threads=threads or "auto", verify=key is None)
        workers = workers or max(1, usable_cores() // predictor.threads)
        together = predictor.batch > 1
        known = served(place, predictor)
        files = sends_files(known.task)
        limits = Limits(
            max_batch=max_batch,
            max_delay_ms=max_delay_ms,
            max_queue=max_queue or (MAX_QUEUE_OF_FILES if files else MAX_QUEUE),
            max_body_bytes=max_body or (MAX_BODY_BYTES_OF_FILES if files else MAX_BODY_BYTES),
            max_text=max_text,
            max_texts=texts_per_request,
            max_connections=max_connections,
            read_timeout_s=read_timeout,
            timeout_s=timeout,
            grace_s=grace,
        )
        service = Service(
            known,
            answerer(predictor),
            limits,
            workers=workers,
            together=together,
        )
        what = f"{service.served.name} ({service.served.task})"
        inputs = inputs_of(known.task)
        how = f"{_count(workers, 'worker')} of {_count(predictor.threads, 'thread')}, " + (
            f"{inputs} together" if together else f"one {inputs.removesuffix('s')} at a time"
        )
        tell = started or (lambda _said: None)
        stopped = run(service, listener, lambda at: tell(f"serving {what} on {at} ({how})"))
    return Served(stopped.answered, stopped.unanswered)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
