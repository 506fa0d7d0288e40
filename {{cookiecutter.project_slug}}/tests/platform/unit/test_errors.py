from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from serving.domain.errors import quoted


@given(st.one_of(st.text(), st.binary()))
def test_untrusted_text_is_quoted_as_one_short_line_of_printable_ascii(text: str | bytes) -> None:
    shown = quoted(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) <= 64 + len("''...")


def test_truncated_text_is_marked() -> None:
    assert quoted("x" * 64) == f"'{'x' * 64}'"
    assert quoted("x" * 65) == f"'{'x' * 64}'..."


def test_escapes_count_towards_the_limit() -> None:
    assert quoted("\N{PILE OF POO}" * 64).startswith(r"'\U0001f4a9\U0001f4a9")
    assert len(quoted("\N{PILE OF POO}" * 64)) <= 64 + len("''...")


def test_bytes_that_are_not_utf8_are_escaped() -> None:
    assert quoted(b"caf\xe9") == r"'caf\\xe9'"
