"""Engines on one machine share its processors, unless the person who started the server has set something else."""

import os
from typing import Any

import pytest

from pconnect import local_network

_LOOK = (
    "__import__('os').environ.get('OMP_NUM_THREADS'), "
    "[library['num_threads'] for library in __import__('threadpoolctl').threadpool_info()]"
)
_VARIABLES = [f"{name}_NUM_THREADS" for name in ("OMP", "OPENBLAS", "MKL", "BLIS", "NUMEXPR", "NUMBA")]


def look(engines: int, **options: Any) -> list[Any]:
    with local_network(engines, **options) as net:
        return list(net.eval(_LOOK).result(20) or ())


@pytest.mark.parametrize(("engines", "local_links"), [(1, True), (2, True), (3, False)])
def test_a_share_for_each_engine(engines: int, local_links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    share = max(1, len(os.sched_getaffinity(0)) // engines)
    for variable, threads in look(engines, local_links=local_links):
        assert variable == str(share)
        assert set(threads) == {share}


def test_a_number_that_was_given_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    with local_network(2, slots=1) as net:
        seen = [*(net.eval(_LOOK).result(20) or ()), net.submit(f"lambda: ({_LOOK})").result(20)]
    assert {variable for variable, _ in seen} == {"2"}
    assert all(set(threads) <= {2, len(os.sched_getaffinity(0))} for _, threads in seen)


def test_a_number_that_a_command_has_set_holds_in_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with local_network(1, slots=1) as net:
        share = str(len(os.sched_getaffinity(0)))
        look = "lambda: [__import__('os').environ.get(f'{name}_NUM_THREADS') for name in ('OMP', 'MKL')]"
        assert net.submit(look).result(20) == [share, share]
        net.eval("__import__('os').environ['OMP_NUM_THREADS'] = '7'").result(20)
        assert net.submit(look).result(20) == ["7", share]
