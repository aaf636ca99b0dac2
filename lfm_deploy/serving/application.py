"""The service as an application of Starlette: which path is answered by whom, and errors as JSON."""

import json
import logging
from enum import StrEnum
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lfm_deploy.prediction.rows import RowFormat, write_rows
from lfm_deploy.serving.bodies import BodyReader, split_files
from lfm_deploy.serving.evidence_desk import EvidenceDesk
from lfm_deploy.serving.inference_endpoints import Endpoint, InferenceEndpoints
from lfm_deploy.serving.open_api import describe_api
from lfm_deploy.serving.pages import make_documentation, make_page, page_headers
from lfm_deploy.serving.provenance import describe_judge
from lfm_deploy.serving.refusals import Reason, RefusalError
from lfm_deploy.serving.service_metrics import CONTENT_TYPE, ServiceMetrics
from lfm_deploy.serving.verdicts import Verdict, VerdictDesk

_LOG = logging.getLogger("lfm_deploy.serving")
_JSON = "application/json"


class Phase(StrEnum):
    """Where a service is in its life."""

    WARMING_UP = "warming up"
    READY = "ready"
    DRAINING = "draining"


class Application:
    """Answers requests by a desk.

    Attributes:
        desk: desk that gives the verdicts.
        evidence: desk that draws where they came from.
        metrics: counters of the service.
        bodies: reader of requests' bodies.
        phase: phase that decides whether pictures are taken.
    """

    def __init__(self, desk: VerdictDesk, evidence: EvidenceDesk, metrics: ServiceMetrics) -> None:
        self.desk, self.evidence, self.metrics = desk, evidence, metrics
        self.bodies = BodyReader(desk.settings)
        self.phase = Phase.WARMING_UP
        provenance = describe_judge(desk.judge)
        self._provenance = json.dumps(provenance).encode()[1:]
        self._document = describe_api(desk.settings, evidence=evidence.available)
        self._page = make_page(provenance, evidence=evidence.available)
        self._documentation = make_documentation(self._document)
        self._inference = InferenceEndpoints(
            desk, self.bodies, metrics, provenance, lambda: self.phase is Phase.READY, self.require_ready
        )
        metrics.watch("lfm_queue_pictures", "Pictures that are on their way or wait.", lambda: desk.batcher.reserved)
        metrics.watch("lfm_held_bytes", "Bytes of bodies in memory.", lambda: self.bodies.held)

    def build(self) -> ASGIApp:
        """The application, to be run by a server."""
        endpoints: dict[str, tuple[str, Endpoint]] = {
            "/": ("GET", self._show_page),
            "/docs": ("GET", self._show_documentation),
            "/openapi.json": ("GET", self._show_document),
            "/v1/verdict": ("POST", self._give_verdicts),
            "/v1/evidence": ("POST", self._draw_evidence),
            "/healthz": ("GET", self._say_alive),
            "/readyz": ("GET", self._say_ready),
            "/metrics": ("GET", self._show_metrics),
        } | self._inference.list_endpoints()
        routes = [Route(path, endpoint, methods=[method]) for path, (method, endpoint) in endpoints.items()]
        handlers: dict[Any, Any] = {RefusalError: self._refuse, HTTPException: self._refuse_http, Exception: self._fail}
        app = Starlette(routes=routes, exception_handlers=handlers)
        return self.metrics.count_requests(app, frozenset(endpoints))

    def require_ready(self) -> None:
        """Refuse to judge before the warm-up has shown that the engine is the one it should be."""
        if self.phase is Phase.WARMING_UP:
            raise RefusalError(Reason.NOT_READY, "warming up; ask again in 1 s", retry_after_s=1)

    async def _give_verdicts(self, request: Request) -> Response:
        self.require_ready()
        async with self.bodies.read(request) as body:
            files = await split_files(request, body, self.desk.settings.max_queue)
            verdicts = await self.desk.judge_files(files)
        self.metrics.count_rows(verdict.row for verdict in verdicts)
        for verdict in verdicts:
            if verdict.refusal is not None:
                self.metrics.count_refusal(verdict.refusal.reason)
        return self._answer(verdicts)

    def _answer(self, verdicts: list[Verdict]) -> Response:
        """One row each; where not one could be judged, with the status and the words of the first refusal."""
        rows = write_rows([verdict.row for verdict in verdicts], RowFormat.JSONL).splitlines()
        first = verdicts[0].refusal
        refused = first if first is not None and all(verdict.refusal is not None for verdict in verdicts) else None
        opening = b"{" if refused is None else json.dumps(refused.as_dict()).encode()[:-1] + b", "
        content = opening + b'"rows": [' + b", ".join(rows) + b"], " + self._provenance
        if refused is None:
            return Response(content, media_type=_JSON)
        return Response(content, refused.status, refused.headers, _JSON)

    async def _draw_evidence(self, request: Request) -> Response:
        self.require_ready()
        async with self.bodies.read(request) as body:
            files = await split_files(request, body, 1)
            return Response(await self.evidence.draw(files[0][1]), media_type="image/png")

    async def _show_page(self, _: Request) -> Response:
        return HTMLResponse(self._page, headers=page_headers(self._page))

    async def _show_documentation(self, _: Request) -> Response:
        return HTMLResponse(self._documentation, headers=page_headers(self._documentation))

    async def _show_document(self, _: Request) -> Response:
        return JSONResponse(self._document)

    async def _say_alive(self, _: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _say_ready(self, _: Request) -> Response:
        return JSONResponse({"status": str(self.phase)}, 200 if self.phase is Phase.READY else 503)

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self.metrics.as_text(), headers={"Content-Type": CONTENT_TYPE})

    async def _refuse(self, request: Request, refusal: RefusalError) -> Response:
        self.metrics.count_refusal(refusal.reason)
        headers = refusal.headers
        if refusal.reason is Reason.SLOW_BODY or "transfer-encoding" in request.headers:
            headers |= {"Connection": "close"}  # what may still come of the body has no end that is known
        return JSONResponse(refusal.as_dict(), refusal.status, headers)

    async def _refuse_http(self, request: Request, error: HTTPException) -> Response:
        reason = Reason.METHOD if error.status_code == 405 else Reason.NOT_FOUND
        message = f"{request.method} {request.url.path}: {error.detail}; see /docs"
        self.metrics.count_refusal(reason)
        return JSONResponse({"error": message, "reason": str(reason)}, error.status_code, error.headers)

    async def _fail(self, request: Request, error: Exception) -> Response:
        self.metrics.count_refusal(Reason.INTERNAL)
        _LOG.error("%s %s: %s: %s", request.method, request.url.path, type(error).__name__, error)
        refusal = RefusalError(Reason.INTERNAL, "the service failed; its log says more")
        return JSONResponse(refusal.as_dict(), refusal.status)
