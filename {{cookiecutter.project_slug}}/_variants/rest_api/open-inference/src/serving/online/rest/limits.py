"""How large a request may be, which follows from the signature."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from operator import mul

from serving.domain.errors import InvalidRequest
from serving.domain.tensors import Signature, TensorSpec
from serving.online.open_inference import MAX_MESSAGE_BYTES, OVERHEAD_BYTES

_NUMBER = 32  # the longest double has 24 characters; some space is left for line breaks
_ESCAPED = 6  # \\u0000
_SPARE = 100_000


@dataclass(frozen=True)
class Limits:
    """Limit a request: its bytes, and how much JSON can grow in memory, where `{}` takes 64 bytes."""

    max_bytes: int
    values: int
    lists: int

    @classmethod
    def of(cls, signature: Signature) -> Limits:
        """Return the limits of requests for a signature."""
        rows = signature.max_rows
        elements = sum(rows * spec.row_elements for spec in signature.inputs)
        text = sum(rows * spec.row_elements * spec.max_bytes for spec in signature.inputs if spec.holds_bytes)
        lists = sum(1 + rows * sum(accumulate(spec.row_shape[:-1], mul, initial=1)) for spec in signature.inputs)
        size = sum(rows * _row_bytes(spec) for spec in signature.inputs)
        return cls(min(size + OVERHEAD_BYTES, MAX_MESSAGE_BYTES), elements + text + _SPARE, lists + text + _SPARE)

    def check(self, head: bytes) -> None:
        """Refuse JSON with more values or lists than any request has, before it is parsed."""
        for what, found, most in (
            ("values", head.count(b","), self.values),
            ("lists", head.count(b"["), self.lists),
            ("objects", head.count(b"{"), self.lists),
        ):
            if found > most:
                raise InvalidRequest(f"the request has {found} {what}, no valid one has more than {most}.")


def _row_bytes(spec: TensorSpec) -> int:
    return spec.row_elements * (spec.max_bytes * _ESCAPED + _NUMBER if spec.holds_bytes else _NUMBER)
