"""The model registries that this repo can open, by the scheme of a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from serving.adapters.local_registry import SCHEME as LOCAL
from serving.adapters.local_registry import LocalRegistry
from serving.adapters.neptune_registry import SCHEME as NEPTUNE
from serving.adapters.neptune_registry import NeptuneRegistry
from serving.ports import RegistryBackend

SCHEMES: Mapping[str, Callable[[Path], RegistryBackend]] = {LOCAL: LocalRegistry, NEPTUNE: lambda _: NeptuneRegistry()}
"""Each opens with the local registry's folder; what else it needs it takes from the environment, when it is used."""
