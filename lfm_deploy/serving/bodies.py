"""Bodies of requests: bounded in size, in time and all together, before anybody looks inside."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from lfm_deploy.serving.refusals import Reason, RefusalError
from lfm_deploy.serving.settings import ServiceSettings

_UNNAMED = "picture"
_RETRY_S = 1


class BodyReader:
    """Reads bodies and counts what is held of them.

    Attributes:
        held: bytes of all bodies that are in memory.
    """

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self.held = 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[bytes]:
        """The whole body; it counts as held until the block ends.

        Raises:
            RefusalError: the body is too large, or too slow, or there is no room for it now.
        """
        declared = request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > self._settings.max_body_bytes:
            raise self._refuse_size(f"{declared} bytes")
        held = 0
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(self._settings.body_seconds):
                    async for part in request.stream():
                        held += len(part)
                        self.held += len(part)
                        self._check(held)
                        parts.append(part)
            except TimeoutError:
                message = f"the body did not come within {self._settings.body_seconds:g} s"
                raise RefusalError(Reason.SLOW_BODY, message) from None
            except ClientDisconnect:
                raise RefusalError(Reason.BAD_REQUEST, "the connection ended before the body did") from None
            body = b"".join(parts)
            parts.clear()
            yield body
        finally:
            self.held -= held

    def _check(self, size: int) -> None:
        """Refuse a body that has grown too large, or that there is no room for; a body that is alone has its room."""
        if size > self._settings.max_body_bytes:
            raise self._refuse_size("more bytes")
        if self._settings.max_held_bytes < self.held != size:
            message = f"bodies of {self.held} bytes are being held; ask again in {_RETRY_S} s"
            raise RefusalError(Reason.QUEUE_FULL, message, retry_after_s=_RETRY_S)

    def _refuse_size(self, size: str) -> RefusalError:
        most = self._settings.max_body_bytes
        return RefusalError(Reason.BODY_TOO_LARGE, f"a body of {size}, expected at most {most}")


class _InMemory(MultiPartParser):
    """The body is in memory already; a copy on the disk would help nobody."""

    spool_max_size = 1 << 62


async def split_files(request: Request, body: bytes, most: int) -> list[tuple[str, bytes]]:
    """Name and bytes of each picture: the body itself, or the files of a form.

    Args:
        request: request whose headers and query say how the body is to be read.
        body: body, whole.
        most: number of files at most.

    Raises:
        RefusalError: the form is damaged, holds no file or too many.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return [(request.query_params.get("name", _UNNAMED), body)]

    async def whole() -> AsyncGenerator[bytes, None]:
        yield body
        yield b""

    parser = _InMemory(request.headers, whole(), max_files=most, max_fields=most, max_part_size=len(body) + 1)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        message = f"the form cannot be read: {getattr(error, 'message', error)}"
        raise RefusalError(Reason.BAD_REQUEST, message) from None
    files = []
    for _, value in form.multi_items():
        if not isinstance(value, str):
            files.append((value.filename or _UNNAMED, await value.read()))
    await form.close()
    if not files:
        raise RefusalError(Reason.BAD_REQUEST, "the form holds no file; send pictures as files, or one as the body")
    return files
