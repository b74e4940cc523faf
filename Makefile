# The targets that a newcomer types: demo, test. Each makes .venv if it is missing.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help demo test smoke-cloud frameworks check bench train format browser clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(INSTALLED): pyproject.toml constraints.txt api/client/pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (some minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e api/client -e '.[dev]' 2>.venv/install.log \
		|| { cat .venv/install.log >&2; exit 1; }
	@touch $@

demo: $(INSTALLED) ## real training jobs on a simulated cloud, forecast and moved ahead of need
	@$(BIN)/scaleahead demo

test: $(INSTALLED) browser ## every test, two at a time but for those of whole daemons, which take both cores
	@$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/e2e
	@$(BIN)/python -m pytest tests/e2e

frameworks: $(INSTALLED) ## the tests that need Hugging Face, Lightning and Keras, which it installs beside the rest
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e 'api/client[frameworks]'
	@$(BIN)/python -m pytest -m frameworks api/client/tests tests/docs/test_how_to_client.py tests/e2e/test_frameworks.py

smoke-cloud: $(INSTALLED) ## one machine of a real AWS account through all its calls: ACCOUNT=... BUDGET_USD=... TEMPLATE=...
	@$(BIN)/python -m tests.tools.smoke_cloud --account "$(ACCOUNT)" --budget-usd "$(BUDGET_USD)" --template "$(TEMPLATE)" $(MORE)

check: $(INSTALLED) ## format, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/mypy $$(cd api/client && ls scaleahead/*.py | sed 's/\.py$$//; s|/__init__||; s|/|.|; s/^/-m /')
	@$(BIN)/lint-imports

bench: $(INSTALLED) ## the benchmarks, as ratios against a calibration loop
	@$(BIN)/python -m tests.benchmarks

train: $(INSTALLED) ## train the forecaster's weights anew: make train HISTORY="FILE..." MINUTES=100
	@test -n "$(HISTORY)" || { echo "make train: name history files with HISTORY=\"FILE...\""; exit 2; }
	@$(BIN)/python -m daemon.forecast.train --history $(HISTORY) --out daemon/forecast/weights --minutes $(or $(MINUTES),100)

format: $(INSTALLED) ## put the sources into form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

browser: ## a browser for the dashboard's test, systemd's linter and promtool, where the system can give them
	@command -v chromium >/dev/null 2>&1 && command -v systemd-analyze >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1 \
		|| sh tests/install-tools.sh

clean: ## remove what the targets made
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache
