"""What looks like a secret: by its name, or by its value."""

from __future__ import annotations

import re
from itertools import pairwise
from urllib.parse import urlsplit

_WORDS = frozenset({"apikey", "credential", "credentials", "passphrase", "passwd", "password", "secret", "token"})
_PAIRS = frozenset({("access", "key"), ("api", "key"), ("private", "key"), ("secret", "key")})
_POINTERS = frozenset({"dir", "file", "path"})
# How keys begin that are handed out by GitHub, GitLab, AWS, Slack, OpenAI, Hugging Face, PyPI, and a JSON Web Token.
_PREFIXES = ("ghp_", "github_pat_", "glpat-", "AKIA", "xoxb-", "sk-", "hf_", "pypi-", "eyJ")
_SHORTEST = 16


def named_like_a_secret(name: str) -> bool:
    """Tell whether a variable of this name would hold a secret; one that names a file does not."""
    words = re.split(r"[-_.]+", name.lower().strip("-_."))
    if words[-1] in _POINTERS:
        return False
    return not _WORDS.isdisjoint(words) or not _PAIRS.isdisjoint(pairwise(words))


def holds_a_secret(text: str) -> bool:
    """Tell whether a value is a key, has one in it, or is a URL with a password."""
    if "PRIVATE KEY-----" in text:
        return True
    return any(_is_secret(word) for word in re.split(r"[\s\"'=,;]+", text))


def _is_secret(word: str) -> bool:
    if word.startswith(_PREFIXES) and len(word) >= _SHORTEST:
        return True
    try:
        password = urlsplit(word).password
    except ValueError:
        return False
    return bool(password) and not str(password).startswith("$")
