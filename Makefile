# make demo        three servers on this machine do real work, checked against plain numpy
# make test        lint, types and the quick tests, side by side
# make test-all    the same with all tests, including slow ones, and more random examples
# All make their own environment in .venv; you only need Python 3.11 with pip.
# make lint, make types, make quick, make all    the parts of these; make slow    the tests that only `make all` runs
# make smoke       the smoke part on the built wheel, in an empty environment of $(PYTHON)
# make wheel       build the wheel into build/wheel
# make dist        build the files of a release into dist, and check them
# make coverage    measure the code coverage of the modules' own tests
# make docs        build the pages as a site into build/docs/html, and check its links
# make bench, make bench-peers    measure the speed against a plain socket, and against other systems (in .venv-peers)
# make bench-scale    measure the growth of costs with the number of engines and workers

PYTHON ?= python3
BIN := .venv/bin
# pip prints only errors: its progress is of interest only if it fails.
PIP := $(BIN)/pip --quiet --disable-pip-version-check
INSTALL := $(PIP) install --editable

# Tests and demonstrations start many processes: each module is compiled once, not in each of them.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-all lint types quick all slow smoke wheel dist coverage docs bench bench-peers bench-scale clean

demo: .venv/demo.stamp
	$(BIN)/pserver demo

# The output of lint and types is shown when each ends. The tests print as they run, which needs the "+".
test: .venv/dev.stamp
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint types quick

test-all: .venv/dev.stamp
	$(MAKE) --no-print-directory --jobs=3 --output-sync=target lint types all

# Four workers on any number of processors: many tests wait for other processes half of their time.
PYTEST := pytest --numprocesses=4 --dist=worksteal

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/python .ci/words

types: .venv/dev.stamp
	$(BIN)/mypy

quick: .venv/dev.stamp
	+$(BIN)/python -m $(PYTEST) -m 'not slow' --hypothesis-profile=quick

# In one run, slow tests wait while quick ones compute.
all: .venv/dev.stamp
	+$(BIN)/python -m $(PYTEST)

# Hypothesis marks the tests that use its examples.
slow: .venv/dev.stamp
	$(BIN)/python -m $(PYTEST) -m 'slow or hypothesis'

smoke: wheel
	.ci/smoke $(PYTHON) build/wheel/*.whl

# In a separate environment: development needs none of these.
RELEASE := 'build>=1.2' 'cyclonedx-bom>=7' 'setuptools>=77' 'twine>=6'

# Deleted modules, left over from an earlier build, would be in the wheel.
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

# Branch coverage by the modules' own tests, including daemons, sessions and engines. It takes twice as long as without.
# Child processes leave separate data files, which `combine` merges; a file is useless if its writer was killed.
coverage: .venv/dev.stamp
	$(BIN)/coverage erase
	$(BIN)/coverage run -m $(PYTEST) tests/srp_tools tests/pconnect tests/pserver
	$(BIN)/coverage combine --quiet
	rm -f .coverage.*
	$(BIN)/coverage report --include='srp_tools/*,pconnect/*' --fail-under=95
	$(BIN)/coverage report --include='pserver/*' --fail-under=85

# A warning is an error, including links to names or pages that do not exist.
docs: .venv/docs.stamp
	rm -rf build/docs/html
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --nitpicky --quiet --jobs=auto \
		--doctree-dir build/docs/doctrees doc build/docs/html
	@echo 'The pages are in build/docs/html/index.html'

bench: .venv/dev.stamp
	$(BIN)/python -m tests.benchmarks

bench-scale: .venv/dev.stamp
	$(BIN)/python -m tests.benchmarks.scale --chart doc/growth.svg

# The peers have a separate environment, so their requirements never affect the packages that the tests use.
bench-peers: .venv-peers/peers.stamp
	.venv-peers/bin/python -m tests.benchmarks.peers
	.venv-peers/bin/python -m tests.benchmarks.peers --jobs

clean:
	rm -rf .venv .venv-peers .venv-release .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist doc/auto_gallery *.egg-info

# The environments and their packages, each made once, and again after a change of the requirements.
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
