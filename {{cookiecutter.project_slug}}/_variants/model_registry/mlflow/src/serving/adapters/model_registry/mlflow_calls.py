"""Calls to an MLflow server with a deadline; a failure becomes one sentence."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

from serving.adapters.model_registry.secret_files import secret
from serving.domain.errors import RegistryUnavailable, ServingError, SettingsError

if TYPE_CHECKING:
    from mlflow import MlflowClient

_VARIABLE = "MLFLOW_TRACKING_URI"
_WAY_OUT = "set it to the server's http:// or https:// address"
# Read by MLflow at each call. One retry is enough: a user can run the command again.
_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_SECRETS = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")

_T = TypeVar("_T")


def call(work: Callable[[MlflowClient], _T], timeout: float) -> _T:
    """Run the work in a thread, and abandon it after `timeout` seconds.

    MLflow's timeout has whole seconds and covers one attempt of one request, not a call of several requests.
    """
    uri = _tracking_uri()
    client_class = _mlflow_client()
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(work(client_class(uri, registry_uri=uri)))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            done.set_exception(error)

    threading.Thread(target=run, name="mlflow", daemon=True).start()
    where = f"MLflow at {urlsplit(uri).netloc.rpartition('@')[2]}"
    way_out = f"check that it runs and what {_VARIABLE} says"
    try:
        error = done.exception(timeout)
    except TimeoutError:
        raise RegistryUnavailable(f"{where}: gave no answer within {timeout:g} s; {way_out}.") from None
    if error is None:
        return done.result()
    if isinstance(error, ServingError) or not isinstance(error, Exception):
        raise error
    # Its text may contain the URL, and so a password.
    code = getattr(error, "error_code", type(error).__name__)
    reason = "" if code == "INTERNAL_ERROR" else f" ({code})"  # MLflow's code for any unknown failure
    raise RegistryUnavailable(f"{where}: gave no usable answer{reason}; {way_out}.") from None


def _tracking_uri() -> str:
    uri = os.environ.get(_VARIABLE, "")
    if not uri:
        raise SettingsError(f"{_VARIABLE}: is not set, so there is no MLflow server to ask; {_WAY_OUT}.")
    try:
        parts = urlsplit(uri)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        scheme = uri.partition("://")[0] if "://" in uri else "a path"
        raise SettingsError(f"{_VARIABLE}: {scheme} is not the address of an MLflow server; {_WAY_OUT}.")
    return uri


def _mlflow_client() -> type[MlflowClient]:
    """Import MLflow, which takes seconds, and silence its logs."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    for name in _SECRETS:
        if value := secret(name):
            os.environ[name] = value  # the only place where MLflow looks for it
    from mlflow import MlflowClient

    for name in ("mlflow", "urllib3"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient
