"""What `make up` and similar commands refuse before they call Docker."""

from __future__ import annotations

import pytest

from serving.domain.errors import OperatorError
from tools import containers


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--scale=0", "SCALE=0 is not a number of replicas; give 1 to 32."),
        ("--scale=many", "SCALE=many is not a number of replicas; give 1 to 32."),
        ("--scale=33", "SCALE=33 is not a number of replicas; give 1 to 32."),
        ("--overlap=-1", "OVERLAP=-1 is not a number of seconds; give 0 to 600."),
    ],
)
def test_a_wrong_number_is_named_in_one_sentence(option: str, message: str) -> None:
    with pytest.raises(OperatorError) as refusal:
        containers.main(["up", option])
    assert str(refusal.value) == message


def test_words_for_compose_go_only_where_compose_takes_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        containers.main(["down", "server"])
    assert "unrecognized arguments: server" in capsys.readouterr().err
