"""The page about clusters: its scripts run under stand-ins for Slurm and PBS, and its manifest is valid."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pserver.admin.options import CommandParser, add_options, config_of
from tests.support.batch_systems import install
from tests.support.machines import Machine, python_of_the_tests, run_machines
from tests.support.pages import Block, read_blocks
from tests.support.tutorial import ROOT

PAGE = ROOT / "doc/howto/cluster.md"
MANIFEST = ROOT / "doc/container/kubernetes.yaml"
PROGRAMS = {"pserver": "pserver", "generate-srp-data": "srp_tools.cli"}


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Yield the login node of a cluster with three nodes, where the page's user is set up."""
    folder = tmp_path_factory.mktemp("cluster")
    with run_machines(folder, ["login", "node1", "node2", "node3"], {"PYTHONPATH": str(ROOT)}) as machines:
        python_of_the_tests(folder)
        for name, module in PROGRAMS.items():
            path = folder / "bin" / name
            path.write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
            path.chmod(0o755)
        install(folder, [machines[f"node{n}"] for n in (1, 2, 3)])
        machines["login"].run(text(PAGE, "sh", "generate-srp-data").strip())
        (machines["login"].home / "analysis.py").write_text(text(PAGE, "python", "net.map"))
        yield machines["login"]


def text(page: Path, kind: str, word: str) -> str:
    """Return the block of the page that contains a word."""
    found: list[Block] = [block for block in read_blocks(page) if block.kind == kind and word in block.text]
    assert found, f"{page.name}: no block has {word!r}"
    return found[0].text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "script", "output", "logs"),
    [
        ("sbatch --wait", "pool.sh", "slurm-4711.out", "servers-4711.log"),
        ("qsub", "pool.pbs", "pool.pbs.o4712", "servers-4712-*.log"),
    ],
)
def test_a_job_starts_servers_and_ends_them(
    login: Machine, command: str, script: str, output: str, logs: str
) -> None:
    word = {"pool.sh": "#SBATCH", "pool.pbs": "#PBS"}[script]
    (login.home / script).write_text(text(PAGE, "bash", word))
    status, shown = login.attempt(f"{command} {script}")
    said = "".join(path.read_text() for path in login.home.glob(logs))
    assert (status, (login.home / output).read_text()) == (0, "500500 at 3 nodes\n"), shown + said
    assert said.count("listens on all addresses: command port 2") == 3
    assert said.count("stops: SIGTERM") == 3


def resources() -> dict[str, Any]:
    return {each["kind"]: each for each in yaml.safe_load_all(MANIFEST.read_text(encoding="utf-8"))}


def test_the_parts_of_the_manifest_fit_together() -> None:
    found = resources()
    assert set(found) == {"Service", "StatefulSet"}
    service, servers = found["Service"]["spec"], found["StatefulSet"]["spec"]
    pod = servers["template"]
    (container,), (first,) = pod["spec"]["containers"], pod["spec"]["initContainers"]
    assert service["clusterIP"] == "None"
    assert servers["serviceName"] == found["Service"]["metadata"]["name"]
    assert service["selector"] == servers["selector"]["matchLabels"] == pod["metadata"]["labels"]
    ports = {each["name"]: each["port"] for each in service["ports"]}
    assert {each["name"]: each["containerPort"] for each in container["ports"]} == ports
    assert ports == {"commands": 12502, "data": 12501}
    assert container["readinessProbe"]["tcpSocket"]["port"] in ports
    volumes = {each["name"] for each in pod["spec"]["volumes"]}
    for each in (container, first):
        assert {mount["name"] for mount in each["volumeMounts"]} <= volumes
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert each["securityContext"]["readOnlyRootFilesystem"]
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    assert not pod["spec"]["automountServiceAccountToken"]
    assert not pod["spec"]["enableServiceLinks"]
    secrets = [each["secret"] for each in pod["spec"]["volumes"] if "secret" in each]
    assert secrets == [{"secretName": "pserver-users", "defaultMode": 0o440}]
    assert f"secret generic {secrets[0]['secretName']} --from-file=pool/server" in PAGE.read_text()


def test_a_server_takes_its_options() -> None:
    parser = CommandParser()
    add_options(parser)
    container = resources()["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
    entry = (MANIFEST.parent / "Containerfile").read_text().partition("ENTRYPOINT ")[2]
    options = [each for each in yaml.safe_load(entry) if each.startswith("--") and each != "--foreground"]
    config = config_of(parser.parse_args([*options, *container["args"]]))
    assert (config.auth_file, config.slots) == ("/users/own/tpasswd", 4)
