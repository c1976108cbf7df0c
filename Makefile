# Everything sets itself up: `make run` or `make test` is all that a fresh clone needs.
PYTHON ?= python3.11
STORE  ?= $(or $(DEFECTLINE_STORE),store)
SOURCE ?=
SET    ?=
CONFIG ?=
BIN    := .venv/bin
UV     := $(BIN)/uv
PARTS  := client common ingest preprocess train train-gpu train-jax evaluate deploy serve serve-gpu local local-gpu

# Every step is a process, which starts seconds sooner from compiled modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup run serve test test-images test-cluster lint lock images bench docs notebooks clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

setup: .venv/installed  ## install everything into .venv

.venv/installed: pyproject.toml requirements/dev.txt
	@echo "Installing about 250 Python packages into .venv, TensorFlow, OpenVINO and Kubeflow Pipelines among them: 4.4 GB"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/pip install --quiet uv==0.13.9
	$(UV) pip install --quiet --require-hashes --requirement requirements/dev.txt
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

run: setup  ## run the pipeline: make run [CONFIG=plates.yaml] [SOURCE=uri] [STORE=uri] [SET="epochs=80 seed=1"]
ifneq ($(CONFIG),)
	$(BIN)/defectline run --config "$(CONFIG)" $(addprefix --set ,$(SET)) $(if $(SOURCE),--source "$(SOURCE)") \
	  $(if $(filter file,$(origin STORE)),,--store "$(STORE)")
else ifeq ($(SOURCE),)
	@test -d samples || $(BIN)/defectline sample samples --pairs $(SAMPLE_PAIRS)
	$(BIN)/defectline run --source samples --store "$(STORE)" $(addprefix --set ,epochs=$(SAMPLE_EPOCHS) pretraining=none $(SET))
else
	$(BIN)/defectline run --source "$(SOURCE)" --store "$(STORE)" $(addprefix --set ,$(SET))
endif

# Enough defective test pictures for a rate to mean something, and few enough epochs for some minutes. These
# samples are alike enough to be learned from the start.
SAMPLE_PAIRS  := 300
SAMPLE_EPOCHS := 6

serve: setup  ## serve the champion on port 8080: make serve [STORE=uri]
	exec $(BIN)/defectline serve --store "$(STORE)"

# Much of a test is a process that starts, which keeps one processor busy.
TEST_PROCESSES ?= 2

test: setup  ## run the tests; REQUIRE_ALL=1 makes every skip a failure
	$(BIN)/pytest -m "not images and not e2e" --numprocesses $(TEST_PROCESSES) --dist loadfile

# Docker works in this folder where this Makefile starts an engine of its own; kept, for its layers.
ENGINE ?= $(HOME)/.cache/defectline/engine

test-images: setup  ## build every image with a real Docker engine, and run it
	@host=$${DOCKER_HOST:-$$(tests/support/engine.sh start $(ENGINE))} || exit 1; \
	DOCKER_HOST=$$host $(BIN)/pytest -m images; status=$$?; \
	[ -n "$$DOCKER_HOST" ] || tests/support/engine.sh stop $(ENGINE); exit $$status

test-cluster: setup  ## try the product on the cluster of KUBECONFIG and KFP_HOST; E2E_STAND_IN=1 plays one here
	@mkdir -p build/test-cluster
	$(BIN)/pytest tests/e2e -m e2e --junitxml=build/test-cluster/junit.xml

images: setup  ## build the images: make images [REGISTRY=…] [PUSH=1] [SIGN=KEY] [GPU=1] [BUILD_ARGS="…"]
	$(BIN)/python tools/build_images.py $(if $(REGISTRY),--registry $(REGISTRY)) $(if $(GPU),--gpu) \
	  $(if $(PUSH),--push) $(if $(SIGN),--sign $(SIGN)) -- $(BUILD_ARGS)

lint: setup  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	@# mypy follows no import hooks, so it gets the installed layout as links.
	@mkdir -p .venv/typing/defectline
	@for floor in cli client pipeline components; do \
	  ln -sfn ../../../$$floor .venv/typing/defectline/$$floor; done
	MYPYPATH=.venv/typing $(BIN)/mypy -p defectline.cli -p defectline.client -p defectline.pipeline -p defectline.components

COMPILE := $(UV) pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-header --quiet

lock: setup  ## compile requirements/*.txt from pyproject.toml
	$(COMPILE) pyproject.toml --extra dev --output-file requirements/dev.txt
	for part in $(PARTS); do $(COMPILE) pyproject.toml --extra $$part --constraint requirements/dev.txt \
	  --output-file requirements/$$part.txt || exit 1; done
	echo kfp | $(COMPILE) - --no-deps --constraint requirements/dev.txt --output-file requirements/kfp.txt
	echo 'mlflow>=3.17,<4' | $(COMPILE) - --output-file requirements/mlflow-server.txt
	echo 'tritonclient[grpc,http]' | $(COMPILE) - --output-file requirements/triton-client.txt
	echo 'label-studio>=1.23,<2' | $(COMPILE) - --output-file requirements/label-studio-server.txt
	echo 'setuptools>=77' | $(COMPILE) - --no-deps --constraint requirements/dev.txt \
	  --output-file requirements/build.txt

bench: setup  ## measure speed and memory of the steps
	$(BIN)/python benchmarks/data.py
	@test -d samples || $(BIN)/defectline sample samples --pairs $(SAMPLE_PAIRS)
	$(BIN)/python benchmarks/chain.py --set epochs=$(SAMPLE_EPOCHS) --set pretraining=none

docs: setup  ## build the documentation as a site in build/site; a broken link is an error
	$(BIN)/python tools/docs_site.py build

notebooks: setup  ## open the notebooks in JupyterLab, which is installed for it
	@test -x $(BIN)/jupyter-lab || { echo "Installing JupyterLab into .venv (once)"; \
	  $(UV) pip install --quiet --constraint requirements/dev.txt 'jupyterlab>=4.4'; }
	$(BIN)/jupyter-lab notebooks

clean:  ## remove what the other targets made, but for the store
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache samples inspected pipeline.yaml
