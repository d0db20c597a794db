# make bench: the main job on the bundled models and data.  make test: lint, types and tests.
# Tests start many processes: what one has compiled the next need not compile again.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= python3.11
BIN := .venv/bin
READY := .venv/.ready
# Two processes of one thread each: tiny products cost more on several, and two processes would fight for the cores.
WORKERS ?= -n 2 --dist worksteal

.PHONY: bench test quick oldest lint docs figures picture perf perf-rivals statistics faults clean

# A model for each of two processes.
bench: $(READY)
	$(BIN)/pytest --phasebench -n 2

test quick: export OMP_NUM_THREADS = 1

test: lint
	$(BIN)/pytest $(WORKERS)

quick: lint
	$(BIN)/pytest -m "not slow" $(WORKERS)

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

$(READY): .ci/requirements.lock pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r .ci/requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m phasebench fetch
	touch $(READY)

docs: $(READY)
	$(BIN)/sphinx-build -W --keep-going -q docs build/site

# What the pages of the findings show; the numbers beside them are held to the baselines by a test.
DRAWN := smol-instructblip-1 smol-instructblip-3 smol-instructblip-5 smol-llava-4-heatmap smol-llava-4-lines smol-llava-5
figures: $(READY)
	$(BIN)/pytest --phasebench --model smol-llava --model smol-instructblip --dataset scenes --controls --figures build/figures
	for drawn in $(DRAWN); do \
		model=$${drawn%%-[0-9]*}; \
		cp build/figures/$$model/scenes/figure-$${drawn#$$model-}.png docs/figures/$$drawn.png; \
	done

# What the terminal shows: of a model as it was recorded, and of one in which something changed.
RUN := pytest --phasebench --model smol-instructblip --dataset scenes
CHANGED := --images 12 --prompt 'A photo of' -m drift

picture: $(READY)
	$(BIN)/$(RUN) --fresh --color=yes | $(BIN)/python -m tests.support.picture docs/output.svg "$(RUN)"
	$(BIN)/$(RUN) $(CHANGED) --color=yes | $(BIN)/python -m tests.support.picture docs/drift.svg "... $(CHANGED)"

perf: $(READY)
	$(BIN)/python -m tests.perf

# Four minutes on two cores.
statistics: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.statistics

# A quarter of an hour on two cores; FAULTS=FILE keeps what is done, and a stopped run goes on from it.
faults: $(READY)
	$(BIN)/python -m tests.faults $(if $(FAULTS),--keep $(FAULTS))

# nnsight and TransformerLens beside what phasebench needs; torch stays as it is pinned.
perf-rivals: .ci/requirements.lock
	$(PYTHON) -m venv .venv-rivals
	.venv-rivals/bin/pip install --quiet --disable-pip-version-check -r .ci/requirements.lock
	.venv-rivals/bin/pip install --quiet --disable-pip-version-check -c .ci/requirements.lock nnsight==0.8.1 transformer-lens==4.3.0

# The lowest versions that pyproject.toml allows; torch stays as it is pinned. In one process: before 9.2 pytest's
# import hook lacks what our programs need, and pytest-benchmark 5.2 warns in workers.
oldest: $(READY)
	mkdir -p build
	$(BIN)/python -m tests.support.oldest > build/oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/pip install --quiet --disable-pip-version-check -c build/oldest.txt -e '.[dev,hub,parquet,peft,report,xdist]'
	.venv-oldest/bin/pip check
	.venv-oldest/bin/python -m phasebench fetch
	OMP_NUM_THREADS=1 .venv-oldest/bin/pytest -W ignore::DeprecationWarning

clean:
	rm -rf .venv .venv-oldest .venv-rivals build dist *.egg-info
