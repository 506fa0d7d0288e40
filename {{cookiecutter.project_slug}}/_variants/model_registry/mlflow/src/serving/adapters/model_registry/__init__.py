"""The model registries of this repo, by the scheme of a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from serving.adapters.model_registry.local import SCHEME as LOCAL
from serving.adapters.model_registry.local import LocalRegistry
from serving.adapters.model_registry.mlflow import SCHEME as MLFLOW
from serving.adapters.model_registry.mlflow import MlflowRegistry
from serving.domain.ports import RegistryBackend

SCHEMES: Mapping[str, Callable[[Path], RegistryBackend]] = {LOCAL: LocalRegistry, MLFLOW: lambda _: MlflowRegistry()}
"""Each opens with the local registry's folder, and reads other settings from the environment when first used."""
