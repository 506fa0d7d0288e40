"""Find uv on this machine or install it from its lock, and translate pip's configuration for it.

Needs the standard library only. This file is the same in the template and in every repo that it generates.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

from tools.process import SetupError, clean, quietly

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "uv.txt"
_OLDEST = (0, 8)
_PIP_TIMEOUT_S = 60
# uv does not read pip's configuration: pip's options, and uv's variables for them.
_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX",),
    "extra-index-url": ("UV_INDEX",),
    "find-links": ("UV_FIND_LINKS",),
    "no-index": ("UV_NO_INDEX",),
    "trusted-host": ("UV_INSECURE_HOST",),
    "cert": ("SSL_CERT_FILE",),
    "client-cert": ("SSL_CLIENT_CERT",),
    "proxy": ("HTTPS_PROXY", "HTTP_PROXY"),
}


def find() -> str:
    """Return the uv on PATH if it is new enough; else install the locked one, once per user.

    :raises SetupError: pip can't install it
    """
    found = shutil.which("uv")
    if found:
        done = subprocess.run([found, "--version"], check=False, capture_output=True, text=True)
        version = re.match(r"uv (\d+)\.(\d+)", done.stdout)
        if version and tuple(map(int, version.groups())) >= _OLDEST:
            return found
    uv = inside(_tools(), "scripts") / ("uv.exe" if os.name == "nt" else "uv")
    if not uv.exists():
        print("installing uv, once for this user ...", flush=True)
        _install(_tools())
    return str(uv)


def settings() -> dict[str, str]:
    """Return pip's index, credentials, certificates and proxy as uv's variables; variables already set win."""
    pip = inside(_tools(), "scripts") / ("python.exe" if os.name == "nt" else "python")
    command = [str(pip) if pip.exists() else base_python(), "-m", "pip", "config", "list"]
    # An interpreter without pip has no pip configuration either.
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=_PIP_TIMEOUT_S, env=clean(os.environ)
    )
    variables = {
        # pip takes the best version of all indexes, uv by default that of the first; the hashes verify it either way.
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    for section in ("global", "install", ":env:"):  # a later one wins
        for option, value in re.findall(rf"^{section}\.([\w-]+)=(.*)$", done.stdout, re.MULTILINE):
            words = str(ast.literal_eval(value)).split()
            separator = "," if option == "find-links" else " "
            variables |= dict.fromkeys(_VARIABLES.get(option, ()), separator.join(words))
    return variables | dict(os.environ)


def inside(environment: Path, kind: str) -> Path:
    """Return the folder of an environment's `scripts` or packages (`purelib`)."""
    return Path(sysconfig.get_path(kind, "venv", {"base": str(environment), "platbase": str(environment)}))


def base_python() -> str:
    """Return the base interpreter for new environments; this one may be in an environment to be replaced."""
    return str(getattr(sys, "_base_executable", sys.executable))


def _install(target: Path) -> None:
    """Install uv with pip into a virtual environment; another process may do so at the same time."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problem = f"{target.parent} can't be created ({error.strerror})"
        raise SetupError(f"error: {problem}, so uv can't be installed there; install uv yourself.") from None
    with tempfile.TemporaryDirectory(dir=target.parent) as staging:
        made = Path(staging, "uv")
        quietly(
            [base_python(), "-m", "venv", str(made)],
            "can't create a virtual environment; Debian and Ubuntu need the package python3-venv for it",
        )
        pip = [str(inside(made, "scripts") / "python"), "-m", "pip", "--disable-pip-version-check", "install"]
        quietly(
            [*pip, "--quiet", "--require-hashes", "--no-deps", "--requirement", str(LOCK)],
            "uv can't be installed, for the reason above; install it yourself: a uv on PATH is used",
        )
        try:
            made.rename(target)
        except OSError:
            if not target.exists():
                raise


def _tools() -> Path:
    """Return the folder of the locked uv, shared by all repos of this user with the same lock."""
    parent = os.environ.get("LOCALAPPDATA") if os.name == "nt" else os.environ.get("XDG_CACHE_HOME")
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    return Path(parent or Path.home() / ".cache", "ml-serving-template", f"uv-{digest}")
