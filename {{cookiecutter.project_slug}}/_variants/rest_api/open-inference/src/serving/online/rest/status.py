"""The mapping from exceptions to HTTP status codes, and refusals as problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import orjson

from serving.domain import errors
from serving.online.refusals import INTERNAL_TEXT, MAX_TEXT, NO_RETRY

PROBLEM_JSON = "application/problem+json"

CODES: Mapping[type[errors.ServingError], HTTPStatus] = {
    errors.InvalidRequest: HTTPStatus.BAD_REQUEST,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.UnknownEntity: HTTPStatus.NOT_FOUND,
    errors.Overloaded: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.DeadlineExceeded: HTTPStatus.GATEWAY_TIMEOUT,
    errors.NotReady: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.FeatureStoreUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.FeaturesNotFilled: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.FeaturesOutdated: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.ModelFailed: HTTPStatus.INTERNAL_SERVER_ERROR,
}

_RETRY_ELSEWHERE = (errors.Overloaded, errors.NotReady)
_RETRY_AFTER = {"retry-after": "1"}


class Refused(Exception):
    """A refusal that only HTTP knows: a status and one sentence."""

    def __init__(self, status: HTTPStatus, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.text = text
        self.headers = headers or {}


def refusal_of(error: errors.ServingError) -> Refused:
    """Return the refusal for a caller."""
    status = CODES.get(type(error), HTTPStatus.INTERNAL_SERVER_ERROR)
    text = INTERNAL_TEXT if status is HTTPStatus.INTERNAL_SERVER_ERROR else str(error)[:MAX_TEXT]
    retry = isinstance(error, _RETRY_ELSEWHERE) and not isinstance(error, NO_RETRY)
    return Refused(status, text, _RETRY_AFTER if retry else None)


def problem(status: HTTPStatus, text: str, request_id: str = "") -> bytes:
    """Return problem details; `error` is where the protocol's clients look for the text."""
    details = {"type": "about:blank", "title": status.phrase, "status": status, "detail": text, "error": text}
    if request_id:
        details["request_id"] = request_id
    return orjson.dumps(details)
