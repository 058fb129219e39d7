# The commands of a working day; each makes what it needs. `make help` lists them.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
RUN := $(VENV)/bin/python
# The CUDA kernels on an emulated GPU: built and loaded where this names the library.
EMULATION := $(CURDIR)/build/emulation/libvisionops_emulated.so

.PHONY: help build test test-slow test-barriers test-dtypes test-large test-offline demo bench lint sanitize wheel peers abi-check gpu-check table clean

help:  ## list the commands
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## / \t/' | expand -t 16

# Else pip compiles all of torch's Python, most of which nobody imports, and takes twice as long.
$(VENV)/.installed: requirements.txt pyproject.toml setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --no-compile --requirement requirements.txt
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/pip install --quiet --no-build-isolation --no-deps --editable .
	touch $@

build: $(VENV)/.installed  ## compile what changed, in place
	@VISIONOPS_EMULATION=$(EMULATION) $(RUN) setup.py --quiet build_ext --inplace

test: build  ## the test suite
	$(RUN) -m pytest -q --numprocesses auto

test-slow: build  ## the tests that take minutes: inductor, export, Triton offline, each barrier gone, all dtypes interpreted
	$(RUN) -m pytest -q -m slow

test-barriers: build  ## whether tests notice each barrier of the CUDA kernels that is gone
	$(RUN) -m pytest -q -m slow tests/roi/test_emulated.py tests/suppression/test_emulated.py --numprocesses auto

test-dtypes: build  ## agreement with the reference in the dtypes that `make test` leaves out where Triton is interpreted
	$(RUN) -m pytest -q -m slow tests/test_contract.py --numprocesses auto

test-large: build  ## the tests that need many gigabytes
	$(RUN) -m pytest -q -m large

test-offline: build  ## compile every Triton kernel for sm_80, sm_90 and sm_100; registers and spills
	$(RUN) -m pytest -q -rP -m slow tests/test_offline.py --numprocesses auto

demo: build  ## count the coins in a photograph; the picture in build/demo
	$(RUN) examples/coins.py

bench: build  ## time every operation against the peers that are installed
	$(RUN) -m benchmarks

lint: $(VENV)/.installed  ## the hooks of .pre-commit-config.yaml over all files
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/pre-commit run --all-files --show-diff-on-failure

SANITIZED := $(CURDIR)/build/sanitize
# Python itself is not sanitized, so the runtime comes first; leaks are not looked for, since the interpreter leaks.
# The working folder must not come before the sanitized build: hence pytest's own command and the safe path.
sanitize: $(VENV)/.installed  ## the suite under AddressSanitizer and UndefinedBehaviorSanitizer
	VISIONOPS_CMAKE_OPTIONS="-DVISIONOPS_SANITIZE=ON" VISIONOPS_EMULATION=$(SANITIZED)/libvisionops_emulated.so \
	$(RUN) setup.py --quiet build --build-lib $(SANITIZED)
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 \
	PYTHONPATH=$(SANITIZED):$(CURDIR) PYTHONSAFEPATH=1 VISIONOPS_EMULATION=$(SANITIZED)/libvisionops_emulated.so \
	$(VENV)/bin/pytest -q -p no:cacheprovider tests -m "not slow and not large and not measured" --numprocesses auto

wheel: $(VENV)/.installed  ## build the wheel into dist/
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(VENV)/bin/pip wheel --quiet --no-build-isolation --no-deps --wheel-dir dist .

$(PEERS)/.installed: requirements-peers.txt
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/pip install --quiet --no-compile --requirement requirements-peers.txt
	touch $@

peers: $(PEERS)/.installed wheel  ## a second environment with torchvision, OpenCV and this library's wheel; benchmarks there
	$(PEERS)/bin/pip install --quiet --no-deps --force-reinstall dist/visionops-*.whl
	mkdir -p build/peers && ln -sfn ../../benchmarks build/peers/benchmarks
	cd build/peers && $(CURDIR)/$(PEERS)/bin/python -m benchmarks

abi-check: $(VENV)/.installed  ## one wheel under several versions of torch; makes .venv-abi, some 20 GB
	PATH="$(CURDIR)/$(VENV)/bin:$$PATH" $(RUN) tools/abi_check.py

# Without a virtual environment: such a machine has its own Python and no network.
gpu-check:  ## build, test, sanitize and time on this machine's NVIDIA GPU, with PYTHON's own torch
	$(PYTHON) tools/gpu_check.py

table: build  ## run the suite, record what ran on what, and put the table into the README
	$(RUN) -m pytest -q --numprocesses auto --record-ran-on --deselect tests/test_documents.py
	$(RUN) -m visionops --into README.md

clean:  ## remove what was built, not the environments
	rm -rf build dist *.egg-info visionops/*.so visionops/numpy/*.so
