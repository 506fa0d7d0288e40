"""The pages of a generated repo are true: their commands and code work, in the order in which a reader meets them."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from local_extensions import ROOT_FOLDER
from tests.support import AXES, CHOICES, ROOT, SAMPLE, Block, Repo, assert_shown, blocks, brought, generate, run

# In the order in which they are read. tests/registries/test_pages.py runs docs/model-registry.md against a server.
PAGES = (
    "README.md",
    "docs/model.md",
    "docs/moving-in.md",
    "docs/callers.md",
    "client/README.md",
    "docs/feature-store.md",
    "docs/runtime.md",
    "docs/grpc-transport.md",
    "docs/rest-api.md",
    "docs/deployment.md",
    "docs/ci.md",
    "docs/operators.md",
    "docs/scaling.md",
    "docs/monitoring.md",
    "docs/batch.md",
    "docs/updating.md",
    "docs/five-mistakes.md",
    "CONTRIBUTING.md",
    "AGENTS.md",
)
REGISTRY_PAGE = "docs/model-registry.md"
PAGE_OF_AXIS = {
    "ci": "docs/ci.md",
    "deployment": "docs/deployment.md",
    "feature_store": "docs/feature-store.md",
    "grpc_transport": "docs/grpc-transport.md",
    "model_registry": REGISTRY_PAGE,
    "rest_api": "docs/rest-api.md",
    "runtime": "docs/runtime.md",
}
RUNNABLE = {"sh", "python"}
# What is shown and not run: the output above it, a picture, and what the page explains; tests below read the diff.
SHOWN = {"text", "mermaid", "diff"}

AS_A_CALLER = "run: as a caller"
IN_THE_BACKGROUND = "run: in the background"
IN_THE_REPO = "run: in the repo's environment"
A_FILE = "file: "
IN_CONTAINERS = "not run: needs a container engine; the template's tests/containers runs these commands"
MISTAKE = "not run: the mistake"
NOT_RUN = {
    "README.md": [IN_CONTAINERS],
    "docs/model.md": [
        "not run: needs PyTorch, which downloads gigabytes; tried by hand with 2.14",
        "not run: needs a pickled model; the template's tests/test_import.py runs it",
    ],
    "docs/moving-in.md": [
        "not run: needs a model of MLServer; the template's tests/test_import.py runs it",
        "not run: needs a model folder of MLflow; the template's tests/test_import.py runs it",
        "not run: needs PyTorch, which downloads gigabytes; tried by hand with 2.13",
        "not run: needs a pickled model; the template's tests/test_import.py runs it",
        "not run: needs model files; the template's tests/test_import.py runs it",
    ],
    "docs/operators.md": [IN_CONTAINERS, "not run: there is one version, and none before it to go back to"],
    "docs/monitoring.md": [
        IN_CONTAINERS,
        "not run: needs a server that has answered calls; tests/platform/unit/test_drift.py runs it",
        "not run: needs logged predictions; tests/platform/unit/test_predictions.py runs it",
        "not run: needs logged predictions; tests/platform/unit/test_predictions.py runs it",
        IN_CONTAINERS,
    ],
    "docs/batch.md": [
        IN_CONTAINERS,
        "not run: installs Ray, about 300 MB; the template's tests/test_ray.py runs it",
        "not run: needs a cluster; the template's tests/test_ray.py runs it on two nodes",
    ],
    "docs/deployment.md": ["not run: needs a container engine and a registry; the template's tests/containers runs it"],
    "docs/updating.md": 2 * ["not run: needs the template where it is published"],
    "docs/five-mistakes.md": 4 * [MISTAKE],  # and a Dockerfile
}
# All tests of the platform, and benchmarks.
# In alphabetical order: `make sizing` reads the figures of `make bench`.
TAKE_MINUTES = {"make bench", "make sizing", "make test", "make test-all"}
QUESTIONS_IN_A_MAP = 10
MAX_WORDS = 700
MAX_LINE = 120
MAX_LINE_IN_A_PAGE = 120
STOP_TIMEOUT_S = 30.0
PORT, REST_PORT = "8001", "8000"


def page(repo: Repo, name: str) -> list[Block]:
    return [block for block in blocks(repo.text(name)) if block.language in RUNNABLE]


def runnable(repo: Repo) -> list[Block]:
    """Return what all pages tell a reader to run; tests/test_model_page.py writes the files that they show."""
    return [block for name in PAGES for block in page(repo, name) if not block.note.startswith(("not run", A_FILE))]


def commands(block: Block) -> list[str]:
    """Return what a block runs: each line of a shell's, without comments, and other code as a whole."""
    if block.language != "sh":
        return [block.text]
    return [line for line in (re.sub(r"(^|\s+)#.*", "", line) for line in block.text.splitlines()) if line]


# What the pages hold


def test_the_pages_are_all_the_pages(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        repo = generated(**choices)
        apart = ("tests", ".github", ".gitlab")  # the latter for who opens a request or an issue
        found = {path.as_posix() for path in repo.files() if path.suffix == ".md" and path.parts[0] not in apart}
        assert found == {*PAGES, REGISTRY_PAGE}


@pytest.mark.parametrize("feature_store", CHOICES["feature_store"])
def test_what_is_not_run_is_known_and_says_why(generated: Callable[..., Repo], feature_store: str) -> None:
    repo = generated(feature_store=feature_store)
    found = {name: [block.note for block in page(repo, name) if block.note.startswith("not run")] for name in PAGES}
    assert {name: notes for name, notes in found.items() if notes} == NOT_RUN


def test_every_other_block_is_run_or_shown(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        for name in PAGES:
            for block in blocks(generated(**choices).text(name)):
                known = block.language in RUNNABLE | SHOWN or block.note == MISTAKE
                assert known, f"{name}: {block.language}: {block.text}"


@pytest.mark.parametrize("axis", AXES)
def test_every_choice_brings_the_page_of_its_axis(template: Path, axis: str) -> None:
    for choice in CHOICES[axis]:
        assert Path(PAGE_OF_AXIS[axis]) in set(brought(template, axis, choice)), choice


def test_its_commands_exist(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        repo = generated(**choices)
        known = set(re.findall(r'^    "([\w-]+)": Command\(', repo.text("tools/tasks.py"), re.MULTILINE))
        known |= set(re.findall(r'^    "([\w-]+)": "', repo.text("tools/cluster.py"), re.MULTILINE))
        for name in (*PAGES, REGISTRY_PAGE):
            named = re.findall(r"(?:^|`)make ([a-z][\w-]*(?: [a-z][\w-]*)*)", repo.text(name), re.MULTILINE)
            assert set(" ".join(named).split()) <= known, name


def test_every_link_leads_to_a_file_or_a_heading(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        repo = generated(**choices)
        for name in (*PAGES, REGISTRY_PAGE):
            for link in re.findall(r"\]\(([^)]+)\)", repo.text(name)):
                path, _, heading = link.partition("#")
                if "://" in link:
                    continue
                target = (repo.path / name).parent / path if path else repo.path / name
                assert target.exists(), f"{name}: {link}"
                headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE) if heading else []
                assert not heading or heading in {text.lower().replace(" ", "-") for text in headings}, link


def test_the_readme_is_one_page(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        repo = generated(**choices)
        assert len(repo.text("README.md").split()) <= MAX_WORDS
        assert long_lines(repo.text("README.md"), MAX_LINE) == []


def test_lines_of_the_other_pages_can_be_read_in_an_editor(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        for name in (*PAGES, REGISTRY_PAGE):
            assert long_lines(generated(**choices).text(name), MAX_LINE_IN_A_PAGE) == [], name


def long_lines(text: str, most: int) -> list[str]:
    """Return the lines of a page that are longer, but for rows of tables and blocks."""
    prose = re.sub(r"^```\w*\n.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [line for line in prose.splitlines() if len(line) > most and not line.startswith("|")]


@pytest.mark.parametrize("runtime", CHOICES["runtime"])
def test_the_page_on_the_model_lists_what_the_platform_imports_from_it(
    generated: Callable[..., Repo], runtime: str
) -> None:
    listed = {}
    text = generated(runtime=runtime).text("docs/model.md")
    for file, names in re.findall(r"^\| `model/(\w+)\.py` \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE):
        listed[f"model.{file}"] = set(re.findall(r"`(\w+)`", names))
    protocols: dict[str, set[str]] = {}
    module = ast.parse((ROOT / ROOT_FOLDER / "src/serving/offline/user_model.py").read_text(encoding="utf-8"))
    for protocol in [node for node in module.body if isinstance(node, ast.ClassDef)]:
        file = re.match(r"The names of `model/(\w+)\.py`", ast.get_docstring(protocol) or "")
        if file:
            methods = [node.name for node in protocol.body if isinstance(node, ast.FunctionDef)]
            fields = [ast.unparse(node.target) for node in protocol.body if isinstance(node, ast.AnnAssign)]
            protocols.setdefault(f"model.{file[1]}", set()).update(methods, fields)
    assert listed == protocols


def test_one_module_opens_the_model() -> None:
    """Feast imports the declaration by a path in its own configuration."""
    importing = {
        path.relative_to(ROOT / ROOT_FOLDER).as_posix()
        for path in (ROOT / ROOT_FOLDER).rglob("*.py")
        if not {"tests", "benchmarks", "model"} & set(path.relative_to(ROOT / ROOT_FOLDER).parts)
        and re.search(r"^\s*(from|import) model\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    }
    definitions = "_variants/feature_store/feast/config/feature_repo/definitions.py"
    assert importing == {"src/serving/offline/user_model.py", definitions}


def declared_settings() -> dict[str, str]:
    """Read the variables of the server's settings and their defaults from the code."""
    found = {}
    for module in ("domain", "prediction", "online"):
        path = ROOT / ROOT_FOLDER / "src" / "serving" / module / "settings.py"
        for kind in ast.parse(path.read_text(encoding="utf-8")).body:
            if not isinstance(kind, ast.ClassDef):
                continue
            for entry in kind.body:
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.target, ast.Name) and entry.value:
                    name, default = setting(entry.target.id, entry.value)
                    found[name] = default
    return found


def setting(name: str, value: ast.expr) -> tuple[str, str]:
    """Return a field's variable and its default: empty where there is none or it is computed."""
    variable = f"SERVING_{name.upper()}"
    if isinstance(value, ast.Call):
        options = {word.arg: word.value for word in value.keywords}
        if alias := options.get("validation_alias"):
            assert isinstance(alias, ast.Call)
            variable = str(ast.literal_eval(alias.args[0]))
        value = options["default"] if "default" in options else next(iter(value.args), ast.Constant(None))
    if isinstance(value, ast.Attribute):  # a member of an enumeration
        return variable, value.attr.lower()
    default = ast.literal_eval(value)
    return variable, "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)


def test_the_page_for_operators_lists_every_setting_with_its_default(generated: Callable[..., Repo]) -> None:
    _, _, section = generated().text("docs/operators.md").partition("\n## Settings\n")
    rows = re.findall(r"^\| ((?:`[A-Z]\w+`(?:, )?)+) \| ([^|]+) \|", section, re.MULTILINE)
    listed = {}
    for names, defaults in rows:
        values = re.findall(r"`([^`]+)`", defaults) if defaults.startswith("`") else []
        for number, name in enumerate(re.findall(r"`(\w+)`", names)):
            listed[name] = values[number] if number < len(values) else ""
    assert listed == declared_settings()


def test_the_example_of_an_environment_file_has_every_setting_with_its_default(generated: Callable[..., Repo]) -> None:
    listed = example_variables(generated())
    settings = declared_settings()
    assert {name: listed.get(name) for name in settings} == settings


def test_it_and_the_pages_of_the_choices_name_every_variable_that_compose_reads(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        repo = generated(**choices)
        files = [
            path for path in repo.files() if path.suffix == ".yaml" and path.parts[0] in ("compose.yaml", "compose")
        ]
        read = set().union(*(re.findall(r"(?<!\$)\$\{(\w+)", repo.text(str(path))) for path in files))
        listed = set(example_variables(repo))
        assert listed <= read | set(declared_settings()) | {
            "COMPOSE_FILE",
            "COMPOSE_PROFILES",  # both are Compose's own
            "IMAGE_PREFIX",  # read by `make push`
        }
        named = set().union(*(re.findall(r"\b[A-Z][A-Z_]+\b", repo.text(page)) for page in PAGE_OF_AXIS.values()))
        assert read <= listed | named


def example_variables(repo: Repo) -> dict[str, str]:
    """Return the variables of .env.example and their defaults; all are commented out."""
    return dict(re.findall(r"^# ([A-Z][A-Z0-9_]+)=(.*)$", repo.text(".env.example"), re.MULTILINE))


def test_the_map_of_files_leads_to_what_is_there(generated: Callable[..., Repo]) -> None:
    for choices in SAMPLE:
        repo = generated(**choices)
        _, _, section = repo.text("CONTRIBUTING.md").partition("\n## Which file?\n")
        rows = re.findall(r"^\| (.*\?) \| (.*) \|$", section.partition("\n## ")[0], re.MULTILINE)
        assert len(rows) >= QUESTIONS_IN_A_MAP
        for question, answer in rows:
            paths = re.findall("`([^`]+)`", answer)
            assert paths, question
            assert [path for path in paths if not (repo.path / path).exists()] == [], question


# What the pages make of a repo


def test_its_commands_and_its_code_work(default_repo: Repo, tmp_path: Path) -> None:
    every = set[str]().union(*map(commands, runnable(default_repo)))
    assert every > TAKE_MINUTES
    work_through(default_repo, tmp_path, every - TAKE_MINUTES)


@pytest.mark.long
def test_its_commands_that_take_minutes_work(default_repo: Repo) -> None:
    default_repo.passes("train")
    default_repo.passes("features")
    for command in sorted(TAKE_MINUTES):
        passes(["sh", "-e", "-c", command], default_repo, os.environ | {"PYTHON": sys.executable})


@pytest.mark.long
def test_what_pages_of_other_choices_say_beside_that_works_too(template: Path, tmp_path: Path) -> None:
    """A command is run once, whatever comment stands behind it; test_choices.py runs their tests and checks."""
    done = set[str]().union(*map(commands, runnable(generate(template, tmp_path / "default", SAMPLE[0]))))
    for number, choices in enumerate(SAMPLE[1:]):
        repo = generate(template, tmp_path / str(number) / "out", choices)
        fresh = set[str]().union(*map(commands, runnable(repo))) - done
        if fresh:
            repo.passes("train")
            repo.passes("features")
            work_through(repo, tmp_path / str(number), fresh)
        done |= fresh


@dataclass
class Reader:
    """Somebody who does what the pages say, each command once."""

    repo: Repo
    folder: Path
    port: str = field(default_factory=lambda: str(free_port()))
    rest_port: str = field(default_factory=lambda: str(free_port()))
    done: set[str] = field(default_factory=set)
    printed: str = ""

    @property
    def server(self) -> str:
        return f"localhost:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """The pages are for a machine on which nothing else listens; here something may."""
        ports = {"SERVING_GRPC_PORT": self.port, "SERVING_METRICS_PORT": "0"}
        if self.repo.has_rest:
            ports["SERVING_REST_PORT"] = self.rest_port
        return os.environ | ports | {"PYTHON": sys.executable}

    def caller(self) -> dict[str, str]:
        """Return the variables of a caller's machine: another environment, and the address of the server."""
        home = self.folder / "caller"
        scripts = home / ("Scripts" if os.name == "nt" else "bin")
        path = {"PATH": os.pathsep.join([str(scripts), os.environ["PATH"]])}
        if not home.exists():
            passes([sys.executable, "-m", "venv", str(home)], self.repo, self.environment)
            passes(["sh", "-e", "-c", "pip install ./client"], self.repo, self.environment | path)
        return os.environ | path | {"SERVING_TARGET": self.server}

    def do(self, block: Block, command: str) -> None:
        """Run a command, or a block of Python, where the page says."""
        if command in self.done:
            return
        self.done.add(command)
        environment = self.caller() if block.note == AS_A_CALLER else self.environment
        if block.language == "python":
            python = self.repo.python if block.note == IN_THE_REPO else "python"
            words = [python, "-c", command.replace(f"localhost:{PORT}", self.server)]
        else:
            words = ["sh", "-e", "-c", command.replace(f"localhost:{REST_PORT}", f"localhost:{self.rest_port}")]
        options = {"ARGS": f"--target {self.server}"} if command == "make predict" else {}
        self.printed = passes(words, self.repo, environment | options)


def work_through(repo: Repo, folder: Path, only: set[str]) -> None:
    """Do what the pages say, from top to bottom: these commands, and what they need."""
    reader = Reader(repo, folder)
    with ExitStack() as running:
        for name in PAGES:
            reader.printed = ""
            for block in blocks(repo.text(name)):
                chosen = [command for command in commands(block) if command in only]
                if block.note == IN_THE_BACKGROUND:
                    running.enter_context(served(block, repo, reader.environment))
                elif block.language in RUNNABLE and not block.note.startswith(("not run", A_FILE)):
                    reader.printed = ""
                    for command in chosen:
                        reader.do(block, command)
                elif block.language == "text" and reader.printed:
                    assert_shown(block.text, reader.printed)
    assert only - reader.done - {"make run"} == set()


def free_port() -> int:
    with socket.create_server(("localhost", 0)) as listener:
        return int(listener.getsockname()[1])


def passes(command: list[str], repo: Repo, environment: dict[str, str]) -> str:
    done = run(command, cwd=repo.path, environment=environment)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def served(block: Block, repo: Repo, environment: dict[str, str]) -> Iterator[None]:
    """Run a block that serves, until the server reports its port; stop it in the end, as Ctrl-C does."""
    command = ["sh", "-e", "-c", block.text]
    with subprocess.Popen(
        command,
        cwd=repo.path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        said: list[str] = []
        for line in process.stderr:
            said.append(line)
            if line.startswith("{") and "grpc_port" in json.loads(line):
                break
        else:
            pytest.fail("the server ended:\n" + "".join(said))
        reader = threading.Thread(target=said.extend, args=(process.stderr,))
        reader.start()
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(timeout=STOP_TIMEOUT_S)
            reader.join()
    assert "Traceback" not in "".join(said)


@pytest.mark.long
@pytest.mark.parametrize("feature_store", ["sqlite", "none"])
def test_a_feature_that_is_added_as_the_page_says_is_served(
    template: Path, tmp_path: Path, default_repo: Repo, feature_store: str
) -> None:
    repo = generate(template, tmp_path / "out", {"feature_store": feature_store})
    (diff,) = [block for block in blocks(repo.text("docs/model.md")) if block.language == "diff"]
    (tmp_path / "weight.diff").write_text(diff.text, encoding="utf-8")
    passes(["git", "apply", str(tmp_path / "weight.diff")], repo, dict(os.environ))
    inside = os.environ | {"PYTHONPATH": os.pathsep.join(str(repo.path / name) for name in ("src", "client", "."))}
    passes([default_repo.python, "-m", "serving.offline.train"], repo, inside)
    (manifest,) = repo.path.glob("registry/*/1/artifact/manifest.json")
    declared = json.loads(manifest.read_text(encoding="utf-8"))["features"]["static"]
    assert [feature["name"] for feature in declared] == ["weight", "age", "sex", "bmi"]
    if feature_store != "none":
        assert "wrote 442 rows" in passes([default_repo.python, "-m", "serving.offline.materialize"], repo, inside)
    # The golden rows are answered right: the weight comes from the store or, where there is none, with the call.
    assert "sha256=" in passes([default_repo.python, "-m", "tools.demo"], repo, inside)
