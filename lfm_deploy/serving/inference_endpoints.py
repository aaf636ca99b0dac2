"""Endpoints of the Open Inference Protocol, answered by the same desk as all others."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from lfm_deploy.serving.bodies import BodyReader
from lfm_deploy.serving.open_inference import (
    HEADER_LENGTH,
    MODEL,
    VERSION,
    describe_configuration,
    describe_model,
    describe_server,
    read_request,
    write_answer,
)
from lfm_deploy.serving.service_metrics import ServiceMetrics
from lfm_deploy.serving.verdicts import VerdictDesk

Endpoint = Callable[[Request], Awaitable[Response]]


class InferenceEndpoints:
    """Answers what clients of Triton and KServe ask."""

    def __init__(
        self,
        desk: VerdictDesk,
        bodies: BodyReader,
        metrics: ServiceMetrics,
        provenance: dict[str, Any],
        is_ready: Callable[[], bool],
        require_ready: Callable[[], None],
    ) -> None:
        """Prepare the answers that never change.

        Args:
            desk: desk that gives the verdicts.
            bodies: reader of requests' bodies.
            metrics: counters of the service.
            provenance: engine and contract with their hashes.
            is_ready: function that says whether pictures are taken.
            require_ready: function that refuses where they are not taken yet.
        """
        self._desk, self._bodies, self._metrics = desk, bodies, metrics
        self._is_ready, self._require_ready = is_ready, require_ready
        contract = desk.judge.engine.contract
        self._server = describe_server(provenance["version"])
        self._model = describe_model(contract, provenance)
        self._configuration = describe_configuration(contract, desk.judge.batch)

    def list_endpoints(self) -> dict[str, tuple[str, Endpoint]]:
        """Method and function of each path; a model may be asked for by its version, too."""
        found: dict[str, tuple[str, Endpoint]] = {
            "/v2": ("GET", self._describe(self._server)),
            "/v2/health/live": ("GET", self._say_live),
            "/v2/health/ready": ("GET", self._say_ready),
        }
        for model in (f"/v2/models/{MODEL}", f"/v2/models/{MODEL}/versions/{VERSION}"):
            found |= {
                model: ("GET", self._describe(self._model)),
                f"{model}/ready": ("GET", self._say_ready),
                f"{model}/config": ("GET", self._describe(self._configuration)),
                f"{model}/infer": ("POST", self._infer),
            }
        return found

    def _describe(self, values: dict[str, Any]) -> Endpoint:
        async def answer(_: Request) -> Response:
            return JSONResponse(values)

        return answer

    async def _say_live(self, _: Request) -> Response:
        return JSONResponse({"live": True})

    async def _say_ready(self, _: Request) -> Response:
        ready = self._is_ready()
        return JSONResponse({"ready": ready}, 200 if ready else 503)

    async def _infer(self, request: Request) -> Response:
        self._require_ready()
        async with self._bodies.read(request) as body:
            length, engine = request.headers.get(HEADER_LENGTH), self._desk.judge.engine
            # Millions of numbers in JSON take a while, in which others want answers.
            asked = await asyncio.to_thread(read_request, body, length, engine)
            rows = await self._desk.judge_pixels(asked.images)
        self._metrics.count_rows(rows)
        content, headers = write_answer(asked, np.array([row.logit for row in rows], dtype=np.float32))
        return Response(content, headers=headers)
