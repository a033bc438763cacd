# `make demo` and `make test` do all the set-up they need on a machine with Python 3.11 and Debian's packages at hand.
PORT ?= 8000
WORKERS ?= 2
PYTHON ?= python3
BIN := .venv/bin
COMPONENTS := prometheus chromium redis-server memcached postgresql=psql mariadb-server=mariadbd npm:@copilotkit/aimock@1.43.0 \
	rsyslog=rsyslogd 'rsyslog-gnutls=/usr/lib/*/rsyslog/lmnsd_gtls.so'

.PHONY: demo test test-long lint bench dashboard clean

demo: .venv/demo
	$(BIN)/monitoring demo --port $(PORT) --workers $(WORKERS) $(ARGS)

test: .venv/test
	scripts/install-components $(COMPONENTS)
	$(BIN)/python -m pytest -m "not long" $(ARGS)

test-long: .venv/test
	scripts/install-components $(COMPONENTS)
	$(BIN)/python -m pytest $(ARGS)

lint: .venv/lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

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
