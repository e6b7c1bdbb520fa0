# Two commands for a newcomer: `make quickstart` and `make test`. Each makes .venv once from the committed lock.

PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo "$$python" && break; done)
VENV := .venv
BIN := $(VENV)/bin
WORKDIR ?= runs/quickstart
SOURCE ?=
PART ?=

.PHONY: quickstart test test-slow lint typecheck imports check settings lock clean

quickstart: $(VENV)/run.stamp
	$(BIN)/sc2jax quickstart --workdir="$(WORKDIR)" $(if $(SOURCE),--config.paths.source="$(SOURCE)")
	@echo "the program is $(BIN)/sc2jax; after \`. $(BIN)/activate\`, sc2jax"

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal tests

test-slow: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -n 2 --dist worksteal -m slow $(if $(PART),--part=$(PART)) tests

lint: $(VENV)/dev.stamp
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

typecheck: $(VENV)/dev.stamp
	$(BIN)/pyright --pythonpath $(BIN)/python

imports: $(VENV)/dev.stamp
	$(BIN)/lint-imports

check: test lint typecheck imports

settings: $(VENV)/dev.stamp
	$(BIN)/python -c "from sc2jax.config_help import settings_page; print(settings_page(), end='')" > docs/settings.md

$(VENV)/made.stamp:
	@test -n "$(PYTHON)" || { echo "sc2jax needs Python 3.11, 3.12 or 3.13 on the PATH; or run make PYTHON=/path/to/python" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# One dependency comes as source without a pyproject.toml: --use-pep517 builds it as newer versions of pip do anyway.
$(VENV)/run.stamp: requirements.lock pyproject.toml | $(VENV)/made.stamp
	$(BIN)/python -m pip install --disable-pip-version-check -q --use-pep517 --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/dev.stamp: requirements-dev.lock pyproject.toml | $(VENV)/made.stamp
	$(BIN)/python -m pip install --disable-pip-version-check -q --use-pep517 --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	touch $@ $(VENV)/run.stamp

# Needs uv (https://docs.astral.sh/uv/); one lock serves every Python and platform that the bounds allow.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --no-emit-index-url \
		--no-emit-find-links --group build pyproject.toml -o requirements.lock --custom-compile-command "make lock"
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --quiet --no-emit-index-url \
		--no-emit-find-links --group build --extra dev -c requirements.lock pyproject.toml -o requirements-dev.lock \
		--custom-compile-command "make lock"

clean:
	rm -rf $(VENV) build dist
