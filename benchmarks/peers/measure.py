"""Measure all servers in turns: one at a time, in an order that is reversed every round."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import psutil

from benchmarks.peers.calls import Load, PeerError, checked, load
from benchmarks.peers.catalog import Contender
from benchmarks.peers.estimators import load as load_model
from benchmarks.peers.estimators import requests
from benchmarks.peers.forms import Endpoint
from benchmarks.peers.medians import Measured
from benchmarks.peers.models import LINEAR, Array, callers_of
from benchmarks.peers.processes import Process, free_ports, running

_WARM_UP_S = 0.3
_CALLS_EACH, _LONGEST_S = 5, 8.0
"""A slow server is measured for as long as it needs for so many calls of each caller, within reason."""
_BUSY = ("user", "nice", "system", "irq", "softirq", "steal")


def run(contenders: Sequence[Contender], models: Sequence[str], rounds: int, seconds: float, fitted: Path) -> Measured:
    """Measure every contender with every model; what fails in the first round is left out of later ones."""
    measured = Measured()
    for number in range(rounds):
        for model in models:
            answers = [(rows, np.ravel(load_model(fitted, model)(rows))) for rows in requests(model)]
            for contender in contenders[:: -1 if number % 2 else 1]:
                if model not in contender.models or measured.hopeless(contender.name, model):
                    continue
                print(f"round {number + 1} of {rounds}, {model}: {contender.title}", flush=True)
                try:
                    _one(measured, contender, model, number, seconds, answers)
                except PeerError as fault:
                    print(f"  {fault}", flush=True)
                    measured.faults[contender.name].append((model, number, str(fault)))
    return measured


def _one(
    measured: Measured,
    contender: Contender,
    model: str,
    number: int,
    seconds: float,
    answers: Sequence[tuple[Array, Array]],
) -> None:
    """Start a server, check its answers, put it under load, check them again."""
    ports = free_ports()
    endpoints = [each for each in contender.endpoints if not each.models or model in each.models]
    with running(contender.program(model, ports)) as server:
        server.until(partial(checked, endpoints[0], ports.of(endpoints[0]), *answers[0]))
        if model == LINEAR:
            measured.ready[contender.name].append(server.age)
        for endpoint in endpoints:
            port = ports.of(endpoint)
            server.until(partial(checked, endpoint, port, *answers[0]))
            for rows, expected in answers[1:]:
                checked(endpoint, port, rows, expected)
        if model == LINEAR:
            measured.memory[contender.name].append(server.memory_mb())
        for endpoint in endpoints:
            for callers in callers_of(model):
                cell = (contender.name, endpoint.title, model, callers)
                measured.loads[cell][number] = _loaded(
                    measured, server, endpoint, ports.of(endpoint), answers[0], callers, seconds
                )
            for rows, expected in answers:
                checked(endpoint, ports.of(endpoint), rows, expected)


def _loaded(
    measured: Measured,
    server: Process,
    endpoint: Endpoint,
    port: int,
    answer: tuple[Array, Array],
    callers: int,
    seconds: float,
) -> tuple[Load, float]:
    """Return what the load generator saw, and the microseconds of CPU that a call cost the server."""
    request, start = endpoint.request(answer[0]), time.perf_counter()
    good = checked(endpoint, port, *answer)
    needed = _CALLS_EACH * callers * (time.perf_counter() - start)
    seconds = max(seconds, min(needed, _LONGEST_S))
    with contextlib.suppress(PeerError):  # too short for a slow server; what lasts is found below
        load(endpoint, port, request, good, callers, _WARM_UP_S)
    before = _clocks(server)
    seen = load(endpoint, port, request, good, callers, seconds)
    elapsed, busy, taken, generator = (after - earlier for after, earlier in zip(_clocks(server), before, strict=True))
    measured.others.append(max(0.0, busy - taken - generator) / elapsed)
    return seen, taken / seen.calls * 1e6


def _clocks(server: Process) -> tuple[float, float, float, float]:
    """Return the time, the CPU time of the whole machine, that of the server, and that of ended load generators."""
    machine, generator = psutil.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
    busy = sum(getattr(machine, name, 0.0) for name in _BUSY)
    return time.perf_counter(), busy, server.cpu_seconds(), generator.ru_utime + generator.ru_stime
