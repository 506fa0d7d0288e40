"""A Python program in place of Docker, for tests of what calls it: the fixture `docker` puts it on PATH."""

from __future__ import annotations

from collections.abc import Callable

Docker = Callable[[str], None]
