# Each target works alone on a fresh machine with Python >= 3.11 and make: the environment is made on first use.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo test lint tables bench gpu torture clean

demo: $(STAMP)
	@echo "The demo takes about 4 minutes on two idle cores, and twice that where they are shared."
	$(RUN)/psegan reproduce --config experiments/reproduce/demo.yaml
	$(RUN)/psegan protect runs/demo/audio/1-*-original.wav --model runs/demo/psegan/checkpoints/last.ckpt --target neutral \
	  -o runs/demo/protected --existing overwrite
	@echo "Open runs/demo/report.html in a browser."

test: $(STAMP) lint
	OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy
	$(RUN)/lint-imports

tables: $(STAMP)  # of all pages that ask for some, from docs/results/*/results.json
	$(RUN)/cog -P -I docs -r $$(grep -rlF '[[[cog' --include=*.md README.md docs checkpoints)

bench: $(STAMP)
	$(RUN)/python -c "from psegan.bench.training import main; main()"

torture: $(STAMP)
	OMP_NUM_THREADS=1 $(RUN)/python -m tests.robustness.torture

gpu: $(STAMP)
	$(RUN)/python -m psegan.bench.gpu

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "psegan needs Python 3.11 or newer, $(PYTHON) is older: make PYTHON=python3.11 ..." >&2; exit 1; }
	@echo "Installing into $(VENV): about 5 GB, mostly torch; one to two minutes on a fast line."
	$(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@
