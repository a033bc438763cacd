# `make demo` and `make test` do all the set-up they need on a machine with Python 3.11 and Debian's packages at hand.
PORT ?= 8000
WORKERS ?= 2
PYTHON ?= python3
BIN := .venv/bin
COMPONENTS := prometheus chromium redis-server memcached postgresql=psql mariadb-server=mariadbd npm:@copilotkit/aimock@1.43.0 \
	rsyslog=rsyslogd 'rsyslog-gnutls=/usr/lib/*/rsyslog/lmnsd_gtls.so'

# What starts whole services and looks at how fast they answer: these tests have the machine to themselves.
ALONE := tests/servers tests/demo

.PHONY: demo test test-long lint bench dashboard clean

demo: .venv/demo
	$(BIN)/monitoring demo --port $(PORT) --workers $(WORKERS) $(ARGS)

test: .venv/test
	scripts/install-components $(COMPONENTS)
	$(BIN)/python -m pytest -m "not long" $(foreach folder,$(ALONE),--ignore $(folder)) -n auto --dist loadfile $(ARGS)
	$(BIN)/python -m pytest -m "not long" $(ALONE)

test-long: .venv/test
	scripts/install-components $(COMPONENTS)
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy tests/integrations/typed_wrap.py
	$(BIN)/pyright --pythonpath $(BIN)/python tests/integrations/typed_wrap.py

bench: .venv/bench
	scripts/install-components wrk
	$(BIN)/python -m benchmarks $(ARGS)

dashboard:
	cd dashboard && npm ci --no-audit --no-fund && npm run --silent build

.venv/%: pyproject.toml scripts/install-python
	PYTHON="$(PYTHON)" scripts/install-python $*
	touch $@

clean:
	rm -rf .venv build dist *.egg-info .monitoring
