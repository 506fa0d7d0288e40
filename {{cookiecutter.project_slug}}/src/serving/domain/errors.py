"""The exception tree of the service; no transport is known here.

    ServingError
    ├── InvalidRequest        the caller can mend it
    ├── NotFound              no such model, version or entity
    ├── Overloaded            refused at the door, safe to try elsewhere
    ├── DeadlineExceeded      the time the caller gave is over
    ├── NotReady              no verified model is loaded, or the server drains
    ├── FeatureStoreUnavailable      static features can't be read now
    ├── FeaturesOutdated      what is stored no longer fits its declaration
    ├── ModelFailed           the model itself raised or answered out of its signature
    └── OperatorError            the service can't start with what it was given
        ├── ArtifactError     an artifact is missing, changed or not what it says
        ├── UnresolvedReference  a model reference can't be read or resolved
        ├── RegistryError    the model registry can't do what is asked
        │   ├── RegistryUnavailable     it gives no usable answer in time
        │   └── StalePromotion   somebody else promoted meanwhile
        └── SettingsError     an environment variable or configuration file is wrong

`entrypoints/status.py` holds the one table from these classes to gRPC status codes.
"""

from __future__ import annotations


class ServingError(Exception):
    """Base of all that the service raises on purpose; its text is one sentence, safe to show to a caller."""


class InvalidRequest(ServingError):
    """The request breaks the model's signature."""


class NotFound(ServingError):
    """The model, version or entity that the request names does not exist here."""


class Overloaded(ServingError):
    """The request was refused before any work was done on it."""


class DeadlineExceeded(ServingError):
    """The deadline passed before the answer was ready."""


class NotReady(ServingError):
    """No verified model is loaded, so nothing can be predicted."""


class FeatureStoreUnavailable(ServingError):
    """The feature store did not answer in time or at all."""


class FeaturesOutdated(ServingError):
    """The feature store holds a value whose type or shape is not the declared one."""

    @classmethod
    def of(cls, feature: str, stored: str, declared: str) -> FeaturesOutdated:
        """Name the feature and both of its forms."""
        return cls(
            f"the feature store holds {feature} as {quoted(stored)}, the model takes {quoted(declared)}; "
            "fill it again with `make features`."
        )


class ModelFailed(ServingError):
    """The model raised, or its answer breaks its own signature."""


class OperatorError(ServingError):
    """The service can't start, or a script can't go on, with what it was given."""


class ArtifactError(OperatorError):
    """An artifact is missing, incomplete, changed, or holds what its format does not allow."""


class UnresolvedReference(OperatorError):
    """A model reference can't be read, or names nothing that exists."""


class RegistryError(OperatorError):
    """The model registry can't do what it was asked for."""


class RegistryUnavailable(RegistryError):
    """The model registry gave no usable answer within its deadline."""


class StalePromotion(RegistryError):
    """The stage is not where the caller thought: another promotion came first."""


class SettingsError(OperatorError):
    """An environment variable or configuration file holds what it must not."""


def quoted(text: object, limit: int = 64) -> str:
    """Return foreign text as escaped ASCII in quotes, cut at `limit` characters: safe in logs and answers."""
    whole = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text)
    escaped = ascii(whole[:limit])
    if len(whole) <= limit and len(escaped) <= limit + 2:
        return escaped
    return f"{escaped[:-1][: limit + 1]}{escaped[-1]}..."
