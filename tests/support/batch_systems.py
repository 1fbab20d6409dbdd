"""Stand-ins for the commands of Slurm and PBS on the machines of `tests.support.machines`.

Each node runs `noded`. The commands ask it to start tasks, which get the environment that the real systems set and run
in the user's home, because clusters share homes. The output, the names of nodes and the variables follow srun(1),
sbatch(1), scontrol(1), qsub(1B) and pbsdsh(1B).
"""

from pathlib import Path

from tests.support.machines import Machine
from tests.support.waiting import wait_until

_PORT = 6818
# Each connection runs one task at a time: it sends a line of JSON and gets the output, then the exit status.
_NODE = f"""
import json, os, signal, socket, subprocess, sys, threading

def serve(connection):
    with connection, connection.makefile("rwb") as stream:
        line = stream.readline()
        if not line:  # a check whether this server is up
            return
        task = json.loads(line)
        # On a real cluster, each node has its own run-time folder and /tmp; these machines share /tmp.
        own = os.environ["PSERVER_RUNTIME_DIR"]
        env = dict(task["env"], PSERVER_RUNTIME_DIR=own, XDG_RUNTIME_DIR=own)
        process = subprocess.Popen(task["command"], cwd=task["cwd"], env=env, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
        def end():  # the other side requests the end, or is gone
            number = signal.SIGTERM if connection.recv(1) == b"T" else signal.SIGKILL
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                pass
        threading.Thread(target=end, daemon=True).start()
        for line in process.stdout:
            stream.write(b"-" + line)
            stream.flush()
        stream.write(b"=%d\\n" % process.wait())

with socket.create_server(("", {_PORT})) as listener:
    while True:
        threading.Thread(target=serve, args=[listener.accept()[0]], daemon=True).start()
"""
_COMMON = f"""
import json, os, re, signal, socket, sys, threading

def expand(text):  # node[1-3]
    found = re.fullmatch(r"(.*)\\[(\\d+)-(\\d+)\\]", text)
    return [f"{{found[1]}}{{n}}" for n in range(int(found[2]), int(found[3]) + 1)] if found else text.split(",")

def run(tasks, output, on_term=b"T"):
    \"\"\"Run a task at each node; return the highest status. SIGTERM and SIGUSR1 end all, this one in order.\"\"\"
    connections = [socket.create_connection((node, {_PORT})) for node, _ in tasks]
    def end(number, _):
        for connection in connections:
            connection.sendall(b"T" if number == signal.SIGUSR1 else on_term)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, end)
    statuses = []
    def wait(connection, task):
        with connection.makefile("rwb") as stream:
            stream.write(json.dumps(task).encode() + b"\\n")
            stream.flush()
            for line in stream:
                if line[:1] == b"=":
                    statuses.append(abs(int(line[1:])))
                    return
                output.write(line[1:])
                output.flush()
    threads = [threading.Thread(target=wait, args=[c, task]) for c, (_, task) in zip(connections, tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():
            thread.join(0.1)
    return max(statuses, default=1)

def options(path, word):
    lines = open(path).read().splitlines()
    return " ".join(line.removeprefix(word) for line in lines if line.startswith(word + " "))
"""
_SBATCH = """
script = sys.argv[-1]
count = int(re.search(r"--nodes=(\\d+)", options(script, "#SBATCH"))[1])
env = dict(os.environ, SLURM_JOB_ID="4711", SLURM_JOB_NODELIST=f"node[1-{count}]", SLURM_NNODES=str(count),
           SLURM_JOB_NUM_NODES=str(count), SLURM_CPUS_ON_NODE=str(os.cpu_count()), SLURM_NTASKS=str(count),
           SLURM_SUBMIT_DIR=os.getcwd())
print("Submitted batch job 4711")
task = {"command": ["bash", script], "cwd": os.getcwd(), "env": env}
with open("slurm-4711.out", "wb") as output:
    sys.exit(run([("node1", task)], output))
"""
_SRUN = """
command = sys.argv[1:]
while command[0].startswith("--"):
    del command[0]
tasks = []
for number, node in enumerate(expand(os.environ["SLURM_JOB_NODELIST"])):
    env = dict(os.environ, SLURM_PROCID=str(number), SLURM_NODEID=str(number), SLURM_LOCALID="0",
               SLURMD_NODENAME=node, SLURM_STEP_ID="0")
    tasks.append((node, {"command": command, "cwd": os.getcwd(), "env": env}))
with open(os.environ["SLURM_SUBMIT_DIR"] + "/step", "w") as file:
    file.write(str(os.getpid()))
sys.exit(run(tasks, sys.stdout.buffer, b"K"))  # as srun does on SIGTERM
"""
_SCANCEL = """
assert sys.argv[1:] == ["--signal=TERM", os.environ["SLURM_JOB_ID"] + ".0"], sys.argv
os.kill(int(open(os.environ["SLURM_SUBMIT_DIR"] + "/step").read()), signal.SIGUSR1)
"""
_SCONTROL = """
assert sys.argv[1:3] == ["show", "hostnames"], sys.argv
print("\\n".join(expand(sys.argv[3])))
"""
_QSUB = """
script = sys.argv[-1]
count, processors = map(int, re.search(r"select=(\\d+):ncpus=(\\d+)", options(script, "#PBS")).groups())
nodes = [f"node{n}" for n in range(1, count + 1)]
with open("nodefile", "w") as file:
    file.writelines(f"{node}\\n" for node in nodes for _ in range(processors))
env = dict(os.environ, PBS_JOBID="4712.cluster", PBS_NODEFILE=os.path.abspath("nodefile"), PBS_O_WORKDIR=os.getcwd())
print("4712.cluster")
task = {"command": ["bash", script], "cwd": os.environ["HOME"], "env": env}
with open("pool.pbs.o4712", "wb") as output:
    sys.exit(run([("node1", task)], output))
"""
# Tasks get only the variables that PBS sets and those of a login.
_PBSDSH = """
assert sys.argv[1] == "--", sys.argv
kept = {name: os.environ[name] for name in ("HOME", "USER", "PATH", "PYTHONPATH", "PBS_JOBID", "PBS_NODEFILE")}
nodes = list(dict.fromkeys(open(os.environ["PBS_NODEFILE"]).read().split()))
sys.exit(run([(node, {"command": sys.argv[2:], "cwd": "/", "env": dict(kept, PBS_NODENUM=str(number))})
              for number, node in enumerate(nodes)], sys.stdout.buffer))
"""
COMMANDS: dict[str, str] = {
    "sbatch": _SBATCH, "srun": _SRUN, "scancel": _SCANCEL, "scontrol": _SCONTROL, "qsub": _QSUB, "pbsdsh": _PBSDSH,
}  # fmt: skip


def install(folder: Path, nodes: list[Machine]) -> None:
    """Install the commands in the machines' folder ``bin`` and start `noded` on the nodes."""
    for name, text in (COMMANDS | {"noded": ""}).items():
        path = folder / "bin" / name
        path.write_text(f"#!/usr/bin/env python3\n{_NODE if name == 'noded' else _COMMON + text}")
        path.chmod(0o755)
    for node in nodes:
        node.run("noded > noded.log 2>&1 &")
        wait_until(
            lambda: not node.attempt(f"(exec 3<>/dev/tcp/127.0.0.1/{_PORT}) 2> /dev/null")[0],  # noqa: B023
            f"{node.name} to take tasks",
        )
