"""What ``/metrics`` says, in Prometheus form; names end in their unit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import (
    CONTENT_TYPE_PLAIN_0_0_4,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import choose_encoder

# From a tenth of a small model's inference to the default deadline.
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_TEXTS = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """All that is counted; in a registry of its own, so that several services can share a process.

    Attributes
    ----------
    requests : Counter
        ``edgecompress_requests_total``, by path and status; 499 is a client that went away.
    latency : Histogram
        ``edgecompress_request_seconds``: `/predict`, from the request's first line to its answer.
    batches : Histogram
        ``edgecompress_batch_texts``: how many texts a worker took at once.
    inference : Histogram
        ``edgecompress_batch_seconds``: how long it took to answer what it took.
    texts : Counter
        ``edgecompress_texts_total``: texts that were answered.
    closed : Counter
        ``edgecompress_closed_connections_total``, by reason: ``no request`` in time, ``answer not
        read``, ``made room`` for another, ``no room`` for a new one.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "edgecompress_requests",
            "Requests by path and status.",
            ("path", "status"),
            registry=registry,
        )
        self.latency = Histogram(
            "edgecompress_request_seconds",
            "Time from a /predict request to its answer.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.batches = Histogram(
            "edgecompress_batch_texts",
            "Texts that a worker took from the queue at once.",
            buckets=_TEXTS,
            registry=registry,
        )
        self.inference = Histogram(
            "edgecompress_batch_seconds",
            "Time a worker needed for the texts that it took at once.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.texts = Counter("edgecompress_texts", "Texts that were answered.", registry=registry)
        self.closed = Counter(
            "edgecompress_closed_connections",
            "Connections that the service ended, by reason.",
            ("reason",),
            registry=registry,
        )
        self._connections = Gauge(
            "edgecompress_connections", "Open connections.", registry=registry
        )
        self._in_flight = Gauge(
            "edgecompress_in_flight_requests",
            "Requests to /predict that are being read, wait or are being answered.",
            registry=registry,
        )
        self._queue = Gauge(
            "edgecompress_queue_texts", "Texts that wait for a worker.", registry=registry
        )
        self._model = Info("edgecompress_model", "The bundle that answers.", registry=registry)
        ProcessCollector(registry=registry)

    def watch(
        self,
        *,
        in_flight: Callable[[], int],
        queue: Callable[[], int],
        connections: Callable[[], int],
        model: Mapping[str, str],
    ) -> None:
        """Name what is read when somebody asks: the gauges, and what the bundle is."""
        self._in_flight.set_function(in_flight)
        self._queue.set_function(queue)
        self._connections.set_function(connections)
        self._model.info(dict(model))

    def document(self, accept: str) -> tuple[bytes, str]:
        """Give the text and its content type, in the form that the `Accept` header prefers.

        A header that cannot be understood gets Prometheus' text form.
        """
        try:
            encode, content_type = choose_encoder(accept)
            return encode(self.registry), content_type
        except (ValueError, TypeError):  # a version that is no number
            return generate_latest(self.registry), CONTENT_TYPE_PLAIN_0_0_4
