"""Read the body of a request, with a bound on its bytes, on its time, and on the bytes of all that are being read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus

from starlette.requests import Request

from serving.domain.deadline import Deadline
from serving.domain.errors import Overloaded
from serving.online.rest.status import Refused


class Bodies:
    """Read bodies of at most `max_bytes`; all that are being read together have at most `max_held`."""

    def __init__(self, max_bytes: int, max_held: int, observe_refusal: Callable[[str], None]) -> None:
        self._max_bytes = max_bytes
        self._max_held = max(max_held, max_bytes)
        self._observe_refusal = observe_refusal
        self._held = 0

    async def read(self, request: Request, deadline: Deadline) -> bytes:
        """Return the body.

        :raises Refused: it is too large, encoded, or did not come in time
        :raises Overloaded: too many bytes are being read
        """
        if (encoding := request.headers.get("content-encoding", "identity")) != "identity":
            raise Refused(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                f"content-encoding {encoding[:32]!a} is not supported; send the body as it is.",
                {"accept-encoding": "identity"},
            )
        if int(request.headers.get("content-length", 0)) > self._max_bytes:
            raise self._too_large()
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(deadline.left()):
                async for part in request.stream():
                    size += len(part)
                    self._held += len(part)
                    if size > self._max_bytes:
                        raise self._too_large()
                    if self._held > self._max_held:
                        self._observe_refusal("memory")
                        raise Overloaded(
                            f"{self._held} bytes of requests are being read, the limit is {self._max_held}; "
                            "try again later."
                        )
                    parts.append(part)
        except TimeoutError:
            late = f"the body did not arrive within {deadline.timeout:.3f} s."
            raise Refused(HTTPStatus.REQUEST_TIMEOUT, late, {"connection": "close"}) from None
        finally:
            self._held -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _too_large(self) -> Refused:
        text = f"the body has more than {self._max_bytes} bytes, which is the limit; split a larger batch."
        return Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text)
