# Two commands set up everything: `make demo` and `make test`. Each makes .venv in this folder when it is not
# there, installs what it needs at the versions in requirements.lock, and runs it. pip's own configuration is
# honoured, so PIP_INDEX_URL, PIP_EXTRA_INDEX_URL or PIP_FIND_LINKS say where packages come from.

PYTHON ?= python3
DEMO ?= .venv/bin/python -m dags.demo
BENCH ?= .venv/bin/python -m benchmarks
# Two processes; a file stays in one, so that its fixtures are made once.
PYTEST ?= .venv/bin/python -m pytest -n 2 --dist loadfile

DEMO_EXTRAS = speech,espeak,vision,documents
ALL_EXTRAS = speech,espeak,japanese,vision,documents,lexicons,text-embedding,text-reading,chat,whisper,ctc,feed,dev
# torchvision, which open-clip requires, keeps transformers from importing beside a torch that it was not built for.
LOCK_EXTRAS = $(ALL_EXTRAS),open-clip
VENV = .venv
PIP = $(VENV)/bin/python -m pip --disable-pip-version-check
# The build backend is pinned like the rest: it is installed first and used in place, not fetched for each build.
INSTALL = $(PIP) install -c requirements.lock 'setuptools>=77.0.3' \
	&& $(PIP) install -c requirements.lock --no-build-isolation -e

.PHONY: help demo test check lint fast reference bench lock clean
.DELETE_ON_ERROR:

help:
	@echo "make demo       install, make small corpora with planted faults, curate them, say where to look"
	@echo "make check      lint and the fast tests, in under a minute; before each commit"
	@echo "make test       install everything, run all tests"
	@echo "make lint       ruff, mypy --strict, layers"
	@echo "make fast       the fast tests: no process, no cluster, no whole pipeline"
	@echo "make reference  write docs/reference.md from the code"
	@echo "make bench      the benchmark table"
	@echo "make lock       write requirements.lock"
	@echo "make clean      remove .venv, caches and what the demo made"
	@echo "PYTHON=python3.12 chooses the interpreter; PIP_INDEX_URL and the like choose the package index."

demo: .venv/installed-demo
	$(DEMO)

test: .venv/installed-all
	$(PYTEST)

lint: .venv/installed-all
	.venv/bin/python -m ruff check .
	.venv/bin/python -m mypy --strict
	.venv/bin/python .ci/layers.py

# What a change is checked with before it is committed: both at once, since types take one core.
check: .venv/installed-all
	@$(MAKE) --no-print-directory -j2 --output-sync=target lint fast

fast: .venv/installed-all
	$(PYTEST) -q --fast

reference: .venv/installed-all
	.venv/bin/python -m scripts.reference

bench: .venv/installed-all
	$(BENCH)

.venv/installed-demo: pyproject.toml requirements.lock
	$(make-venv)
	$(INSTALL) '.[$(DEMO_EXTRAS)]'
	@touch $@

.venv/installed-all: pyproject.toml requirements.lock
	$(make-venv)
	$(INSTALL) '.[$(ALL_EXTRAS)]'
	@touch $@ .venv/installed-demo

define make-venv
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "$(PYTHON) cannot make virtual environments: its modules venv and ensurepip are missing." \
			"On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@$(PIP) --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
endef

# The lock is the freeze of a new environment that holds every extra at the versions that the lock names already, so it
# keeps its pins, gains what is new and loses what is no longer asked for. To move a pin: change its line or delete it,
# `make lock test`. Left out: this project, pip, and the CUDA libraries, which torch itself pins on Linux. triton's
# pin is the one that torch asks for there. Labels of local builds are dropped (torch 2.13.0+cpu is written
# torch==2.13.0), so that every index can serve the lock; a package that came from a path or an URL is refused.
lock: VENV = .venv/lock
lock:
	@rm -rf $(VENV)
	$(make-venv)
	$(INSTALL) '.[$(LOCK_EXTRAS)]'
	@$(PIP) freeze --all --exclude-editable > $(VENV)/freeze.txt
	@if grep ' @ ' $(VENV)/freeze.txt; then echo "not from an index, so there is no version to pin" >&2; exit 1; fi
	@sed -n '/^#/p' requirements.lock > $(VENV)/requirements.lock
	@sed -E -e '/^(pip|wheel)==/d' -e '/^(nvidia|cuda)-/d' -e 's/\+[^ ]*$$//' $(VENV)/freeze.txt >> $(VENV)/requirements.lock
	@mv $(VENV)/requirements.lock requirements.lock
	@rm -rf $(VENV)

clean:
	rm -rf .venv build dist demo *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
