"""Mistake 1: REST and JSON where gRPC belongs.

This repo's contract is the Open Inference Protocol over gRPC: typed tensors instead of JSON, and a deadline on every
call. HTTP is answered in one folder, and only in a repo generated with a REST API beside gRPC.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.guardrails.source import (
    calls,
    functions,
    imports,
    last_name,
    nodes,
    of_modules,
    python_files,
    requirements,
    tree_of,
)
from tests.guardrails.violations import ROOT, Violation, report

SERVICE = "GRPCInferenceService"
METHODS = ("ServerLive", "ServerReady", "ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer")
WEB_MODULES = (
    "aiohttp.web", "bentoml", "blacksheep", "bottle", "cherrypy", "connexion", "django", "falcon", "fastapi", "flask",
    "gradio", "gunicorn", "http.server", "hypercorn", "litestar", "pyramid", "quart", "responder", "robyn", "sanic",
    "socketserver", "starlette", "streamlit", "tornado", "uvicorn", "waitress", "werkzeug", "wsgiref", "xmlrpc.server",
)  # fmt: skip
METRICS_PAGE = "src/serving/online/metrics_page.py"
REST, CHOSEN = "src/serving/online/rest/", "requirements/rest_api.in"
WEB_PACKAGES = ("aiohttp", "djangorestframework", *(name for name in WEB_MODULES if "." not in name))
MAKES_STUBS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
ALSO_CALLS = ("future", "with_call")


def test_the_contract_is_grpc_with_deadlines() -> None:
    found = violations(ROOT)
    assert not found, report(found)


def violations(root: Path) -> list[Violation]:
    """Return every place where the service is less than a gRPC service with deadlines."""
    return [
        *protocol_is_there(root),
        *methods_are_served(root),
        *no_web_framework(root),
        *client_methods_require_a_timeout(root),
        *outgoing_calls_have_a_timeout(root),
        *server_bounds_calls_without_deadline(root),
    ]


def protocol_is_there(root: Path) -> Iterator[Violation]:
    """The .proto declares the six methods, and no mapping of them to REST."""
    path = "src/serving/online/grpc/proto/open_inference.proto"
    file = root / path
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    words = {number: line.partition("//")[0].replace("(", " ").split() for number, line in enumerate(lines, start=1)}
    start = next((number for number, found in words.items() if found[:2] == ["service", SERVICE]), 1)
    declared = {found[1] for found in words.values() if found[:1] == ["rpc"]}
    for method in METHODS:
        if method not in declared:
            yield Violation(
                path,
                start,
                f"{SERVICE} declares no method {method}",
                "clients in any language are made from this file; without it the contract is whatever the code does",
                "restore the file: it is the Open Inference Protocol (version 2), word for word",
            )
    for number, found in words.items():
        if any("google.api.http" in word or "google/api/annotations" in word for word in found):
            yield Violation(
                path,
                number,
                "an HTTP mapping in the protocol",
                "it makes REST part of the contract, which is gRPC",
                "remove it; the template's choice rest_api=open-inference has REST in another folder",
            )


def methods_are_served(root: Path) -> Iterator[Violation]:
    """The servicer's table has all six, and the server registers it."""
    path = "src/serving/online/grpc/servicer.py"
    files = python_files(root, "src/serving/online/grpc")
    tables = [node for file in files for node in nodes(tree_of(file)) if isinstance(node, ast.Dict)]
    served = {key.value for table in tables for key in table.keys if isinstance(key, ast.Constant)}
    why = "a client of the Open Inference Protocol relies on every one of the six methods"
    for method in METHODS:
        if method not in served:
            fix = f"add {method} to the table in InferenceServicer.handler"
            yield Violation(path, 1, f"{method} is not in the table of served methods", why, fix)
    if not any(True for file in files for _ in calls(tree_of(file), "add_generic_rpc_handlers")):
        fix = "register InferenceServicer.handler() with add_generic_rpc_handlers"
        yield Violation("src/serving/online/grpc/server.py", 1, "the servicer is registered nowhere", why, fix)


def no_web_framework(root: Path) -> Iterator[Violation]:
    """Nothing in the server answers HTTP, but for the page of metrics and the REST API, in a repo that has one."""
    why = "JSON turns every number into text and back, has no types, no deadlines and no streams"
    fix = "answer through gRPC; for callers without it, generate the repo with rest_api=open-inference"
    rest = (root / CHOSEN).exists()
    for file in python_files(root, "src/serving"):
        name = file.relative_to(root).as_posix()
        if rest and name.startswith(REST):
            continue
        for found in of_modules(imports(root, file), *WEB_MODULES):
            yield Violation(name, found.line, f"imports {found.module}, which answers HTTP", why, fix)
        for call in calls(tree_of(file), "start_server", "create_server") if name != METRICS_PAGE else ():
            yield Violation(name, call.lineno, f"opens a server by hand: {ast.unparse(call.func)}", why, fix)
    for package, line, _ in requirements(root, "requirements/base.in"):
        if package in WEB_PACKAGES:
            yield Violation("requirements/base.in", line, f"requires {package}, a web framework", why, fix)


def client_methods_require_a_timeout(root: Path) -> Iterator[Violation]:
    """In a class that holds a connection, so one that can be closed, all other public methods take a timeout."""
    for file in python_files(root, "client/serving_client"):
        for kind in (node for node in nodes(tree_of(file)) if isinstance(node, ast.ClassDef)):
            methods = [node for node in kind.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
            if "close" not in {method.name for method in methods}:
                continue
            for method in methods:
                if not method.name.startswith("_") and method.name != "close" and not _requires_timeout(method):
                    yield Violation(
                        file.relative_to(root).as_posix(),
                        method.lineno,
                        f"{kind.name}.{method.name} does not require `timeout` as a keyword",
                        "a call without a deadline waits for ever when the server hangs, and so does its caller",
                        "declare it as `*, timeout: float`, without a default: only the caller knows how long to wait",
                    )


def outgoing_calls_have_a_timeout(root: Path) -> Iterator[Violation]:
    """Every call of a stub passes the time that is left."""
    for file in python_files(root, "client/serving_client"):
        tree = tree_of(file)
        stubs = _stubs(tree)
        for call in (node for node in nodes(tree) if isinstance(node, ast.Call)):
            called = ast.unparse(call.func)
            owner, _, last = called.rpartition(".")
            is_stub = called in stubs or (owner in stubs and (last in ALSO_CALLS or last[:1].isupper()))
            is_made_here = _makes_a_stub(call.func)
            given = {keyword.arg: keyword.value for keyword in call.keywords}.get("timeout", ast.Constant(None))
            if (is_stub or is_made_here) and isinstance(given, ast.Constant) and given.value is None:
                yield Violation(
                    file.relative_to(root).as_posix(),
                    call.lineno,
                    f"a gRPC call without a timeout: {called}(...)",
                    "gRPC's default is to wait for ever: one hung server then hangs all who call it",
                    "pass `timeout=deadline.left()`, the time that the caller has left",
                )


def server_bounds_calls_without_deadline(root: Path) -> Iterator[Violation]:
    """The server gives a call that came without a deadline its own."""
    files = python_files(root, "src/serving/online/grpc")
    asking = [(file, node) for file in files for node in functions(tree_of(file)) if _asks_for_deadline(node)]
    why = "callers forget deadlines; such a call holds a slot of the server for as long as the model or store hangs"
    fix = "take the smaller of the caller's deadline and SERVING_CALL_TIMEOUT, and the latter where there is none"
    if not asking:
        yield Violation("src/serving/online/grpc/servicer.py", 1, "no method looks at the call's deadline", why, fix)
    for file, function in asking:
        bounds = [ast.unparse(argument) for call in calls(function, "min") for argument in call.args]
        if not any("timeout" in bound for bound in bounds):
            name = file.relative_to(root).as_posix()
            yield Violation(name, function.lineno, f"{function.name} takes any deadline, or none", why, fix)
    settings = root / "src/serving/online/settings.py"
    fields = [node for node in nodes(tree_of(settings)) if isinstance(node, ast.AnnAssign)]
    bound = next((node for node in fields if ast.unparse(node.target) == "call_timeout"), None)
    if bound is None or ast.unparse(bound.annotation) != "float" or not _has_upper_bound(bound.value):
        line = bound.lineno if bound else 1
        what = "the setting call_timeout is not a float with an upper bound"
        yield Violation("src/serving/online/settings.py", line, what, why, "restore `call_timeout: float` with `le=`")


def _requires_timeout(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    keywords = zip(method.args.kwonlyargs, method.args.kw_defaults, strict=True)
    return any(argument.arg == "timeout" and default is None for argument, default in keywords)


def _stubs(tree: ast.Module) -> set[str]:
    """Return the names that stand for a server or a method of it: made from a channel, or declared so by their type."""
    names = {
        ast.unparse(target)
        for node in nodes(tree)
        if isinstance(node, ast.Assign) and _makes_a_stub(node.value)
        for target in node.targets
    }
    return names | {
        argument.arg
        for function in functions(tree)
        for argument in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
        if argument.annotation is not None and "MultiCallable" in ast.unparse(argument.annotation)
    }


def _makes_a_stub(value: ast.expr) -> bool:
    called = last_name(value.func) if isinstance(value, ast.Call) else ""
    return called in MAKES_STUBS or called.endswith("Stub")


def _asks_for_deadline(function: ast.AST) -> bool:
    return any(True for _ in calls(function, "time_remaining"))


def _has_upper_bound(value: ast.expr | None) -> bool:
    return isinstance(value, ast.Call) and {"le", "lt"} & {keyword.arg for keyword in value.keywords} != set()
