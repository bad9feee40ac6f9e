# Everything from a fresh clone on; `make` alone lists what there is.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
# auto: the CPU build of torch on a machine without an NVIDIA GPU, where it can be had; or cpu, or cuda.
# It counts when torch is first installed; `make clean` lets you choose again.
TORCH ?= auto
# quick; full: all layers of the base model and all rows (docs/sample.md); documents: questions answered from documents
# (docs/documents-sample.md). The last two have stacks of their own.
SAMPLE ?= quick
BIN := .venv/bin
BOOTSTRAP = @$(if $(PYTHON),,$(error Nightshift needs Python 3.11: apt-get install python3.11 python3.11-venv))$(PYTHON) scripts/bootstrap.py --torch $(TORCH)
RUN_TESTS = $(BIN)/python scripts/run_tests.py
ONLY = $(if $(TESTS),--only $(TESTS))

.DEFAULT_GOAL := help
.PHONY: help run up down environment environment-dev environment-vllm environment-deploy chart test test-unit test-slow test-e2e test-nightly test-kubernetes lint lock images benchmark clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | while IFS="$$(printf '\t')" read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

run: environment ## start everything and run the sample application, from raw rows to a retraining that helped
	@$(BIN)/nightshift run --sample $(SAMPLE)

up: environment ## start MLflow and Airflow
	@$(BIN)/nightshift up --sample $(SAMPLE)

down: ## stop them; data, models and history stay in .nightshift/
	@if [ -x $(BIN)/nightshift ]; then $(BIN)/nightshift down --sample $(SAMPLE); else echo "nothing was installed, so nothing runs"; fi

environment:
	$(BOOTSTRAP)

environment-dev:
	$(BOOTSTRAP) --dev

environment-vllm: environment-dev ## vLLM's build for processors, in .venv-vllm (docs/vllm.md); its nightly tests use it
	@$(BIN)/python scripts/extra_environment.py vllm

environment-deploy: environment-dev ## Helm, Terraform and checkov, in .venv-deploy (1.3 GB); nightly tests use it
	@$(BIN)/python scripts/extra_environment.py deploy

chart: environment-deploy ## render the Helm chart with its examples into tests/deploy/rendered
	@.venv-deploy/bin/python scripts/render_chart.py

test: environment-dev ## the tests of every commit: test-unit, test-slow and test-e2e, against their budgets
	@$(RUN_TESTS) unit slow e2e $(ONLY)

test-unit: environment-dev ## the quick tests
	@$(RUN_TESTS) unit $(ONLY)

test-slow: environment-dev ## real models, whole reports, killed processes
	@$(RUN_TESTS) slow $(ONLY)

test-e2e: environment-dev ## the real scheduler and MLflow server
	@$(RUN_TESTS) e2e $(ONLY)

test-nightly: environment-dev ## what is too long for every commit, and the benchmarks; TESTS="paths" of any target: only these
	@$(RUN_TESTS) nightly benchmark $(ONLY)

test-kubernetes: environment-dev ## pods in the cluster of $KUBECONFIG, with the image $NIGHTSHIFT_IMAGE (docs/kubernetes.md)
	@$(RUN_TESTS) kubernetes $(ONLY)

lint: environment-dev ## ruff, mypy, application files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/nightshift apps check

lock: environment-dev ## write the lock files anew from requirements.txt and requirements-dev.txt
	@$(BIN)/python scripts/lock.py

images: ## build the container images (docker/README.md); IMAGES="airflow trainer-cuda vllm-cuda", PUSH=registry
	@$(PYTHON) docker/build.py $(IMAGES) $(if $(PUSH),--push $(PUSH))

benchmark: environment-dev ## comparisons with what you would use instead; reports land in build/
	@$(RUN_TESTS) benchmark $(ONLY)

clean: down ## remove the environment, and .nightshift/ with all data, models and history
	@$(MAKE) --no-print-directory down SAMPLE=full
	@$(MAKE) --no-print-directory down SAMPLE=documents
	rm -rf .venv .venv-vllm .venv-deploy .nightshift build .mypy_cache .ruff_cache .pytest_cache include/*.egg-info
