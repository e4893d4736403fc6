# The two commands of the README, from nothing to done: `make demo` and `make test`.
# pip's own settings (PIP_INDEX_URL, PIP_FIND_LINKS, pip.conf …) are passed through as they are.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
RUN    ?= runs/quickstart
IMAGES ?= runs/quickstart-images
# Transformers 4.57 and Optimum over the packages of the first environment.
OLDER  := .venv-optimum
OLDER_TESTS := tests/surgery tests/quantization/test_patterns.py tests/quantization/test_layout.py \
  tests/quantization/test_shapes.py tests/stages/test_export.py tests/stages/test_fuse.py \
  tests/test_learned_ranges.py tests/test_toy_modality.py

export ORT_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo demo-images pictures test test-optimum lint format lock pin install clean

demo: $(STAMP)
	$(BIN)/edgecompress run models/quickstart.yaml -o $(RUN)

demo-images: $(STAMP)
	$(BIN)/edgecompress run models/quickstart-images.yaml -o $(IMAGES)

# The README's two pictures, of the demo's run; chromium draws the page.
pictures: $(RUN)/report.html
	$(BIN)/python docs/pictures/make.py $(RUN)

$(RUN)/report.html:
	$(MAKE) demo

test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

# What depends on the exporter and on how transformers builds models, with the older of both.
test-optimum: $(OLDER)/.installed
	OMP_NUM_THREADS=1 $(OLDER)/bin/python -m pytest -n 2 --dist loadfile $(OLDER_TESTS)

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
	$(BIN)/python -m pip install --constraint constraints.txt --editable '.[audio,build,data,serve,sign,dev]'
	@touch $@

$(OLDER)/.installed: $(STAMP) constraints-optimum.txt
	test -x $(OLDER)/bin/python || $(BIN)/python -m venv $(OLDER)
	$(OLDER)/bin/python -c 'import site, sysconfig, sys; from pathlib import Path; \
	  first = next(Path("$(CURDIR)/$(VENV)").glob("lib/python3*/site-packages")); \
	  file = Path(sysconfig.get_path("purelib")) / "first.pth"; \
	  file.write_text(f"import site; site.addsitedir({str(first)!r})\n")'
	$(OLDER)/bin/python -m pip install --constraint constraints-optimum.txt \
	  'transformers<4.58' 'optimum<2.2' 'optimum-onnx<0.2'
	@touch $@

clean:
	rm -rf $(VENV) $(OLDER) runs .pytest_cache .mypy_cache .ruff_cache
