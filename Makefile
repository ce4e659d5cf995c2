# What a reader types. `make help` lists it.
VENV := .venv
RUN := $(VENV)/bin/python
# The same commands without make: `python start.py lab`.
START = python="$$(sh tools/find_python.sh)" && "$$python" start.py
# One thread a process: faster on small pictures, and the same numbers everywhere.
OMP_NUM_THREADS ?= 1
BLENDMASK_BUDGET ?= smoke
# Processes that share the tests; `auto`: one more than there are processors.
JOBS ?= auto
SITE_BUDGET ?= laptop
export PYTHON TORCH_INDEX OMP_NUM_THREADS JOBS

.DEFAULT_GOAL := help
.PHONY: help setup lab segment dashboard test test-lowest check lint types format budgets gpu-check checkpoint standin race snapshots picture gallery benchmark ready instructor slides playground site bundle clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=/path/to/python chooses the interpreter, TORCH_INDEX=URL where torch comes from."

setup: ## create or mend .venv; nothing to do where it is complete
	@$(START) setup

lab: ## open JupyterLab on the first notebook
	@$(START) lab

segment: ## objects in photographs of your own (IMAGES="PHOTO.jpg -o found")
	@$(START) segment $(IMAGES)

dashboard: ## serve the lab as a page without code
	@$(START) dashboard

test: ## all tests and every notebook, on all processors (JOBS=2: on two)
	@export BLENDMASK_BUDGET=$(BLENDMASK_BUDGET) && $(START) test $(PYTEST_ARGS)

test-lowest: ## fast tests on the oldest packages that pyproject.toml admits, in .venv-lowest
	@python="$$(sh tools/find_python.sh)" && "$$python" tools/lowest_versions.py
	BLENDMASK_BUDGET=smoke $(VENV)-lowest/bin/python -m pytest -n $(JOBS) \
		-m "not slow and not browser and not gpu" $(PYTEST_ARGS) tests

check: lint types ## the developer's loop: lint, types, fast tests on all processors
	BLENDMASK_BUDGET=smoke $(RUN) -m pytest -n $(JOBS) -m "not slow and not browser and not gpu" \
		$(PYTEST_ARGS) tests

lint: setup ## style, formatting, layers, stripped notebooks
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(VENV)/bin/lint-imports
	@$(RUN) -m nbstripout --verify notebooks/*.ipynb blendmask_lite/lab/*.ipynb

types: setup ## the type checker
	$(RUN) -m mypy

format: setup ## write the formatting that lint asks for, strip the notebooks
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .
	$(RUN) -m nbstripout notebooks/*.ipynb blendmask_lite/lab/*.ipynb

budgets: setup ## measure every notebook and write its budget line
	$(RUN) tools/measure_budgets.py

gpu-check: setup ## is everything right on this GPU, and how fast? writes docs/gpu.md (8 minutes)
	$(RUN) tools/gpu_check.py

checkpoint: setup ## train a shipped checkpoint again: PRESET=nano (an hour), small (three) or photos (an hour)
	$(RUN) tools/train_checkpoint.py $(PRESET)

standin: setup ## train the stand-in for the authors' checkpoints again (about 12 minutes)
	$(RUN) tools/train_stand_in.py

race: setup ## train the features of chapter 10's race again, and race (about an hour)
	$(RUN) tools/train_race.py

snapshots: setup ## train the sample of snapshots again (about 6 minutes)
	$(RUN) tools/train_snapshots.py

picture: setup ## draw docs/images/overview.png again
	$(RUN) tools/make_picture.py

gallery: setup ## draw the pictures of docs/gallery.md again (about 2 minutes)
	$(RUN) tools/make_gallery.py

ready: ## the day before a course: is everything on this machine? (a minute)
	@$(START) ready

instructor: setup ## build/instructor: solved notebooks and assignments for nbgrader
	$(RUN) tools/make_instructor.py

slides: setup ## build/instructor/slides: one deck a chapter, from its tagged cells
	BLENDMASK_BUDGET=$(SITE_BUDGET) $(RUN) tools/make_instructor.py --slides

playground: setup ## build/playground: BlendMask in the browser, for any static server; needs npm (PLAYGROUND_ARGS=--serve)
	$(RUN) tools/make_playground.py $(PLAYGROUND_ARGS)

site: setup ## build/site/html: the executed notebooks, guides and reference as pages (some 20 minutes at first)
	BLENDMASK_BUDGET=$(SITE_BUDGET) $(RUN) tools/make_site.py $(SITE_ARGS)

bundle: setup ## build/bundle: packages, notebooks and site in one folder, for a room without network
	$(RUN) tools/make_bundle.py $(BUNDLE_ARGS)

benchmark: setup ## time inference against torchvision's Mask R-CNN
	$(RUN) benchmarks/inference.py

clean: ## remove .venv, caches and build products; runs/ and data/ stay
	rm -rf $(VENV) $(VENV)-lowest build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
