"""Fill the feature store with the static features of all entities: `make features`. Safe to run twice."""

from __future__ import annotations

from collections.abc import Sequence

from model.data import load
from model.features import FEATURES
from scripts import project
from serving.adapters.feature_store import WRITERS
from serving.errors import SettingsError, quoted
from serving.settings import load_settings


def main(_arguments: Sequence[str] | None = None) -> int:
    """Write one row per entity, all or none."""
    url = load_settings().feature_store
    scheme = url.partition(":")[0]
    if scheme not in WRITERS:
        raise SettingsError(f"SERVING_FEATURE_STORE={quoted(url)}: this repo can fill {', '.join(WRITERS)}.")
    data = load()
    print(f"materializing {', '.join(feature.name for feature in FEATURES.static)} into {url} ...")
    for feature in FEATURES.static:
        feature.spec.check_values(data.columns[feature.name])
    count = WRITERS[scheme](url).write(
        FEATURES.static,
        [entity.encode() for entity in data.entities],
        {feature.name: data.columns[feature.name] for feature in FEATURES.static},
        watermark="all",
    )
    print(f"the store holds {count} rows, keyed by {FEATURES.entity.name}")
    return 0


if __name__ == "__main__":
    project.run(main)
