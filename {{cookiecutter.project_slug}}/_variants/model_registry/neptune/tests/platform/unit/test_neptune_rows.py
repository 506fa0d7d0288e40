from __future__ import annotations

from types import SimpleNamespace

from serving.adapters.model_registry.neptune_process import COLUMNS, _rows


class Entry:
    """A row of Neptune's table without one of its fields."""

    def __init__(self, missing: str) -> None:
        self.missing = missing

    def get_attribute_value(self, name: str) -> str:
        if name == self.missing:
            raise ValueError(name)
        return name.upper()


def test_a_missing_field_hides_no_other() -> None:
    asked = []

    def fetch_model_versions_table(**options: object) -> SimpleNamespace:
        asked.append(options)
        return SimpleNamespace(to_rows=lambda: [Entry(missing) for missing in COLUMNS])

    rows = _rows(SimpleNamespace(fetch_model_versions_table=fetch_model_versions_table))
    assert rows == [{name: name.upper() for name in COLUMNS if name != missing} for missing in COLUMNS]
    (options,) = asked
    assert (options["sort_by"], options["ascending"]) == ("sys/id", True)
