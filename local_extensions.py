"""The gate that every answer passes before a folder is made, and the filters that quote answers.

Cookiecutter compiles the root folder's name before it makes anything, whichever way the answers came in: prompt,
`key=value`, defaults file, replay file, cruft. The check hooks in there. See docs/adr/0003-check-at-the-root-folder.md.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension

ROOT_FOLDER = "{{cookiecutter.project_slug}}"
SYNTAX = ("{{", "{%", "{#")
TEXT_LIMIT = 200
SLUG_LIMIT = 63
SLUG = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
SHOWN = 64

_OWN: Mapping[str, Any] = json.loads(Path(__file__).with_name("cookiecutter.json").read_text(encoding="utf-8"))
_PUBLIC = tuple(key for key in _OWN if not key.startswith("_"))
# Cookiecutter obeys these; with other values the template would be rendered in an untested way.
_STEERING = ("_extensions", "_copy_without_render", "_new_lines", "_jinja2_env_vars")
_DEVICES = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))}
# Names of the packages in a generated repo, and names whose client package (`<name>_client`) exists already.
_TAKEN = {"serving", "model", "client", "tools", "tests", "benchmarks", "serving-client", "prometheus", "jupyter"}


@dataclass(frozen=True)
class Fault:
    """One answer that is refused, the rule that it breaks and a value that would do; None: leave the answer out."""

    field: str
    value: object
    rule: str
    instead: str | None

    def __str__(self) -> str:
        way = f"leave {self.field} out" if self.instead is None else f"for example {self.instead!a}"
        return f"{self.field} = {shown(self.value)}\n    rule:    {self.rule}\n    way out: {way}"


class Refused(FailedHookException, SystemExit):  # type: ignore[misc]  # Cookiecutter has no types
    """Answers that are refused; the text says which, why, and what to run instead.

    Cookiecutter prints the text of its own exceptions. Cruft catches none: as a SystemExit too, it ends cruft with the
    same text and the exit code 1, in place of a traceback.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text


class Answers(Extension):
    """Check all answers as the root folder's name is compiled, and take text that is not the template's as text."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        # `cruft update` renders two releases in one process, from one folder: each needs its own questions and rules.
        sys.modules.pop(__name__, None)
        slugify = environment.filters["slugify"]
        environment.filters.update(
            slug=lambda text: slug_of(text, slugify),
            checked_folder=lambda context: _checked_folder(context, slugify),
            toml=quoted,
            yaml=quoted,
            shell=shlex.quote,
            markdown=markdown,
            answers_json=answers_json,
        )

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:
        """Return what Jinja shall compile in place of `source`.

        Files of the template come with a name. Without one come the values of cookiecutter.json, answers that were
        put in their place, and paths: of those only the template's own may be code.
        """
        if name is not None or not any(mark in source for mark in SYNTAX):
            return source
        if source == ROOT_FOLDER:
            return "{{ cookiecutter | checked_folder }}"
        return source if source in _own_sources() else _literal(source)


def check(context: Mapping[str, Any], slugify: Callable[[str], str]) -> list[Fault]:
    """Return every fault of the answers, in the order of the questions."""
    faults = [
        Fault(key, context[key], f"this template asks no such question; it asks {', '.join(_PUBLIC)}", None)
        for key in context
        if not key.startswith("_") and key not in _PUBLIC
    ]
    faults += [
        Fault(key, context.get(key), "is set by the template and can't be an answer", None)
        for key in _STEERING
        if context.get(key) != _OWN.get(key)
    ]
    for field in _PUBLIC:
        value, choices = context[field], _OWN[field]
        if isinstance(choices, list):
            if value not in choices:
                faults.append(Fault(field, value, f"must be one of {', '.join(choices)}", choices[0]))
        elif field == "project_slug":
            rule = slug_fault(value)
            if rule:
                faults.append(Fault(field, value, rule, slug_of(str(value), slugify)))
        else:
            rule = text_fault(value)
            if rule:
                faults.append(Fault(field, value, rule, clean(value) or str(choices)))
    return faults


def slug_fault(value: object) -> str | None:
    """Return the rule that a slug breaks, or None."""
    if not isinstance(value, str) or not SLUG.fullmatch(value) or not 2 <= len(value) <= SLUG_LIMIT:
        return (
            f"2 to {SLUG_LIMIT} lowercase letters and digits, with single hyphens between them, starting with a letter"
        )
    if value in _DEVICES:
        return "must not be a device name on Windows, where no folder can have it"
    if value in _TAKEN or value.replace("-", "_") in sys.stdlib_module_names:
        return "must not be the name of a Python package that the repo needs"
    return None


def slug_of(text: str, slugify: Callable[[str], str]) -> str:
    """Derive a slug from any text; the result is always valid."""
    slug = re.sub(r"^[^a-z]+", "", slugify(text))[:SLUG_LIMIT].rstrip("-")
    if slug_fault(slug) is None:
        return slug
    return f"{slug or 'my'}-service"


def text_fault(value: object) -> str | None:
    """Return the rule that a text breaks, or None."""
    if not isinstance(value, str):
        return "must be text"
    if not value or value != value.strip():
        return "must not be blank, nor begin or end with a space"
    if len(value) > TEXT_LIMIT:
        return f"at most {TEXT_LIMIT} characters; this has {len(value)}"
    if any(mark in value for mark in SYNTAX):
        return f"must not contain template syntax ({' '.join(SYNTAX)})"
    if any(map(_is_forbidden, value)):
        return "must be one line of text, without control characters or marks that reorder text"
    return None


def clean(value: object) -> str:
    """Return what is left of a refused text when all that breaks a rule is gone; may be empty."""
    text = "".join(" " if _is_forbidden(character) else character for character in str(value))
    while any(mark in text for mark in SYNTAX):
        text = re.sub(r"\{([{%#])", r"\1", text)
    return text.strip()[:TEXT_LIMIT].strip()


def _is_forbidden(character: str) -> bool:
    code = ord(character)
    return (
        unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"}
        or code & 0xFFFE == 0xFFFE
        or 0xFDD0 <= code <= 0xFDEF  # the other non-characters: no file format takes them
        or 0x202A <= code <= 0x202E  # these make a text look like another one ("Trojan source")
        or 0x2066 <= code <= 0x2069
    )


def shown(value: object) -> str:
    """Return a refused value in a form that can do nothing to a terminal or a log."""
    text = ascii(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}... ({len(text)} characters)"


def quoted(text: str) -> str:
    """Quote a text for TOML and YAML: JSON's form, with what those two forbid or fold escaped as well."""
    form = json.dumps(text, ensure_ascii=False)
    return re.sub("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]", lambda match: f"\\u{ord(match[0]):04x}", form)


def markdown(text: str) -> str:
    """Quote a text for a line of Markdown."""
    escaped = re.sub(r"([\\`*_\[\]<>&|~#$!])", r"\\\1", text)
    return re.sub(r"^(\d+)([.)])|^([-+=])", r"\1\\\2\3", escaped)


def answers_json(context: Mapping[str, Any]) -> str:
    """Return the public answers as JSON, twice: where Cookiecutter's replay file has them, and where cruft looks.

    Each reads its own place and passes over the other. Cruft would take the defaults, silently, if it found none.
    """
    answers = {key: context[key] for key in _PUBLIC}
    return json.dumps({"cookiecutter": answers, **answers}, indent=2, ensure_ascii=False)


def _checked_folder(context: Mapping[str, Any], slugify: Callable[[str], str]) -> str:
    if not all(key in context for key in _PUBLIC):
        return ROOT_FOLDER  # not the folder's name yet, but an answer that imitates it: a text like any other
    faults = check(context, slugify)
    if faults:
        raise Refused(_refusal(context, faults))
    return str(context["project_slug"])


def _refusal(context: Mapping[str, Any], faults: list[Fault]) -> str:
    count = "one answer" if len(faults) == 1 else f"{len(faults)} answers"
    listed = "\n\n".join(f"  {fault}" for fault in faults)
    return (
        f"The template refuses {count}; nothing was written.\n\n{listed}\n\n"
        f"This command runs it again and keeps all other answers:\n\n  {_command(context, faults)}"
    )


def _command(context: Mapping[str, Any], faults: list[Fault]) -> str:
    """Return the command that has every fault's way out in its place."""
    ways_out = {fault.field: fault.instead for fault in faults}
    answers = {field: ways_out.get(field, context[field]) for field in _PUBLIC}
    template = str(context.get("_template", "."))
    by_cruft = "_commit" in context  # Cookiecutter itself sets no such variable
    if by_cruft and Path(".cruft.json").exists():
        changed = {field: value for field, value in answers.items() if field in ways_out}
        words = [*_program("cruft"), "update", "--variables-to-update", json.dumps(changed)]
    elif by_cruft:
        words = [*_program("cruft"), "create", template, "--no-input", "--extra-context", json.dumps(answers)]
    else:
        words = [*_program("cookiecutter"), template]
        if context.get("_checkout"):
            words += ["--checkout", str(context["_checkout"])]
        if context.get("_output_dir", str(Path.cwd())) != str(Path.cwd()):
            words += ["--output-dir", str(context["_output_dir"])]
        words += ["--no-input", *(f"{field}={value}" for field, value in answers.items())]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _program(name: str) -> list[str]:
    """Return how to run a program again that may have been run from an environment that is not on PATH."""
    return [name] if shutil.which(name) else [sys.executable, "-m", name]


def _literal(text: str) -> str:
    """Return Jinja source that renders to this text, whatever is in it."""
    return '{{ "' + "".join(f"\\U{ord(character):08x}" for character in text) + '" }}'


def _own_sources() -> set[str]:
    return {value for value in _OWN.values() if isinstance(value, str)}
