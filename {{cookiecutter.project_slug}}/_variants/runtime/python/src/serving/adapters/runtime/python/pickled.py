"""Pickles, for what has no other format: opened only if config/runtime.toml accepts what they can do."""

from __future__ import annotations

import sys
from typing import Any

from serving.adapters.runtime.python.settings import CONFIG, Opening, RuntimeSettings
from serving.domain.errors import ArtifactError, OperatorError

_MODEL = "model"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"


def save(estimator: Any, settings: RuntimeSettings) -> bytes:
    """Pickle an estimator together with the code of `model/`, which the server's image does not have.

    :raises OperatorError: pickles are not accepted
    """
    if not settings.accept_pickle:
        raise OperatorError(
            f"model/estimator.py: {type(estimator).__name__} can only be pickled, and {CONFIG} accepts no "
            "pickle; docs/runtime.md lists the formats, and what a pickle risks."
        )
    import cloudpickle

    model = sys.modules[_MODEL]  # imported by whoever trained; this module may not import it
    cloudpickle.register_pickle_by_value(model)
    try:
        return bytes(cloudpickle.dumps(estimator))
    finally:
        cloudpickle.unregister_pickle_by_value(model)


def load(content: bytes, opening: Opening) -> Any:
    """Open a pickle, which runs its author's code.

    :raises ArtifactError: pickles are not accepted, or this one was written by another version of Python
    """
    if not opening.settings.accept_pickle:
        raise ArtifactError(f"the model is a pickle, and {CONFIG} accepts none; it says what a pickle risks.")
    if opening.description.python != PYTHON:
        raise ArtifactError(
            f"the model was pickled by Python {opening.description.python}, and this is {PYTHON}; train it with "
            f"{PYTHON}, or change the Python of the container."
        )
    import pickle

    return pickle.loads(content)  # noqa: S301 - accepted in config/runtime.toml
