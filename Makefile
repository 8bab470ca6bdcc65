# The commands, which docs/running.md describes. Settings are environment variables (docs/settings.md).
PYTHON ?= python3.11
PORT ?= 8000
CLOUD_PORT ?= 4566
LOCAL_BUCKETS ?= .local/buckets/$(PORT)
RUN_STAMP := .venv/.run-installed
STAMP := .venv/.installed
BENCH_STAMP := .venv-bench/.installed
# Modules of bench/. All of them together take about an hour.
BENCHES := run worker batch_worker ceiling batches batch_memory bill growth many compare queue local_aws streams simulate faults

# moto opens sessions of boto3 when it is imported, which end with an error if there is no such profile.
unexport AWS_PROFILE AWS_DEFAULT_PROFILE

.PHONY: run test coverage lint docs bench fuzz deaths soak scan lock clean
.SILENT:

run: $(RUN_STAMP)
	PORT=$(PORT) CLOUD_PORT=$(CLOUD_PORT) LOCAL_BUCKETS=$(LOCAL_BUCKETS) exec .venv/bin/python -m local

test: $(STAMP)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 5 --dist loadfile --no-loadscope-reorder

# What the unit tests cover. Measuring it doubles the time that they take.
coverage: $(STAMP)
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests/unit --cov -n 4 --dist loadfile

lint: $(STAMP)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

# A site of the documents, in the folder site.
docs: $(STAMP)
	.venv/bin/mkdocs --quiet build

# engines has its own interpreter, because .venv has no ONNX Runtime.
bench: $(STAMP) $(BENCH_STAMP)
	for name in $(BENCHES); do echo; echo "== bench.$$name"; .venv/bin/python -m bench.$$name || exit 1; done
	echo; echo "== bench.engines"; .venv-bench/bin/python -m bench.engines

# Feeds a decoder with damaged images for a night. `make test` does it for some seconds, and tries first what this found.
fuzz: $(STAMP)
	.venv/bin/python -m tests.support.fuzz --seconds $(or $(SECONDS),28800)

# Attacks each call of AWS that either tier makes, for some half an hour; `make test` does a sample of it.
deaths: $(STAMP)
	.venv/bin/python -m bench.faults.each_call

# Keeps 1,000 clients at a system behind nginx for an hour (or SECONDS), and fails if anything of it grows. `make test`
# does some seconds of it.
soak: $(STAMP)
	.venv/bin/python -m tests.support.soak --seconds $(or $(SECONDS),3600)

# What checkov, a scanner of a stranger's, has against the plan; deploy/terraform/.checkov.yaml explains the exceptions.
scan: $(STAMP)
	cd deploy/terraform && ../../.venv/bin/uvx --quiet checkov==3.3.30 --directory . --config-file .checkov.yaml

# The newest that pyproject.toml allows; a tier's lock has the versions of the developer's. The hashes of Terraform's
# provider are taken from its registry, for all these systems; without the registry, from a folder that has some:
# make lock PROVIDER_FROM='-fs-mirror=FOLDER -platform=linux_amd64'
# Extras stay in the locks: the pip of Python 3.11 needs them there, or it takes the newest version of such a package and
# then refuses it for want of a hash.
LOCK := .venv/bin/uv pip compile --quiet --no-strip-extras pyproject.toml
PROVIDER_FROM ?= -platform=linux_amd64 -platform=linux_arm64 -platform=darwin_amd64 -platform=darwin_arm64

lock: $(STAMP)
	$(LOCK) --upgrade --group dev --output-file requirements.txt
	$(LOCK) --upgrade --group local --constraints requirements.txt --output-file local/requirements.txt
	$(LOCK) --upgrade --group controller --constraints requirements.txt --output-file controller/requirements.txt
	$(LOCK) --upgrade --group worker --constraints requirements.txt --output-file worker/requirements.txt
	$(LOCK) --upgrade --group worker --group torch --constraints requirements.txt --output-file worker/torch-requirements.txt
	$(LOCK) --upgrade --group worker --group bake --constraints requirements.txt --output-file worker/bake/requirements.txt
	$(LOCK) --upgrade --group dev --group bench --constraints requirements.txt --output-file bench/requirements.txt
	terraform -chdir=deploy/terraform providers lock $(PROVIDER_FROM)

$(RUN_STAMP): local/requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { echo "Python 3.11 is needed: set PYTHON to it, as in 'make run PYTHON=/usr/bin/python3.11'" >&2; exit 1; }
	echo "Installing the requirements into .venv (once; some minutes: torch is large) ..."
	$(PYTHON) -m venv .venv
	local/install.sh local/requirements.txt
	touch $(RUN_STAMP)

$(STAMP): requirements.txt $(RUN_STAMP)
	echo "Installing what tests and benches need in addition ..."
	local/install.sh requirements.txt
	touch $(STAMP)

$(BENCH_STAMP): bench/requirements.txt
	echo "Installing what the benches compare with into .venv-bench (once; some minutes) ..."
	$(PYTHON) -m venv .venv-bench
	.venv-bench/bin/pip install --quiet --disable-pip-version-check --require-hashes -r bench/requirements.txt
	touch $(BENCH_STAMP)

clean:
	rm -rf .venv .venv-bench .local site
