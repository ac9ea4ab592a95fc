# Every command makes what it needs: on a fresh machine start with any of them.
SHELL := /bin/sh
.DEFAULT_GOAL := help

# Any Python 3 will do to begin with; tools/bootstrap.py looks for a version that fits.
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11 python,\
            $(shell command -v $(name) 2>/dev/null)))
VENV ?= .venv
SEEDS ?= 0
JOBS ?= 1
PY := $(VENV)/bin/python
SETUP = $(if $(PYTHON),DRAWLIB_VENV="$(abspath $(VENV))" $(PYTHON) tools/bootstrap.py,\
          { echo "setup: no Python 3 was found on the PATH" >&2; exit 1; })

.PHONY: help setup data book serve bench test test-unit test-faults test-colab \
        notebooks questions figures slides reproduce lint set-repository clean

help: ## show this list
	@echo "make <command>, where <command> is one of"
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1 # \2/p' Makefile | \
	  while IFS='#' read -r name text; do printf '%-20s%s\n' "$$name" "$$text"; done

setup: ## make .venv from requirements.txt (every other command does this first)
	@$(SETUP)
	@echo "setup: ready in $(VENV)"

data: ## get MNIST and verify its checksum
	@$(SETUP)
	@$(PY) -m drawlib data mnist-dynamic

book: data ## execute every notebook and build the static book
	@$(PY) tools/build_book.py --execute
	@$(PY) tools/make_pdf.py

serve: ## open the built book in a browser, from a local server
	@$(SETUP)
	@$(PY) tools/serve.py

test: data ## run everything that is tested, with one line for each stage
	@$(PY) tools/check.py

test-unit: ## the fast tests of the library alone
	@$(SETUP)
	@$(PY) tools/check.py --only unit-fast doctests

test-faults: ## the tests that kill processes, fill disks and break files
	@$(SETUP)
	@$(PY) tools/check.py --only faults

test-colab: ## run every notebook the way Colab does
	@$(SETUP)
	@$(PY) tools/check.py --only colab

notebooks: data ## execute the notebooks in place and store clean outputs
	@$(PY) tools/run_notebooks.py $(NOTEBOOKS)

questions: ## carry the chapters' questions into notebooks, and into files to import
	@$(SETUP)
	@$(PY) tools/questions.py

figures: data ## write each figure of the book as SVG and PDF (some minutes)
	@$(PY) tools/make_figures.py $(NOTEBOOKS)

slides: data ## make the slides of eight lectures, from the book's pages
	@test -f _build/html/index.html || $(PY) tools/build_book.py
	@$(PY) tools/make_slides.py

reproduce: data ## train a table's rows: make reproduce TABLE="A B" SEEDS="0 1 2" JOBS=2
	@$(PY) -m drawlib reproduce $(if $(TABLE),--table $(TABLE)) --seeds $(SEEDS) \
	  --jobs $(JOBS) $(if $(SCHEDULER),--scheduler $(SCHEDULER)) $(ARGS)

bench: ## time everything on 1 and 2 threads (20 minutes on an idle machine)
	@$(SETUP)
	@$(PY) -m benchmarks $(ARGS)

lint: ## ruff and mypy
	@$(SETUP)
	@$(PY) tools/check.py --only ruff mypy

set-repository: ## write the repository's address everywhere: make set-repository URL=…
	@$(SETUP)
	@$(PY) tools/set_repository.py "$(URL)"

clean: ## remove everything that was built (keeps .venv and data)
	rm -rf _build build drawlib.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find drawlib tests tools book notebooks benchmarks \( -name __pycache__ -o \
	  -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
