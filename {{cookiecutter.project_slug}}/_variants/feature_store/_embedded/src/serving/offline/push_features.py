"""Push values of one entity to the feature store when an event arrives.

    python -m serving.offline.push_features KEY name=value
    python -m serving.offline.push_features KEY --delete

The next request for this entity uses them. Other features keep their values; the next `make features` overrides them
only if it has newer records of the entity.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence

import numpy as np

from serving.domain.errors import InvalidRequest, quoted
from serving.domain.features import Feature, FeatureSet
from serving.domain.ports import FeatureRows, FeatureWriter
from serving.domain.settings import shared_settings
from serving.offline import project, user_model
from serving.offline.materialize import open_writer
from serving.offline.predictions import forget


def main(arguments: Sequence[str] | None = None) -> int:
    """Push the values of the command line."""
    parser = argparse.ArgumentParser(prog="python -m serving.offline.push_features", description=__doc__)
    features = user_model.features()
    parser.add_argument("entity", help=f"the {features.entity.name}")
    parser.add_argument("values", nargs="*", metavar="name=value")
    parser.add_argument("--delete", action="store_true", help="delete what is stored of the entity")
    parser.add_argument("--time", type=int, help="when it happened, in seconds since 1970 (default: now)")
    options = parser.parse_args(arguments)
    if options.delete == bool(options.values):
        parser.error("give values, or --delete")
    if options.delete:
        deleted = open_writer(shared_settings().store_url()).delete([options.entity.encode()])
        print(f"{options.entity}: {'deleted' if deleted else 'was not stored'}{forget([options.entity])}")
        return 0
    values = dict(text.partition("=")[::2] for text in options.values)
    when = int(time.time()) if options.time is None else options.time
    push(open_writer(shared_settings().store_url()), features, options.entity, values, when=when)
    print(f"{options.entity}: {', '.join(options.values)}")
    return 0


def push(writer: FeatureWriter, features: FeatureSet, entity: str, values: Mapping[str, str], *, when: int) -> None:
    """Write the values of one entity, all or none; call this from your event handler.

    :raises InvalidRequest: a name is no static feature, or a value has the wrong type
    """
    declared = {feature.name: feature for feature in features.static}
    for name in values:
        if name not in declared:
            raise InvalidRequest(f"feature {quoted(name)} is not kept in the store; these are: {', '.join(declared)}.")
    columns = {name: _column(declared[name], text) for name, text in values.items()}
    writer.write(
        FeatureRows([declared[name] for name in values], [entity.encode()], columns, np.array([when], np.int64))
    )


def _column(feature: Feature, text: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Parse one row: a number, a text, or comma-separated numbers for an array."""
    try:
        if feature.datatype.holds_bytes:
            column = np.array([text.encode()], object)
        else:
            column = np.array(text.split(","), np.float64).astype(feature.datatype.dtype).reshape(1, *feature.shape)
    except ValueError:
        raise InvalidRequest(
            f"feature {quoted(feature.name)}: {quoted(text)} is not {feature.form}; write one number per element."
        ) from None
    feature.spec.check_values(column)
    return column


if __name__ == "__main__":
    project.run(main)
