# All targets share one virtual environment. The first target that needs it creates it.
#   make sweep KEEP_TORCH=1    uses the torch that PYTHON already has (2.13 or newer), and its torchvision
#   make sweep VENV=DIR        creates the environment in DIR
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
READY = $(VENV)/ready
# Two processes: one computes while the other waits.
PYTEST = $(BIN)/python -m pytest -n 2 --dist worksteal
KEEP_TORCH ?=
SWEEP_ARGS ?=
TEST_ARGS ?=

.PHONY: sweep test test-all lint format lock reference docs pictures

sweep: $(READY)
	$(BIN)/dynamos-sweep run $(SWEEP_ARGS)

test: $(READY)
	$(PYTEST) $(TEST_ARGS)

# All tests, including the slow ones.
test-all: $(READY)
	$(PYTEST) -m "" $(TEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --config setup.cfg

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The pages that are made from the code; a test fails if one is out of date.
reference: $(READY)
	$(BIN)/python -m docs.pages

# The pictures of the docs, from the sweep that `dynamos-sweep run --name first` made; needs chromium.
pictures: $(READY)
	$(BIN)/python -m docs.draw_pictures --storage runs --sweep first

# The site of docs/, in build/site, without network. The search needs a server: python -m http.server -d build/site
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# PyPI's torch for Linux requires its own versions of the CUDA libraries, so the lock leaves these out.
$(READY): requirements-dev.txt setup.cfg pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dynamos needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(if $(KEEP_TORCH),--system-site-packages) $(VENV)
	$(if $(KEEP_TORCH),grep -vE '^torch(vision)?==',cat) requirements-dev.txt > $(VENV)/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check -r $(VENV)/requirements.txt
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e . \
		--config-settings editable_mode=compat
	$(BIN)/python -c 'import torch; print("torch", torch.__version__)'
	touch $@

CUDA = $(foreach p,nvidia-cublas nvidia-cuda-cupti nvidia-cuda-nvrtc nvidia-cuda-runtime nvidia-cudnn-cu13 \
	nvidia-cufft nvidia-cufile nvidia-curand nvidia-cusolver nvidia-cusparse nvidia-cusparselt-cu13 nvidia-nccl-cu13 \
	nvidia-nvjitlink nvidia-nvshmem-cu13 nvidia-nvtx cuda-bindings cuda-pathfinder cuda-toolkit triton,\
	--no-emit-package $(p))
COMPILE = $(BIN)/uv pip compile setup.cfg --universal --python-version 3.11 --upgrade --no-header \
	--constraint requirements.in $(CUDA)

# Updates both locks to the newest versions that setup.cfg and requirements.in allow.
lock:
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --output-file requirements.txt
	$(COMPILE) --extra dev --output-file requirements-dev.txt
