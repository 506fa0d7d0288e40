"""The environment that verbs make: once, whole, and anew when something about it has changed."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from scripts.environment import INTERRUPTED, Environment, SetupError, run


def wheel(folder: Path, version: str) -> Path:
    """Write a distribution `thing` with one module that knows its version, and a lock that names it."""
    path = folder / f"thing-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("thing.py", f"VERSION = {version!r}\n")
        archive.writestr(
            f"thing-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: thing\nVersion: {version}\n"
        )
        archive.writestr(
            f"thing-{version}.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"thing-{version}.dist-info/RECORD", "")
    return path


def lock(repo: Path, distribution: Path, name: str = "base") -> Path:
    path = repo / f"{name}.txt"
    digest = hashlib.sha256(distribution.read_bytes()).hexdigest()
    path.write_text(f"{distribution} --hash=sha256:{digest}\n", encoding="utf-8")
    return path


def says(python: Path, code: str) -> str:
    return subprocess.run([python, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    (tmp_path / "repo" / "src").mkdir(parents=True)
    (tmp_path / "repo" / "src" / "own.py").write_text("PLACE = __file__\n", encoding="utf-8")
    return tmp_path / "repo"


# An environment takes seconds to make, so the first two tests each go through a whole life of one.


def test_it_is_made_once_and_made_anew_when_something_about_it_has_changed(
    repo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = Environment(repo, importable=("src",))
    base = lock(repo, wheel(tmp_path, "1.0"))
    python = environment.ensure([base])
    assert says(python, "import thing, own; print(thing.VERSION)") == "1.0"
    assert "making .venv" in capsys.readouterr().out

    environment.ensure([base])
    assert capsys.readouterr().out == ""

    environment.ensure([base, lock(repo, wheel(tmp_path, "1.0"), "dev")])
    further = capsys.readouterr().out
    assert "installing repo/dev.txt" in further
    assert "making .venv" not in further

    lock(repo, wheel(tmp_path, "2.0"))
    environment.ensure([base])
    assert "a lock has changed" in capsys.readouterr().out
    assert says(python, "import thing; print(thing.VERSION)") == "2.0"

    shutil.rmtree(next((repo / ".venv").rglob("site-packages")))
    environment.ensure([base])
    assert says(python, "import thing; print(thing.VERSION)") == "2.0"


def test_what_is_not_as_locked_is_refused_and_the_next_try_is_a_whole_one(repo: Path, tmp_path: Path) -> None:
    base = lock(repo, wheel(tmp_path, "1.0"))
    good = base.read_text(encoding="utf-8")
    base.write_text(good[:-65] + "0" * 64 + "\n", encoding="utf-8")
    with pytest.raises(SetupError, match=r"(?s)HASH.*error: repo/base.txt can't be installed"):
        Environment(repo).ensure([base])
    base.write_text(good.partition(" --hash")[0], encoding="utf-8")
    with pytest.raises(SetupError, match=r"(?s)[Hh]ashes are required.*error: repo/base.txt"):
        Environment(repo).ensure([base])
    base.write_text(good, encoding="utf-8")
    assert says(Environment(repo).ensure([base]), "import thing; print(thing.VERSION)") == "1.0"


def test_a_missing_lock_is_named(repo: Path) -> None:
    with pytest.raises(SetupError, match=r"no-such\.txt is missing"):
        Environment(repo).ensure([repo / "no-such.txt"])


def test_a_moved_repo_imports_its_own_code(repo: Path, tmp_path: Path) -> None:
    base = lock(repo, wheel(tmp_path, "1.0"))
    Environment(repo, importable=("src",)).ensure([base])
    moved = repo.rename(tmp_path / "moved")
    python = Environment(moved, importable=("src",)).ensure([moved / "base.txt"])
    assert says(python, "import own; print(own.PLACE)") == str(moved / "src" / "own.py")


def test_variables_that_mislead_python_do_not_reach_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    told = tmp_path / "told"
    code = f"import os; open({str(told)!r}, 'w').write(str(os.environ.get('PYTHONPATH')))"
    assert run([sys.executable, "-c", code], tmp_path) == 0
    assert told.read_text() == "None"


def test_a_commands_exit_code_is_handed_on(tmp_path: Path) -> None:
    assert run([sys.executable, "-c", "raise SystemExit(7)"], tmp_path) == 7


def test_a_command_ended_by_a_signal_gets_the_shells_code(tmp_path: Path) -> None:
    assert run([sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"], tmp_path) == 137


PARENT = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell starts what is in its background deaf to Ctrl-C
from pathlib import Path
from scripts.environment import run
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
def test_a_command_is_told_to_stop_and_waited_for(sent: signal.Signals, code: int) -> None:
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
