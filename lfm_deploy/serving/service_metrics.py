"""What the service counts, for Prometheus: requests, batches, the queue, verdicts and refusals."""

import time
from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lfm_deploy.prediction.rows import Prediction

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class ServiceMetrics:
    """Counters of one service, in a registry of their own.

    Attributes:
        registry: registry that holds them.
    """

    def __init__(self, info: Mapping[str, str]) -> None:
        """Begin at zero.

        Args:
            info: labels that say what is served, such as the engine's hash.
        """
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        known = Gauge("lfm_info", "What is served.", list(info), registry=self.registry)
        known.labels(**info).set(1)
        self._requests = Counter("lfm_requests", "Requests.", ["endpoint", "status"], registry=self.registry)
        self._seconds = Histogram(
            "lfm_request_seconds",
            "Time from a request's head to the end of its answer.",
            ["endpoint"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self._verdicts = Counter("lfm_pictures", "Pictures by verdict.", ["verdict"], registry=self.registry)
        self._refusals = Counter("lfm_refusals", "Refusals by reason.", ["reason"], registry=self.registry)
        self._batch_sizes = Histogram(
            "lfm_batch_pictures", "Pictures in a batch.", buckets=_BATCHES, registry=self.registry
        )
        self._batch_seconds = Histogram(
            "lfm_batch_seconds", "Time of the engine for a batch.", buckets=_SECONDS, registry=self.registry
        )

    def watch(self, name: str, what: str, value: Callable[[], float]) -> None:
        """Show a figure that somebody else keeps."""
        Gauge(name, what, registry=self.registry).set_function(value)

    def count_batch(self, pictures: int, seconds: float) -> None:
        """Count a batch of the engine."""
        self._batch_sizes.observe(pictures)
        self._batch_seconds.observe(seconds)

    def count_rows(self, rows: Iterable[Prediction]) -> None:
        """Count verdicts."""
        for row in rows:
            self._verdicts.labels(row.verdict or "not judged").inc()

    def count_refusal(self, reason: str) -> None:
        """Count a request, or a picture of one, that was refused."""
        self._refusals.labels(reason).inc()

    def as_text(self) -> bytes:
        """All figures, as Prometheus reads them."""
        return generate_latest(self.registry)

    def count_requests(self, app: ASGIApp, endpoints: frozenset[str]) -> ASGIApp:
        """The same application, its requests counted; paths that are not among the endpoints count together."""

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await app(scope, receive, send)
                return
            endpoint = scope["path"] if scope["path"] in endpoints else "other"
            started, status = time.monotonic(), 500

            async def noted(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                self._requests.labels(endpoint, str(status)).inc()
                self._seconds.labels(endpoint).observe(time.monotonic() - started)

        return counted
