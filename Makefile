# make demo and make test set everything up from nothing; the only needs are Python 3.11 or 3.12, pip and make.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("py%d%d" % sys.version_info[:2])')
LOCK := requirements/$(VERSION).lock
BIN := .venv/bin
READY := .venv/ready-$(VERSION)
# A step on a CPU takes gigabytes from the system anew; large pages spare it most of that work.
export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1

.PHONY: setup demo test test-slow check format bench notebooks lock clean

setup: $(READY)

$(READY): $(LOCK) setup.py
	@test -f $(LOCK) || { echo "facerep_jax needs Python 3.11 or 3.12; this is $(VERSION) ($(PYTHON))" >&2; exit 2; }
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -r $(LOCK)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(LOCK): ;

demo: setup
	$(BIN)/facerep demo --out demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: setup
	$(BIN)/python -m pytest -m "slow or not slow"

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@! git grep -nE '^(<{7}|>{7}) '

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: setup
	$(BIN)/python benchmarks/generated_faces.py
	$(BIN)/python benchmarks/restart.py
	$(BIN)/python benchmarks/evaluate.py
	$(BIN)/python benchmarks/train_step.py --case Ti --remat none
	$(BIN)/python benchmarks/train_step.py --case B

notebooks: setup
	$(BIN)/python notebooks/execute.py notebooks/*.ipynb

lock:  # needs uv
	uv pip compile --quiet --no-header --python-version 3.11 --extra dev --extra prepare --extra matlab setup.py -o requirements/py311.lock
	uv pip compile --quiet --no-header --python-version 3.12 --extra dev --extra prepare --extra matlab setup.py -o requirements/py312.lock

clean:
	rm -rf .venv .cache demo build *.egg-info
