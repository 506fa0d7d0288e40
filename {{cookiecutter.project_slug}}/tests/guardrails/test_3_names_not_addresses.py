"""Mistake 3: containers that find each other by IP address.

An address changes when a container restarts; its name does not. So services are named, stand on networks made for one
purpose each, which is where Docker resolves names, and the client looks a name up again when a connection fails.
"""

from __future__ import annotations

import ast
import ipaddress
from collections.abc import Iterator
from pathlib import Path

from tests.guardrails.compose import Entry, Service, documents, services
from tests.guardrails.dockerfile import stages
from tests.guardrails.source import calls, nodes, python_files, texts, tree_of
from tests.guardrails.violations import ROOT, Violation, report

PUBLISH = "compose/publish"
CHANNEL = "client/serving_client/channel.py"
READ_AS_LINES = (".conf", ".cfg", ".env", ".ini", ".json", ".properties", ".sh", ".toml", ".yaml", ".yml")
# Where an address is one's own, to listen on: in these settings and calls, and nowhere else.
LISTENS = ("serving_host", "serving_metrics_host", "host", "metrics_host", "bind", "listen")
LISTENING_CALLS = ("add_insecure_port", "add_secure_port", "bind", "listen")
LONGEST_LOOKUP_MS = 2_000
SURROUNDINGS = str.maketrans(dict.fromkeys("\"'`,;()<>[]{}=@/|", " "))

WHY = "the address changes when the container restarts or moves, and then every call fails until someone edits this"
FIX = "write the service's name, and take it from an environment variable where it may differ"
NAMED = "on the default bridge no name is resolved; only networks of one's own come with Docker's DNS"


def test_peers_have_names_and_networks_of_their_own() -> None:
    found = violations(ROOT)
    assert not found, report(found)


def violations(root: Path) -> list[Violation]:
    """Return every place where an address is fixed, or where names would not be resolved."""
    return [
        *no_address_in_compose(root),
        *no_address_in_dockerfile(root),
        *no_address_in_code(root),
        *no_address_in_configuration(root),
        *services_stand_on_named_networks(root),
        *ports_are_published_for_this_machine_only(root),
        *client_looks_names_up_again(root),
    ]


def no_address_in_compose(root: Path) -> Iterator[Violation]:
    """No value is an address, but for those that ports are published on, and the ranges that networks are made of."""
    for document in documents(root):
        for path, entry in document.scalars():
            text = str(entry.value)
            name, _, value = text.partition("=")
            listens = "ports" in path or (path and path[-1].lower() in LISTENS) or (value and name.lower() in LISTENS)
            if "ipam" not in path:
                yield from _addresses(entry.file, entry.line, text, listens=bool(listens))


def no_address_in_dockerfile(root: Path) -> Iterator[Violation]:
    """No instruction has an address, but for the one to listen on."""
    for stage in stages(root):
        for step in stage.instructions:
            if step.name in ("ENV", "ARG", "LABEL"):
                for name, value in step.pairs():
                    yield from _addresses(stage.file, step.line, value, listens=name.lower() in LISTENS)
            else:
                yield from _addresses(stage.file, step.line, step.text, listens=False)


def no_address_in_code(root: Path) -> Iterator[Violation]:
    """No text in the server, the client and the tools is a peer's address, and none asks the engine for one."""
    for file in python_files(root, "src", "client", "tools"):
        tree = tree_of(file)
        name = file.relative_to(root).as_posix()
        own = _listening(tree)
        for line, text, node in texts(tree):
            yield from _addresses(name, line, text, listens=id(node) in own)
            if "IPAddress" in text:
                yield Violation(name, line, "asks the container engine for a container's address", WHY, FIX)


def no_address_in_configuration(root: Path) -> Iterator[Violation]:
    """No line of a configuration or environment file has one."""
    candidates = [file for folder in ("config", "monitoring", "deploy") for file in (root / folder).rglob("*")]
    for file in sorted([*candidates, *root.glob(".env*"), *root.glob("*.env")]):
        if not file.is_file() or not (file.suffix in READ_AS_LINES or file.name.startswith(".env")):
            continue
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
            words = line.replace("=", " ").split()
            if words and not words[0].startswith("#"):
                listens = words[0].lower() in LISTENS
                yield from _addresses(file.relative_to(root).as_posix(), number, line, listens=listens)


def services_stand_on_named_networks(root: Path) -> Iterator[Violation]:
    """Every service is on networks that the repo declares, or on none at all."""
    declared = {name for document in documents(root) for name, _ in _below(document.get("networks"))}
    for service in services(root):
        yield from _service_network(service, declared)
    for document in documents(root):
        for name, network in _below(document.get("networks")):
            for key, shared in (("name", ("bridge", "host", "none")), ("driver", ("host", "none"))):
                value = network.get(key)
                if value is not None and value.value in shared:
                    what = f"network {name} is Docker's own network {value.value}"
                    yield Violation(value.file, value.line, what, NAMED, "declare it without that line")


def _service_network(service: Service, declared: set[str]) -> Iterator[Violation]:
    name = service.name
    modes = service.all("network_mode")
    for mode in modes:
        if mode.value != "none":
            what = f"{name} uses network_mode {mode.value}"
            yield Violation(mode.file, mode.line, what, NAMED, "name the networks that it needs under `networks`")
    attached = [network for entry in service.always("networks") for network in entry.texts()]
    if not attached and not modes:
        place = (service.entry.file, service.entry.line)
        fix = "name the networks that it needs under `networks`, or write `network_mode: none`"
        yield Violation(*place, f"{name} names no network, so it gets the default one", NAMED, fix)
    for entry in service.all("networks"):
        for network in entry.texts():
            if network == "default" or network not in declared:
                what = f"{name} is on the network {network}, which this repo does not declare"
                yield Violation(entry.file, entry.line, what, NAMED, "declare a network and name it after its purpose")
        for path, entry_below in entry.scalars():
            if path and path[-1] in ("ipv4_address", "ipv6_address"):
                yield Violation(entry_below.file, entry_below.line, f"{name} has a fixed address", WHY, FIX)
    for key in ("links", "external_links", "extra_hosts"):
        for entry in service.all(key):
            what = f"{name} uses {key}, which writes addresses into /etc/hosts when it starts, and never again"
            yield Violation(entry.file, entry.line, what, WHY, "put both services on one network and use the name")


def ports_are_published_for_this_machine_only(root: Path) -> Iterator[Violation]:
    """In compose/publish*.yaml or behind a profile, on 127.0.0.1, at a port that a variable moves."""
    for service in services(root):
        for ports in service.all("ports"):
            for port in ports.value if isinstance(ports.value, list) else [ports]:
                host = port.get("host_ip")
                for_this_machine = host.value == "127.0.0.1" if host else str(port.value).startswith("127.0.0.1:")
                if not port.file.startswith(PUBLISH) and not service.all("profiles"):
                    what = f"{service.name} publishes a port outside {PUBLISH}.yaml"
                    why = "containers reach each other without it, and what this machine opens must stand in one place"
                    yield Violation(port.file, port.line, what, why, f"publish it in {PUBLISH}.yaml")
                at = port.get("published") or port
                if "${" not in str(at.value):
                    what = f"{service.name} is published at a fixed port"
                    why = "a second replica, or a second clone on this machine, collides with it"
                    yield Violation(port.file, port.line, what, why, 'write "127.0.0.1:${NAME:-8001}:8001"')
                if not for_this_machine:
                    what = f"{service.name} publishes a port on every address of the machine"
                    why = "Docker opens such a port past the machine's firewall, for everyone"
                    yield Violation(port.file, port.line, what, why, 'write "127.0.0.1:..." in front')


def client_looks_names_up_again(root: Path) -> Iterator[Violation]:
    """The client's channel has the options without which a name is looked up once and kept."""
    tree = tree_of(root / CHANNEL)
    constants = {text: line for line, text, _ in texts(tree)}
    lookups = [
        (node.lineno, node.elts[1])
        for node in nodes(tree)
        if isinstance(node, ast.Tuple)
        and len(node.elts) > 1
        and ast.unparse(node.elts[0]) == "'grpc.dns_min_time_between_resolutions_ms'"
    ]
    why = "when a server comes back on another address, the client goes on asking the old one: 30 s with the defaults"
    if not lookups:
        fix = 'restore ("grpc.dns_min_time_between_resolutions_ms", 1_000) in OPTIONS'
        yield Violation(CHANNEL, 1, "names are looked up again after 30 s only", why, fix)
    for line, value in lookups:
        if not (isinstance(value, ast.Constant) and isinstance(value.value, int) and value.value <= LONGEST_LOOKUP_MS):
            what = f"names are looked up again after {ast.unparse(value)} ms"
            yield Violation(CHANNEL, line, what, why, f"at most {LONGEST_LOOKUP_MS}")
    if not {"loadBalancingConfig", "round_robin"} <= constants.keys():
        why_all = "gRPC's default stays with the first address for ever: the second replica gets no call"
        fix = 'restore "loadBalancingConfig": [{"round_robin": {}}] in SERVICE_CONFIG'
        yield Violation(CHANNEL, 1, "calls do not go to every address behind the name", why_all, fix)
    if "dns:///" not in constants:
        fix = "make a target of host:port with dns:///"
        yield Violation(CHANNEL, 1, "a target is not resolved by DNS", why, fix)
    for path in ("client/serving_client/client.py", "client/serving_client/aio.py"):
        for opened in calls(tree_of(root / path), "insecure_channel", "secure_channel"):
            fix = "open it with connect(...) of channel.py"
            yield Violation(path, opened.lineno, "opens a channel without those options", why, fix)


def _addresses(file: str, line: int, text: str, *, listens: bool) -> Iterator[Violation]:
    for address in _in_text(text):
        if not (listens and (address.is_loopback or address.is_unspecified)):
            yield Violation(file, line, f"the address {address}", WHY, FIX)


def _in_text(text: str) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    """Give the addresses in a text, with or without a port, a scheme or brackets around them."""
    for word in text.translate(SURROUNDINGS).split():
        for candidate in dict.fromkeys((word, *word.split(":"))):
            try:
                yield ipaddress.ip_address(candidate)
            except ValueError:
                continue


def _listening(tree: ast.Module) -> set[int]:
    """Return the texts that say where to listen: the value of such a setting, the argument of such a call."""
    settings = [
        node for node in nodes(tree) if isinstance(node, ast.AnnAssign) and ast.unparse(node.target).lower() in LISTENS
    ]
    return {id(node) for place in (*settings, *calls(tree, *LISTENING_CALLS)) for node in ast.walk(place)}


def _below(entry: Entry | None) -> list[tuple[str, Entry]]:
    return entry.below() if entry is not None else []
