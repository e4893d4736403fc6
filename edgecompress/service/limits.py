"""What the service allows: sizes, waiting, time. Every bound that a client can meet is here."""

from __future__ import annotations

from dataclasses import dataclass

MAX_QUEUE = 256
MAX_BODY_BYTES = 1_000_000
MAX_QUEUE_OF_FILES = 32
MAX_BODY_BYTES_OF_FILES = 8_000_000
"""Where files are sent: a photo of a phone, three minutes of sound. All that waits holds no more
memory than texts do."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one service; beyond them a request is refused in words, and never half answered.

    Attributes
    ----------
    max_batch : int
        Most inputs (texts, images, sounds) that a worker takes from the queue in one go.
    max_delay_ms : float
        How long a worker waits for more to join the first, where answering them together
        is quicker and changes no answer.
    max_queue : int
        Most inputs that wait; a request that would not fit is answered with 503.
    max_body_bytes : int
        Largest body of a request.
    max_text : int
        Most characters of one text, or of one text's words joined by blanks.
    max_texts : int
        Most inputs in one request; never more than `max_queue`.
    max_connections : int
        Most open connections; beyond, one that waits for its client makes room.
    read_timeout_s : float
        Most time until a request's head has arrived, and then until its body has.
    timeout_s : float
        Most time from a request's first line to its answer.
    grace_s : float
        Most time from SIGTERM to the end.
    """

    max_batch: int = 16
    max_delay_ms: float = 2.0
    max_queue: int = MAX_QUEUE
    max_body_bytes: int = MAX_BODY_BYTES
    max_text: int = 100_000
    max_texts: int = 64
    max_connections: int = 1000  # below the usual limit of 1024 open files
    read_timeout_s: float = 10.0
    timeout_s: float = 30.0
    grace_s: float = 20.0

    @property
    def texts_per_request(self) -> int:
        """Most inputs that one request can have answered: what the queue cannot hold never is."""
        return min(self.max_texts, self.max_queue)
