# make demo        three servers on this machine do real work, checked against plain numpy
# make test        lint, types and the quick tests, side by side
# make test-all    the same with all tests: also those marked slow, and more random examples
# All make their own environment in .venv; nothing else has to be installed but Python 3.11 with pip.
# make lint, make types, make quick, make all    the parts of these; make slow    what only `make all` runs
# make smoke       the smoke part on the built wheel, in an empty environment of $(PYTHON)
# make wheel       build the wheel into build/wheel
# make dist        build what a release consists of into dist, and check it
# make coverage    how much of the code its own tests run
# make docs        build the pages as a site into build/docs/html, and check its links
# make bench, make bench-peers    how fast it is, beside a plain socket, and beside other systems (in .venv-peers)
# make bench-scale    how its costs grow with the number of engines and workers

PYTHON ?= python3
BIN := .venv/bin
# pip says nothing but errors: what it does is of interest only if it fails.
PIP := $(BIN)/pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --editable

# Tests and demonstrations start many processes: each module is compiled once, not in each of them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all lint types quick all slow smoke wheel dist coverage docs bench bench-peers bench-scale clean

demo: .venv/demo.stamp
	$(BIN)/pserver demo

# What lint and types print comes in one piece each; the tests print as they run, which the "+" is for.
test: .venv/dev.stamp
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint types quick

test-all: .venv/dev.stamp
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint types all

# Four workers, whatever the number of processors: many tests wait for other processes half of their time.
PYTEST := pytest --numprocesses=4 --dist=worksteal

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: .venv/dev.stamp
	$(BIN)/mypy

quick: .venv/dev.stamp
	+$(BIN)/python -m $(PYTEST) -m 'not slow' --hypothesis-profile=quick

# In one run, slow tests wait while quick ones compute.
all: .venv/dev.stamp
	+$(BIN)/python -m $(PYTEST)

# Hypothesis marks the tests that it gives examples to.
slow: .venv/dev.stamp
	$(BIN)/python -m $(PYTEST) -m 'slow or hypothesis'

smoke: wheel
	.ci/smoke $(PYTHON) build/wheel/*.whl

# In an environment of its own: none of it is needed to develop.
RELEASE := 'build>=1.2' 'cyclonedx-bom>=7' 'setuptools>=77' 'twine>=6'

# Left from an earlier build, modules that are gone would be in the wheel.
wheel: .venv/dev.stamp
	rm -rf build/lib build/wheel
	$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/wheel .

# The release: sdist and wheel of the last commit, the same bytes each time, with a list of what they need. The wheel
# passes the smoke part under every Python that is found.
dist: .venv-release/release.stamp
	rm -rf dist
	.ci/dist .venv-release/bin/python dist
	.venv-release/bin/twine check --strict dist/*
	.ci/sbom .venv-release/bin/python dist
	.ci/pythons | while read -r version python; do .ci/smoke "$$python" dist/*.whl </dev/null || exit 1; done
	cd dist && sha256sum *

# Branch coverage by the modules' own tests, also of daemons, sessions and engines. It takes twice as long as without.
# Child processes leave data files of their own, which `combine` gathers; one killed while it wrote leaves a useless one.
coverage: .venv/dev.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST) tests/srp_tools tests/pconnect tests/pserver
	$(BIN)/coverage combine --quiet
	rm -f .coverage.*
	$(BIN)/coverage report --include='srp_tools/*,pconnect/*' --fail-under=95
	$(BIN)/coverage report --include='pserver/*' --fail-under=85

# A warning is an error, also a name or a page that does not exist.
docs: .venv/docs.stamp
	rm -rf build/docs/html
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet --jobs=auto \
		--doctree-dir build/docs/doctrees doc build/docs/html
	@echo 'The pages are in build/docs/html/index.html'

bench: .venv/dev.stamp
	$(BIN)/python -m tests.benchmarks

bench-scale: .venv/dev.stamp
	$(BIN)/python -m tests.benchmarks.scale --chart doc/growth.svg

# The peers have an environment of their own, so that what they need never decides what this package is tested with.
bench-peers: .venv-peers/peers.stamp
	.venv-peers/bin/python -m tests.benchmarks.peers
	.venv-peers/bin/python -m tests.benchmarks.peers --jobs

clean:
	rm -rf .venv .venv-peers .venv-release .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist doc/auto_gallery *.egg-info

# The environments and what is installed in them, each once, and again after a change of what is needed.
.venv/made.stamp .venv-peers/made.stamp .venv-release/made.stamp: %/made.stamp:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv $*
	touch $@

.venv/demo.stamp: .venv/made.stamp pyproject.toml
	$(INSTALL) '.[demo]'
	touch $@

.venv/dev.stamp: .venv/made.stamp pyproject.toml
	$(INSTALL) '.[dev,demo]'
	touch $@ .venv/demo.stamp .venv/docs.stamp

.venv/docs.stamp: .venv/made.stamp pyproject.toml
	$(INSTALL) '.[docs]'
	touch $@

.venv-release/release.stamp: .venv-release/made.stamp pyproject.toml
	.venv-release/bin/pip install --quiet --disable-pip-version-check $(RELEASE)
	touch $@

.venv-peers/peers.stamp: .venv-peers/made.stamp pyproject.toml tests/benchmarks/peers/requirements.txt
	.venv-peers/bin/pip install --quiet --disable-pip-version-check --editable . \
		--requirement tests/benchmarks/peers/requirements.txt
	touch $@
