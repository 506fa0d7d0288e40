"""The environment that commands create: once, completely, and again after a change."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.package_index import PackageIndex
from tools import uv
from tools.environment import Environment
from tools.process import INTERRUPTED, SetupError, run


def wheel(folder: Path, version: str, name: str = "thing") -> Path:
    """Write a wheel with one module that contains its version."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        archive.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", f"{name}.py,,\n{about}/METADATA,,\n{about}/WHEEL,,\n{about}/RECORD,,\n")
    return path


def lock(repo: Path, distribution: Path, name: str = "base") -> Path:
    path = repo / f"{name}.txt"
    digest = hashlib.sha256(distribution.read_bytes()).hexdigest()
    path.write_text(f"{distribution} --hash=sha256:{digest}\n", encoding="utf-8")
    return path


def says(python: Path, code: str) -> str:
    """Return what code prints; without bytecode, which a wheel of the same size and second would not outdate."""
    return subprocess.run([python, "-B", "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "repo" / "src").mkdir(parents=True)
    (tmp_path / "repo" / "src" / "own.py").write_text("PLACE = __file__\n", encoding="utf-8")
    return tmp_path / "repo"


def environment(repo: Path) -> Environment:
    return Environment(repo / ".venv", importable=(repo / "src",))


def test_it_is_created_once_and_filled_again_after_a_change(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = lock(repo, wheel(tmp_path, "1.0"))
    python = environment(repo).ensure([base])
    assert says(python, "import thing, own; print(thing.VERSION)") == "1.0"
    assert "making .venv" in capsys.readouterr().out

    environment(repo).ensure([base])
    assert capsys.readouterr().out == ""

    environment(repo).ensure([base, lock(repo, wheel(tmp_path, "1.0"), "dev")])
    further = capsys.readouterr().out
    assert "installing repo/base.txt, repo/dev.txt" in further
    assert "making .venv" not in further

    lock(repo, wheel(tmp_path, "2.0"))
    lock(repo, wheel(tmp_path, "2.0"), "dev")
    environment(repo).ensure([base])
    assert says(python, "import thing; print(thing.VERSION)") == "2.0"

    shutil.rmtree(next((repo / ".venv").rglob("site-packages")))
    environment(repo).ensure([base])
    assert says(python, "import thing; print(thing.VERSION)") == "2.0"


def test_a_package_that_no_lock_names_any_more_is_removed(repo: Path, tmp_path: Path) -> None:
    base = lock(repo, wheel(tmp_path, "1.0"))
    python = environment(repo).ensure([base, lock(repo, wheel(tmp_path, "1.0", "other"), "dev")])
    assert says(python, "import thing, other; print('both')") == "both"
    lock(repo, wheel(tmp_path, "1.0"), "dev")
    environment(repo).ensure([base, repo / "dev.txt"])
    assert says(python, "import thing, importlib.util as u; print(u.find_spec('other'))") == "None"


def test_an_override_replaces_what_the_locks_say(repo: Path, tmp_path: Path) -> None:
    base = lock(repo, wheel(tmp_path, "2.0"))
    (repo / "overrides").mkdir()
    lock(repo, wheel(tmp_path, "1.0"), "overrides/older")
    python = environment(repo).ensure([base])
    assert says(python, "import thing; print(thing.VERSION)") == "1.0"
    (repo / "overrides" / "older.txt").unlink()
    lock(repo, wheel(tmp_path, "3.0"))
    environment(repo).ensure([base])
    assert says(python, "import thing; print(thing.VERSION)") == "3.0"


def test_a_package_that_does_not_match_its_lock_is_refused_and_the_next_try_installs_everything(
    repo: Path, tmp_path: Path
) -> None:
    base = lock(repo, wheel(tmp_path, "1.0"))
    good = base.read_text(encoding="utf-8")
    base.write_text(good[:-65] + "0" * 64 + "\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"(?s)Hash mismatch.*error: repo/base.txt can't be installed"):
        environment(repo).ensure([base])
    base.write_text(good.partition(" --hash")[0], encoding="utf-8")
    with pytest.raises(SetupError, match=r"(?s)must have a hash.*error: repo/base.txt"):
        environment(repo).ensure([base])
    base.write_text(good, encoding="utf-8")
    assert says(environment(repo).ensure([base]), "import thing; print(thing.VERSION)") == "1.0"


def test_a_missing_lock_is_named(repo: Path) -> None:
    with pytest.raises(SetupError, match=r"no-such\.txt is missing"):
        environment(repo).ensure([repo / "no-such.txt"])


def test_a_moved_repo_imports_its_own_code(repo: Path, tmp_path: Path) -> None:
    base = lock(repo, wheel(tmp_path, "1.0"))
    environment(repo).ensure([base])
    moved = repo.rename(tmp_path / "moved")
    python = environment(moved).ensure([moved / "base.txt"])
    assert says(python, "import own; print(own.PLACE)") == str(moved / "src" / "own.py")


def executable(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def no_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without uv; return the only folder on its PATH."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path / 'programs'}:/usr/bin:/bin")
    return tmp_path / "programs"


def test_a_uv_on_path_is_used_if_it_is_new_enough(no_uv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed: list[Path] = []
    monkeypatch.setattr(uv, "_install", installed.append)
    there = executable(no_uv / "uv", "#!/bin/sh\necho 'uv 1.2.3 (somewhere 2027-01-01)'\n")
    assert uv.find() == str(there)
    assert installed == []
    for old in ("uv 0.1.45", "not uv at all"):
        executable(no_uv / "uv", f"#!/bin/sh\necho '{old}'\n")
        assert uv.find() != str(there)
    assert len(installed) == 2


def test_without_uv_the_locked_one_is_installed_once(no_uv: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (version,) = re.findall(r"^uv==(\S+)", uv.LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    found = uv.find()
    assert "installing uv" in capsys.readouterr().out
    message = subprocess.run([found, "--version"], check=True, capture_output=True, text=True).stdout
    assert message.startswith(f"uv {version}")
    assert uv.find() == found
    assert capsys.readouterr().out == ""
    assert [path.name for path in Path(found).parents[2].iterdir()] == [Path(found).parents[1].name]


def test_uv_gets_the_configuration_of_pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "SSL_", "HTTP_", "HTTPS_"))]:
        monkeypatch.delenv(name)
    config = tmp_path / "pip.conf"
    config.write_text(
        "[global]\n"
        "index-url = https://me:word@mirror.example.com/simple\n"
        "extra-index-url = https://one.example.com/simple\n  https://two.example.com/simple\n"
        "find-links = /one\n  /two\n"
        "trusted-host = mirror.example.com\n"
        "cert = /certificates.pem\n"
        "client-cert = /me.pem\n"
        "proxy = http://proxy.example.com:3128\n"
        "[install]\n"
        "cert = /certificates-of-installs.pem\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
    monkeypatch.setenv("PIP_TRUSTED_HOST", "another.example.com")
    monkeypatch.setenv("UV_INDEX", "https://three.example.com/simple")
    given = uv.settings()
    assert {name: given.get(name) for name in sorted(given) if name.startswith(("UV_", "SSL_", "HTTP_", "HTTPS_"))} == {
        "HTTPS_PROXY": "http://proxy.example.com:3128",
        "HTTP_PROXY": "http://proxy.example.com:3128",
        "SSL_CERT_FILE": "/certificates-of-installs.pem",
        "SSL_CLIENT_CERT": "/me.pem",
        "UV_DEFAULT_INDEX": "https://me:word@mirror.example.com/simple",
        "UV_FIND_LINKS": "/one,/two",
        "UV_INDEX": "https://three.example.com/simple",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_INSECURE_HOST": "another.example.com",
        "UV_PYTHON_DOWNLOADS": "never",
    }


@pytest.mark.long
def test_packages_come_from_the_index_in_the_configuration_of_pip(
    repo: Path, tmp_path: Path, no_uv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv itself too; the index requires a name and a password."""
    with PackageIndex(tmp_path / "index", "someone", "secret") as index:
        index.add(wheel(tmp_path, "1.0"))
        index.add(fetched_uv(tmp_path))
        config = tmp_path / "pip.conf"
        config.write_text(f"[global]\nindex-url = {index.url}\n", encoding="utf-8")
        for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", str(config))
        digest = hashlib.sha256((tmp_path / "index" / "thing-1.0-py3-none-any.whl").read_bytes()).hexdigest()
        (repo / "base.txt").write_text(f"thing==1.0 --hash=sha256:{digest}\n", encoding="utf-8")
        monkeypatch.setenv("UV_NO_CACHE", "1")
        python = environment(repo).ensure([repo / "base.txt"])
        assert says(python, "import thing; print(thing.VERSION)") == "1.0"
    assert {name.partition("-")[0] for name in index.served} == {"thing", "uv"}
    assert index.refused == 0


def fetched_uv(folder: Path) -> Path:
    """Download uv's wheel for this machine from its configured index."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    if subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, check=False).returncode:
        command[0] = getattr(sys, "_base_executable", sys.executable)
    subprocess.run([*command, "--dest", str(folder), "--requirement", str(uv.LOCK)], check=True)
    (path,) = folder.glob("uv-*.whl")
    return path


def test_variables_that_mislead_python_do_not_reach_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    message = tmp_path / "environment"
    code = f"import os; open({str(message)!r}, 'w').write(str(os.environ.get('PYTHONPATH')))"
    assert run([sys.executable, "-c", code], tmp_path) == 0
    assert message.read_text() == "None"


def test_the_exit_code_of_a_command_is_returned(tmp_path: Path) -> None:
    assert run([sys.executable, "-c", "raise SystemExit(7)"], tmp_path) == 7


def test_a_command_ended_by_a_signal_gets_the_shells_code(tmp_path: Path) -> None:
    assert run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], tmp_path) == 137


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background deaf to Ctrl-C
from pathlib import Path
from tools.process import run
sys.exit(run([sys.executable, "-c", sys.argv[1]], Path(".")))
"""
CHILD = """
import signal, sys
def stop(*_): print("stopped", flush=True); sys.exit(0)
signal.signal(signal.SIGTERM, stop); signal.signal(signal.SIGINT, stop)
signal.alarm(30)
print("ready", flush=True)
signal.pause()
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, INTERRUPTED)], ids=["term", "ctrl-c"])
def test_a_command_is_told_to_stop_and_awaited(sent: signal.Signals, code: int) -> None:
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD], cwd=root, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        if sent is signal.SIGINT:
            os.killpg(parent.pid, sent)  # as a terminal does
        else:
            parent.send_signal(sent)
        assert parent.stdout.readline() == "stopped\n"
        assert parent.wait(timeout=30) == code
