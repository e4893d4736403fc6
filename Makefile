# The two commands of the README, from nothing to done: `make demo` and `make test`.
# pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf …) are passed through as they are.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    ?= runs/quickstart

export ORT_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo pictures test lint format lock pin install clean

demo: $(STAMP)
	$(BIN)/edgecompress run models/quickstart.yaml -o $(RUN)

# The README's two pictures, of the demo's run; chromium draws the page.
pictures: demo
	$(BIN)/python docs/pictures/make.py $(RUN)

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint docker/*.Dockerfile

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The images' packages by hash, and their base by digest (docker/README.md).
lock: $(STAMP)
	$(BIN)/python docker/lock.py

pin:
	$(PYTHON) docker/pin.py

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edgecompress needs Python 3.11 or newer; run: make $(MAKECMDGOALS) PYTHON=…/python3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[build,data,serve,sign,dev]'
	@touch $@

clean:
	rm -rf $(VENV) runs .pytest_cache .mypy_cache .ruff_cache
