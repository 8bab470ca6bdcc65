# The two commands: `make run` and `make test`. Settings are environment variables (README.md).
PYTHON ?= python3.11
PORT ?= 8000
CLOUD_PORT ?= 4566
STAMP := .venv/.installed

.PHONY: run test lint clean
.SILENT:

run: $(STAMP)
	PORT=$(PORT) CLOUD_PORT=$(CLOUD_PORT) exec .venv/bin/python -m local

test: $(STAMP)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

$(STAMP): requirements.txt controller/requirements.txt worker/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo "Python 3.11 is needed: set PYTHON to it, as in 'make run PYTHON=/usr/bin/python3.11'" >&2; exit 1; }
	echo "Installing the requirements into .venv (once; some minutes: torch is large) ..."
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $(STAMP)

clean:
	rm -rf .venv .local
