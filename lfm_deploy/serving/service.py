"""A running service: the engine in its thread, the server on its socket, the warm-up, and the end without loss."""

import asyncio
import json
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from lfm_deploy.deployment.golden import Golden
from lfm_deploy.errors import ConfigError
from lfm_deploy.prediction.judges import Judge
from lfm_deploy.serving.application import Application, Phase
from lfm_deploy.serving.evidence_desk import EvidenceDesk
from lfm_deploy.serving.provenance import describe_judge
from lfm_deploy.serving.refusals import Reason, RefusalError
from lfm_deploy.serving.service_metrics import ServiceMetrics
from lfm_deploy.serving.settings import ServiceSettings
from lfm_deploy.serving.verdicts import VerdictDesk
from lfm_deploy.serving.warm_up import find_golden, warm_up

_BACKLOG = 2048


class _Protocol(HttpToolsProtocol):
    """HTTP as uvicorn speaks it, but for requests that are no HTTP: they are refused in JSON like all others."""

    def send_400_response(self, msg: str) -> None:
        """Refuse, and close the connection."""
        content = json.dumps(RefusalError(Reason.BAD_REQUEST, msg).as_dict()).encode()
        head = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\nconnection: close\r\n"
        self.transport.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        self.transport.close()


class _Server(uvicorn.Server):
    """A server that ends by itself, with all answers given, when it is asked to: exit code 0, not that of a signal."""

    def __init__(self, config: uvicorn.Config, on_exit: Callable[[], None], hurry: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_exit, self._hurry = on_exit, hurry

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to drain; a second signal ends at once."""
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self._on_exit()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what was accepted; nothing waits for pictures that cannot come any more."""
        # First uvicorn tells the connections, so that each answer says that its connection closes.
        asyncio.get_running_loop().call_soon(self._hurry)
        await super().shutdown(sockets)


def open_socket(host: str, port: int) -> socket.socket:
    """A socket to listen on.

    Args:
        host: address of this machine, or a name of it.
        port: port; 0 takes one that is free.

    Raises:
        ConfigError: the address is not of this machine, or is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        opened = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ConfigError(f"{host}:{port}: cannot be listened on: {error.strerror or error}") from None
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind(address)
        opened.listen(_BACKLOG)
    except OSError as error:
        opened.close()
        raise ConfigError(f"{host}:{port}: cannot be listened on: {error.strerror or error}") from None
    return opened


def serve_verdicts(
    open_judge: Callable[[], Judge],
    settings: ServiceSettings,
    listening: socket.socket,
    *,
    on_message: Callable[[str], None],
) -> None:
    """Serve until a signal asks to end; every request that was accepted has its answer then.

    Args:
        open_judge: function that opens the engine; called in the one thread that will touch it.
        settings: limits of the service.
        listening: socket from ``open_socket``.
        on_message: function that is given each line of text for people.

    Raises:
        DeployError: the engine cannot be opened, or does not give the logits that it should.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="engine") as engine_thread:
        judge = engine_thread.submit(open_judge).result()
        try:
            golden = find_golden(judge)
            with asyncio.Runner(loop_factory=_find_loop()) as runner:
                runner.run(_serve(judge, golden, settings, listening, engine_thread, on_message))
        finally:
            engine_thread.submit(judge.engine.close).result()


def _find_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # there is none for this system
        return None
    return uvloop.new_event_loop


async def _serve(
    judge: Judge,
    golden: Golden,
    settings: ServiceSettings,
    listening: socket.socket,
    engine_thread: ThreadPoolExecutor,
    on_message: Callable[[str], None],
) -> None:
    described: dict[str, Any] = describe_judge(judge)
    labels = {"version": described["version"], "contract_sha256": described["contract_sha256"]}
    metrics = ServiceMetrics(labels | {f"engine_{key}": value for key, value in described["engine"].items()})
    desk = VerdictDesk(judge, settings, engine_thread, on_batch=metrics.count_batch)
    evidence = EvidenceDesk(judge, settings.max_pixels, wanted=settings.evidence)
    application = Application(desk, evidence, metrics)

    def drain() -> None:
        application.phase = Phase.DRAINING
        on_message("ending: no new connections; what was accepted is answered first")

    config = uvicorn.Config(
        application.build(),
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    server = _Server(config, drain, desk.batcher.hurry)
    desk.batcher.start()
    warming = asyncio.create_task(_warm_up(application, golden, server, on_message))
    host, port = listening.getsockname()[:2]
    on_message(f"listening on http://{f'[{host}]' if ':' in host else host}:{port}")
    await server.serve(sockets=[listening])
    await desk.close()
    evidence.close()
    await warming


async def _warm_up(
    application: Application, golden: Golden, server: _Server, on_message: Callable[[str], None]
) -> None:
    """Make the service ready, or end it: an engine that is not what it should be never gives a verdict."""
    try:
        await warm_up(application.desk, golden)
    except BaseException:
        server.should_exit = True
        raise
    if application.phase is Phase.WARMING_UP:
        application.phase = Phase.READY
        on_message(f"ready: {len(golden.pictures)} golden pictures have the logits of the checkpoint")
