"""The mapping from exceptions to gRPC status codes."""

from __future__ import annotations

from collections.abc import Mapping

from grpc import StatusCode

from serving.domain import errors
from serving.online.refusals import INTERNAL_TEXT, MAX_TEXT

CODES: Mapping[type[errors.ServingError], StatusCode] = {
    errors.InvalidRequest: StatusCode.INVALID_ARGUMENT,
    errors.NotFound: StatusCode.NOT_FOUND,
    errors.UnknownEntity: StatusCode.NOT_FOUND,
    errors.Overloaded: StatusCode.RESOURCE_EXHAUSTED,
    errors.DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
    errors.NotReady: StatusCode.UNAVAILABLE,
    errors.FeatureStoreUnavailable: StatusCode.UNAVAILABLE,
    errors.FeaturesNotFilled: StatusCode.UNAVAILABLE,
    errors.FeaturesOutdated: StatusCode.FAILED_PRECONDITION,
    errors.ModelFailed: StatusCode.INTERNAL,
}

PUSHBACK = ("grpc-retry-pushback-ms", "-1")
"""Trailing metadata that forbid a retry: https://github.com/grpc/proposal/blob/master/A6-client-retries.md"""


def status_of(error: errors.ServingError) -> tuple[StatusCode, str]:
    """Return the status code and text for a caller."""
    code = CODES.get(type(error), StatusCode.INTERNAL)
    return code, INTERNAL_TEXT if code is StatusCode.INTERNAL else str(error)[:MAX_TEXT]
