# Python 3.10 to 3.13 to build the virtual environment with; another one: make app PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv
# Where the benchmarks' peers live, TensorFlow for one
BENCH_VENV ?= .bench-venv
# What goes to the program behind the command, as in: make app ARGS="--port 8000"
ARGS ?=
bin := $(VENV)/bin

.PHONY: help app test bench check space clean

help:
	@echo "make app            serve the web app on http://127.0.0.1:7860"
	@echo "make test           run every test; gets a browser for the tests of the page if it can"
	@echo "make check          look over format, style and types"
	@echo "make bench          measure against the peers, in tables of ratios"
	@echo "make space DIR=...  write the folder that a Hugging Face Space needs"
	@echo "make clean          remove the virtual environments"
	@echo 'More for the program: ARGS="..."; another Python: PYTHON=python3.12'

app: $(VENV)/.app
	$(bin)/python app.py $(ARGS)

test: $(VENV)/.dev
	@$(bin)/python -m tests.browser --install
	OMP_NUM_THREADS=1 $(bin)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder $(ARGS)

check: $(VENV)/.dev
	@rm -f cifar_torch/webui/*.pyi  # stubs that Gradio wrote, of an older state
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy

bench: $(BENCH_VENV)/.done $(VENV)/.app
	$(BENCH_VENV)/bin/python benchmarks/run.py $(if $(QUICK),--quick) $(ARGS); status=$$?; \
	$(if $(QUICK),true,$(bin)/python benchmarks/serve.py) && exit $$status

space:
	@$(PYTHON) scripts/make_space.py "$(DIR)"

clean:
	rm -rf $(VENV) $(BENCH_VENV)

$(VENV)/.app: requirements.txt | $(bin)/python
	$(bin)/python -m pip install --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt $(VENV)/.app
	$(bin)/python -m pip install --disable-pip-version-check -r requirements-dev.txt
	@touch $@

$(BENCH_VENV)/.done: benchmarks/requirements.txt requirements.txt | $(BENCH_VENV)/bin/python
	$(BENCH_VENV)/bin/python -m pip install --disable-pip-version-check -r benchmarks/requirements.txt
	@touch $@

$(VENV)/bin/python $(BENCH_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 10) <= v <= (3, 13) and \
		"cifar-torch needs Python 3.10 to 3.13, and $(PYTHON) is %d.%d; name another one: PYTHON=python3.12" % v)'
	@$(PYTHON) -m venv $(@:%/bin/python=%) || { rm -rf $(@:%/bin/python=%); exit 1; }
