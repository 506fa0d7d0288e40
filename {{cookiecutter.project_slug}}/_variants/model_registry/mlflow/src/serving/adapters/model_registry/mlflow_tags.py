"""The tags of a registered model, which hold its promotions.

Each promotion is a tag `promotion.000001` and up. While it is decided, each writer has a tag
`attempt.000001.<writer>`; see `ballots.py`. MLflow reads all tags of a model in one query, so they are as they were at
one moment, and its server has one database, so a read shows all earlier writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

PROMOTION = "promotion."
ATTEMPT = "attempt."


def model_tags(client: MlflowClient, model: str) -> Mapping[str, str] | None:
    """Return the tags of a registered model; None if it does not exist."""
    from mlflow import MlflowException

    try:
        return dict(client.get_registered_model(model).tags)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None


class TagPosition:
    """One number of a model's history, as a position of `ballots.py`."""

    def __init__(self, client: MlflowClient, model: str, number: int) -> None:
        self._client = client
        self._model = model
        self._settled = f"{PROMOTION}{number:06}"
        self._attempts = f"{ATTEMPT}{number:06}."

    def read(self) -> tuple[Mapping[str, str], str | None]:
        """Return the attempts by writer, and the settled text, as they are at one moment."""
        tags = model_tags(self._client, self._model) or {}
        written = {key: text for key, text in tags.items() if key.startswith(self._attempts)}
        return {key.removeprefix(self._attempts): text for key, text in written.items()}, tags.get(self._settled)

    def attempt(self, writer: str, text: str) -> None:
        """Write this writer's attempt."""
        self._client.set_registered_model_tag(self._model, self.key(writer), text)

    def withdraw(self, writer: str) -> None:
        """Remove this writer's attempt."""
        self._client.delete_registered_model_tag(self._model, self.key(writer))

    def settle(self, text: str) -> None:
        """Write the settled text."""
        self._client.set_registered_model_tag(self._model, self._settled, text)

    def key(self, writer: str) -> str:
        """Return the key of a writer's tag."""
        return self._attempts + writer
