# The tests of one distribution alone, in an environment of its own, with the repository's settings of pytest.
# A package's Makefile names it: NAME := websocket, and in NEEDS the packages that it needs.
PYTHON ?= python3
VENV := build/kirsch-$(NAME)

.PHONY: test wheel clean

test: ../../$(VENV)/.ready
	cd ../.. && $(VENV)/bin/pytest -m "not slow and not soak" $(PYTEST_ARGS) packages/kirsch-$(NAME)

../../$(VENV)/.ready: pyproject.toml ../../pyproject.toml
	@cd ../.. && sh scripts/venv "$(PYTHON)" "$(VENV)" "$(NEEDS) $(NAME)" 'kirsch-$(NAME)[test]'
	@touch $@

wheel:
	$(PYTHON) -m pip wheel --quiet --no-deps --wheel-dir ../../dist .

clean:
	rm -rf build ../../$(VENV)
