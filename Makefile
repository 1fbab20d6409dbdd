# make demo    three servers on this machine do real work, checked against plain numpy
# make test    lint, types and all tests
# Both make their own environment in .venv; nothing else has to be installed but Python 3.11 with pip.
# make coverage    how much of the code its own tests run
# make bench, make bench-peers    how fast it is, beside a plain socket, and beside other systems (in .venv-peers)

PYTHON ?= python3
BIN := .venv/bin
# pip says nothing but errors: what it does is of interest only if it fails.
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --editable

# Tests and demonstrations start many processes: each module is compiled once, not in each of them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test coverage bench bench-peers clean

demo: .venv/demo.stamp
	$(BIN)/pserver demo

# Four workers, whatever the number of processors: many tests wait for other processes half of their time.
PYTEST := pytest --numprocesses=4 --dist=worksteal

test: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m $(PYTEST)

# Branch coverage by the modules' own tests, also of daemons, sessions and engines. It takes twice as long as without.
# Child processes leave data files of their own, which `combine` gathers; one killed while it wrote leaves a useless one.
coverage: .venv/dev.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST) tests/srp_tools tests/pconnect tests/pserver
	$(BIN)/coverage combine --quiet
	rm -f .coverage.*
	$(BIN)/coverage report --include='srp_tools/*,pconnect/*' --fail-under=95
	$(BIN)/coverage report --include='pserver/*' --fail-under=85

bench: .venv/dev.stamp
	$(BIN)/python -m tests.benchmarks

# The peers have an environment of their own, so that what they need never decides what this package is tested with.
bench-peers: .venv-peers/peers.stamp
	.venv-peers/bin/python -m tests.benchmarks.peers
	.venv-peers/bin/python -m tests.benchmarks.peers --jobs

clean:
	rm -rf .venv .venv-peers .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build *.egg-info

# The environments and what is installed in them, each once, and again after a change of what is needed.
.venv/made.stamp .venv-peers/made.stamp: %/made.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $*
	touch $@

.venv/demo.stamp: .venv/made.stamp pyproject.toml
	$(INSTALL) '.[demo]'
	touch $@

.venv/dev.stamp: .venv/made.stamp pyproject.toml
	$(INSTALL) '.[dev,demo]'
	touch $@ .venv/demo.stamp

.venv-peers/peers.stamp: .venv-peers/made.stamp pyproject.toml tests/benchmarks/peers/requirements.txt
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --editable '.[fast]' \
		--requirement tests/benchmarks/peers/requirements.txt
	touch $@
