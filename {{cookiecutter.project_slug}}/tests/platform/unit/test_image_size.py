"""The size budget of the server's image; a script is the STAND-IN for Docker.

The template's tests/containers measure real images.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.domain.errors import OperatorError
from tests.platform.support.docker_program import Docker
from tools import image_size

BASE = "python:3.13-slim"
PROGRAM = """\
import pathlib, sys
*words, form, image = sys.argv[1:]
pulled = pathlib.Path("pulled")
if words[0] == "pull":
    pulled.touch()
elif image == "python:3.13-slim" and not pulled.exists():
    sys.exit("No such image")
elif "Size" in form:
    print({"tiny-abc123-server:local": 480_400_000, "python:3.13-slim": 300_000_000}[image])
else:
    print("python:3.13-slim")
"""


@pytest.fixture
def repo(folder: Path, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repo whose server has 200 MB, in two files, and uses 180; its base image is not on this machine."""
    docker(PROGRAM)
    monkeypatch.setattr(image_size.project, "ROOT", folder)
    monkeypatch.setattr(image_size, "SIZES", folder / "config" / "size")
    allow(folder, "runtime", "150")
    allow(folder, "feature_store", "50")
    return folder


def allow(repo: Path, name: str, size: str) -> None:
    file = repo / "config" / "size" / f"{name}.toml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"server_mb = {size}\n", encoding="utf-8")


def test_an_image_within_its_budget_passes(repo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert image_size.main() == 0
    assert capsys.readouterr().out == f"the server's image adds 180 MB to {BASE}; its budget is 200 MB\n"


def test_an_image_above_its_budget_is_refused_with_where_to_raise_it(repo: Path) -> None:
    allow(repo, "runtime", "100")
    with pytest.raises(OperatorError) as refusal:
        image_size.main()
    assert str(refusal.value) == (
        f"the server's image adds 180 MB to {BASE}, 30 MB above its budget of 150 MB; remove what it does not need, "
        "or raise the number in config/size/feature_store.toml, config/size/runtime.toml."
    )


def test_without_an_image_there_is_a_way_out(repo: Path, docker: Docker) -> None:
    docker("import sys; sys.exit('No such image')")
    with pytest.raises(OperatorError, match="^there is no image tiny-abc123-server:local on this machine; `make"):
        image_size.main()


@pytest.mark.parametrize("size", ["0", "-1", "true", '"200"', "2.5", ""], ids=str)
def test_a_budget_that_is_none_is_refused(repo: Path, size: str) -> None:
    allow(repo, "runtime", size)
    with pytest.raises(OperatorError, match="^config/size/runtime.toml"):
        image_size.main()
