# Everything a fresh machine needs is set up by the targets themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUNS := $(VENV)/.runs
PACKAGES := websocket amqp device hbase robot
APP ?= examples/notes
# What machines as containers need.
MACHINES := haproxy podman runc netavark aardvark-dns iptables iproute2 mmdebstrap openssh-client docker-registry

# Where an image's environment forbids bytecode, each process compiles all that it imports: kirschd would take twice as
# long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: lowest pin run cluster-demo test test-all soak test-python lint setup clean debian debian-test autobahn fuzz hbase-commands simulation faults screenshots release wheels deb docs docs-serve docs-versions

run: $(RUNS) debian examples/notes/webapp/static/vendor/pure-min.css
	$(BIN)/kirsch up $(APP)

# The same on three machines, which are containers: needs root. `kirsch cluster destroy demo` takes them away.
DEMO := http://localhost:7070/
cluster-demo: $(RUNS) examples/notes/webapp/static/vendor/pure-min.css
	@sh scripts/debian $(MACHINES)
	if $(BIN)/kirsch cluster list --no-legend | grep '^demo ' >/dev/null; then $(BIN)/kirsch cluster start demo; else \
		$(BIN)/kirsch cluster create demo --machines 3 --metadata zone=a/b/c --publish 7070:8091; fi
	$(BIN)/kirsch up examples/notes --on demo
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] && command -v xdg-open >/dev/null; then xdg-open $(DEMO); else echo "Open $(DEMO)"; fi

# Whole files, three at a time, for many tests wait; conftest.py has those that take long begin first.
PYTEST := $(BIN)/pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=10

# The quick ones: no machines, no containers, no Java; schemathesis's plugin takes seconds to import, in each process.
test: $(READY) debian-test examples/notes/webapp/static/vendor/pure-min.css
	$(PYTEST) -n 4 -m "not slow and not soak" -p no:schemathesis $(PYTEST_ARGS)

test-all: $(READY) debian-test examples/notes/webapp/static/vendor/pure-min.css
	$(PYTEST) -m "not soak" $(PYTEST_ARGS)

# What takes minutes each: 26 rounds of faults, more examples for hypothesis, 10,000 simulated clusters, all of
# Autobahn, guided fuzzing.
soak: $(READY) debian-test examples/notes/webapp/static/vendor/pure-min.css
	@sh scripts/debian catatonit krb5-kdc krb5-admin-server pgbackrest postgresql uidmap slirp4netns nodejs
	KIRSCH_SOAK=1 $(PYTEST) -m "soak or hypothesis" $(PYTEST_ARGS)
	KIRSCH_PURE=1 $(PYTEST) -m "not slow and not soak" $(PYTEST_ARGS) packages/kirsch-websocket
	$(MAKE) simulation SEEDS=10000
	$(MAKE) autobahn fuzz SECONDS=300
	$(MAKE) docs
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) faults ROUNDS=26; fi

# The same with another Python, in an environment of its own: make test-python PYTHON=python3.13
test-python:
	$(MAKE) test PYTHON="$(PYTHON)" VENV="build/$(notdir $(PYTHON))"

# The quick tests without servers, with the oldest versions that pyproject.toml allows, in an environment of its own.
LOWEST := $(CURDIR)/build/lowest
lowest: $(READY)
	rm -rf $(LOWEST)
	mkdir -p build
	PATH="$$PWD/$(BIN):$$PATH" $(PYTHON) scripts/lowest >$(LOWEST).txt
	PIP_CONSTRAINT=$(LOWEST).txt UV_CONSTRAINT=$(LOWEST).txt $(MAKE) setup VENV=build/lowest
	$(LOWEST)/bin/pytest -n 4 --dist loadfile -m "not slow and not soak and not services and not root" -p no:schemathesis

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

# All of Autobahn's cases; the quick ones are among the tests.
autobahn: $(READY)
	PYTHONPATH=.:packages/kirsch-websocket $(BIN)/python -m tests.websocket.autobahn --all --record packages/kirsch-websocket/docs/conformance.json

# Bytes of any kind for all that reads what peers send, for SECONDS: guided by coverage where atheris installs.
SECONDS ?= 1200
fuzz: $(READY)
	test -d build/atheris || $(BIN)/pip install --quiet --only-binary :all: --target build/atheris "atheris>=3,<4" || true
	PYTHONPATH=build/atheris:.:packages/kirsch-websocket $(BIN)/python -m tests.websocket.fuzz --seconds $(SECONDS)

# The documentation's site, in build/site; a warning is an error, and so is a link that leads nowhere. `make docs-serve`
# shows it while it is written.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs
docs: $(VENV)/.docs build/iframe-worker.js
	$(MKDOCS) build --strict --quiet

# The same of each release, by its tag, and of the commit, with a list to choose from, in build/versions.
docs-versions: $(VENV)/.docs build/iframe-worker.js
	$(BIN)/python scripts/versions

docs-serve: $(VENV)/.docs build/iframe-worker.js
	$(MKDOCS) serve

$(VENV)/.docs: $(READY)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@

build/iframe-worker.js:
	@sh scripts/npm iframe-worker@1 shim/index.js $@

# Pictures of the dashboard in docs, as it is.
screenshots: $(READY) debian-test examples/notes/webapp/static/vendor/pure-min.css
	$(BIN)/python scripts/screenshots

# All distributions into dist/, built of the commit, for each Python that is there, checked, and each used in an empty
# environment; with a list of what an installation consists of (CycloneDX).
release:
	$(PYTHON) scripts/release

# Wheels of what is compiled, for Linux at large (manylinux, musllinux; x86-64, arm64), into dist/: an index takes no others.
PYTHONS ?= $(PYTHON)
wheels:
	$(PYTHON) scripts/wheels $(PYTHONS)

# A Debian package for each of RELEASES into dist/, of the commit.
RELEASES ?= bookworm trixie
deb: $(READY)
	@sh scripts/debian lowdown
	test -d build/installer || $(BIN)/pip install --quiet --disable-pip-version-check --target build/installer "installer>=0.7,<2"
	PYTHONPATH=build/installer $(BIN)/python scripts/deb $(RELEASES)

# Which test ran which command of HBase's shell.
hbase-commands: $(READY)
	KIRSCH_WRITE=1 $(BIN)/pytest packages/kirsch-hbase/tests/hbase/shell/test_commands.py

# As many clusters in virtual time: `make soak` plays 10,000.
SEEDS ?= 1000000
simulation: $(READY)
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --jobs $$(nproc)

# Bases of images by digest, and of machines, as their tags are now; done again, it takes what they are then. Commit what
# it changes.
pin:
	$(PYTHON) scripts/pin images/*/Containerfile src/kirsch/cluster/provision/recipe.py

# Random faults on three machines, or FAULTY=5: the same SEED has the same plan, `TURNS=5` kills each machine five
# times in turn.
ROUNDS ?= 13
FAULTY ?= 3
SEED ?= $(shell od -An -N3 -tu4 /dev/urandom | tr -d ' ')
faults: $(READY) debian-test
	$(BIN)/python -m tests.faults --rounds $(ROUNDS) --seed $(SEED) --machines $(FAULTY) $(TURNS:%=--turns %)

setup: $(READY)

# What running the examples needs, and no more.
$(RUNS): pyproject.toml $(PACKAGES:%=packages/kirsch-%/pyproject.toml)
	@sh scripts/venv "$(PYTHON)" "$(VENV)" "$(filter-out robot,$(PACKAGES))" 'kirsch[postgres,machines]'
	@touch $@

# What working on kirsch needs besides.
$(READY): pyproject.toml $(PACKAGES:%=packages/kirsch-%/pyproject.toml)
	@sh scripts/venv "$(PYTHON)" "$(VENV)" "$(PACKAGES)" 'kirsch[dev]' $(PACKAGES:%='kirsch-%[test]')
	@touch $@ $(RUNS)

debian:
	@sh scripts/debian haproxy

debian-test:
	@sh scripts/debian haproxy chromium chromium-headless-shell firefox-esr zsh fish etcd-server etcd-client openssh-client prometheus rabbitmq-server default-jdk-headless maven lowdown mandoc
	@# Machines as containers are root's; for others their tests are skipped.
	@if [ "$$(id -u)" = 0 ]; then sh scripts/debian $(MACHINES); fi

# Pure.css comes from npm at build time; the page is decent without it.
examples/notes/webapp/static/vendor/pure-min.css:
	@sh scripts/npm purecss@3 build/pure-min.css $@

clean:
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
