"""Random answers from a seed: ordinary ones, some that break file formats, and some that would run as code."""

from __future__ import annotations

import random

from tests.support import CHOICES, QUESTIONS

PLAIN = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 "
# Texts that a file format or the shell would interpret.
MEANINGFUL = (
    *"\"'`\\#:;,.!?&*|<>()[]{}%@$~^=+-_/",
    *(
        '"""',
        "'''",
        "\\n",
        "\\u0041",
        "\\x00",
        "\\\\",
        ": ",
        " #",
        "- ",
        "? ",
        "---",
        "...",
        "<<",
        "!!str ",
        "&a ",
        "*a",
    ),
    *(
        "${HOME}",
        "$(id)",
        "`id`",
        "%s",
        "%(x)s",
        "%PATH%",
        "{x}",
        "}}",
        "%}",
        "#}",
        "</a>",
        "<!--",
        "-->",
        "&amp;",
        "]]>",
    ),
    *("yes", "no", "null", "~", "1e3", "0x1f", "12:30", "1. ", "1) ", "=1+1", "\\", "//", "import os;", "exit 1"),
)
ABROAD = (
    "é",
    "ß",
    "\u0131",
    "日本",
    "סוכרת",
    "سكري",
    "😀",
    "👩🏽‍⚕️",
    "e\u0301",
    "\u00a0",
    "\u200b",
    "\ufeff",
    "\u0130",
    "\U0001d4b3",
)
FORBIDDEN = (
    *("\n", "\r", "\t", "\0", "\x07", "\x1b[31m", "\x7f", "\x85", "\u2028", "\u2029", "\u202e", "\u2066"),
    *("\ud800", "\ufffe", "\uffff", "\ufdd0", "\U0001ffff", "{{", "{%", "{#", "{{ x }}", "{% set x = 1 %}", "{{7*7}}"),
    "{{ cycler.__init__.__globals__.os.system('touch canary') }}",
    "{{cookiecutter.project_slug}}",
)
BAD_SLUGS = (
    *("", "a", "a" * 64, "A", "a_b", "a--b", "-a", "a-", "1a", "a b", "ab\n", "größe", "..", ".", "~", "/", "\\", "C:"),
    *("../../escaped/x", "/escaped", "..\\escaped", "con", "nul", "com1", "json", "os", "serving", "model", "tests"),
    *('x");open("canary", "w");("', "{{cookiecutter.project_slug}}", "{{ 7*7 }}", "{%", "a\0b", "a.b", "\uff41\uff42"),
)
NO_TEXTS: tuple[object, ...] = (None, True, 0, 3.12, [], ["a"], {}, {"a": "b"})
PARTS = (PLAIN, MEANINGFUL, ABROAD)


def drawer(seed: int) -> random.Random:
    """Return a generator that gives the same values for the same seed on every Python."""
    return random.Random(seed)  # noqa: S311 - draws tests, keeps no secret


def answers(chance: random.Random) -> dict[str, object]:
    """Return an answer to every question; about half of all sets are valid."""
    return {question: _answer(question, chance) for question in QUESTIONS} | _of_no_question(chance)


def _answer(question: str, chance: random.Random) -> object:
    hostile = chance.random() < 2 / 3 / len(QUESTIONS)
    if question in CHOICES:
        wrong = [text(chance), *NO_TEXTS, f"../{CHOICES[question][0]}", f"{CHOICES[question][0]} ", ""]
        return chance.choice(wrong if hostile else CHOICES[question])
    if question == "project_slug":
        return chance.choice([*BAD_SLUGS, *NO_TEXTS, text(chance)]) if hostile else slug(chance)
    if not hostile:
        return text(chance)
    kept, bad = text(chance), chance.choice(FORBIDDEN)
    cut = chance.randrange(len(kept) + 1)
    return chance.choice(
        [kept[:cut] + bad + kept[cut:], kept + bad, bad, kept * 201, f" {kept}", f"{kept} ", "", *NO_TEXTS]
    )


def _of_no_question(chance: random.Random) -> dict[str, object]:
    if chance.random() < 0.95:
        return {}
    return {
        chance.choice(["team", "Project_Slug", "project-slug", "_extensions", "_new_lines"]): chance.choice(
            ["", "x", []]
        )
    }


def text(chance: random.Random) -> str:
    """Return a text that breaks no rule."""
    longest = chance.choice([1, 8, 40, 200])
    parts = [chance.choice(chance.choice(PARTS)) for _ in range(chance.randint(1, longest))]
    found = "".join(parts).replace("{", " { ") if chance.random() < 0.5 else "".join(parts)
    while any(mark in found for mark in ("{{", "{%", "{#")):
        found = found.replace("{", "", 1)
    return found[:longest].strip() or "x"


def slug(chance: random.Random) -> str:
    """Return a slug that breaks no rule."""
    words = ("".join(chance.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=chance.randint(1, 12))) for _ in range(3))
    return f"{chance.choice('abcxyz')}{'-'.join(words)}-{chance.randrange(10**9)}"
