"""The mapping from exceptions to gRPC status codes."""

from __future__ import annotations

from collections.abc import Mapping

from grpc import StatusCode

from serving.domain import errors

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

NO_RETRY = (errors.FeatureStoreUnavailable,)
"""Refusals that every replica would repeat; clients retry UNAVAILABLE otherwise, each call up to four times."""

PUSHBACK = ("grpc-retry-pushback-ms", "-1")
"""Trailing metadata that forbid a retry: https://github.com/grpc/proposal/blob/master/A6-client-retries.md"""

INTERNAL_TEXT = "internal error; the server's log has the detail under this request id."
"""The text of an INTERNAL error; exception texts never reach a caller."""

_MAX_TEXT = 500


def status_of(error: errors.ServingError) -> tuple[StatusCode, str]:
    """Return the status code and text for a caller."""
    code = CODES.get(type(error), StatusCode.INTERNAL)
    return code, INTERNAL_TEXT if code is StatusCode.INTERNAL else str(error)[:_MAX_TEXT]
