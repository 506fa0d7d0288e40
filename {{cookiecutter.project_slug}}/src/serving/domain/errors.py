"""The exception tree of the service; no transport is known here.

    ServingError
    ├── InvalidRequest           the request breaks the signature
    ├── NotFound                 no such model or version
    │   └── UnknownEntity        no such entity in the feature store
    ├── Overloaded               refused by admission control; safe to retry elsewhere
    ├── DeadlineExceeded         the caller's deadline has passed
    ├── NotReady                 no verified model is loaded, or the server is draining
    ├── FeatureStoreUnavailable  static features can't be read now
    │   └── FeaturesNotFilled    the store answers, but holds nothing: not filled yet, or emptied
    ├── FeaturesOutdated         a stored value does not match its declaration
    ├── ModelFailed              the model raised, or its output breaks the signature
    └── OperatorError            the operator must act: wrong settings, artifact or reference
        ├── ArtifactError        an artifact is missing, changed or invalid
        ├── UnresolvedReference  a model reference can't be read or resolved
        ├── RegistryError        the model registry refuses the operation
        │   ├── RegistryUnavailable  no usable answer within the deadline
        │   └── StalePromotion       another promotion came first
        └── SettingsError        an environment variable or configuration file is wrong

`online/grpc/status.py` maps these classes to gRPC status codes.
"""

from __future__ import annotations


class ServingError(Exception):
    """Base of all deliberate errors; the text is one sentence, safe to show to a caller."""

    @property
    def logged(self) -> str:
        """The text for a log, which people read who may not know what the caller sent."""
        return str(self)


class InvalidRequest(ServingError):
    """The request breaks the model's signature."""


class NotFound(ServingError):
    """What the request names does not exist here."""


class UnknownEntity(NotFound):
    """The feature store does not know an entity; the text has its key, which can name a person."""

    @property
    def logged(self) -> str:
        """What happened, without the keys."""
        return "the feature store does not know an entity; the caller was told which."


class Overloaded(ServingError):
    """The request was refused before any work was done."""


class DeadlineExceeded(ServingError):
    """The deadline passed before the answer was ready."""


class NotReady(ServingError):
    """No verified model is loaded, so nothing can be predicted."""


class FeatureStoreUnavailable(ServingError):
    """The feature store did not answer in time or at all."""


class FeaturesNotFilled(FeatureStoreUnavailable):
    """The feature store answers, but was never filled, or has lost what it held."""

    def __init__(self, text: str = "the feature store holds no features; fill it with `make features`.") -> None:
        super().__init__(text)


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
    """The service or a command can't go on until the operator acts."""


class ArtifactError(OperatorError):
    """An artifact is missing, incomplete, changed, or holds what its format does not allow."""


class UnresolvedReference(OperatorError):
    """A model reference is malformed or names nothing that exists."""


class RegistryError(OperatorError):
    """The model registry refuses the operation."""


class RegistryUnavailable(RegistryError):
    """The model registry gave no usable answer within its deadline."""


class StalePromotion(RegistryError):
    """The stage is held by another version than expected: another promotion came first."""


class SettingsError(OperatorError):
    """An environment variable or configuration file is wrong."""


def quoted(text: object, limit: int = 64) -> str:
    """Return untrusted text as quoted, escaped ASCII, cut at `limit` characters: safe in logs and answers."""
    whole = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text)
    escaped = ascii(whole[:limit])
    if len(whole) <= limit and len(escaped) <= limit + 2:
        return escaped
    return f"{escaped[:-1][: limit + 1]}{escaped[-1]}..."
