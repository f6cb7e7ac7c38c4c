# Every target makes .venv first, from requirements-dev.txt; nothing else has to be installed.
# A recipe that fails makes `make` itself exit with 2: scripts that need the exact status call .venv/bin/etl.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
ARGS ?=

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

.PHONY: help
help: ## list the targets
	@awk 'BEGIN { FS = ":[^#]*## " } /^[a-z-]+:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(READY): requirements-dev.txt pyproject.toml scripts/venv
	@PYTHON='$(PYTHON)' scripts/venv $(VENV) requirements-dev.txt
	@touch $@

# -- using it ------------------------------------------------------------------------------------

.PHONY: demo
demo: $(READY) ## show the whole pipeline against the built-in sandbox
	@$(BIN)/etl demo $(ARGS)

.PHONY: run
run: $(READY) ## watch the inbox and process files until stopped
	@$(BIN)/etl run $(ARGS)

.PHONY: once
once: $(READY) ## process the files in the inbox, wait for their jobs, then exit
	@$(BIN)/etl once $(ARGS)

.PHONY: fetch
fetch: $(READY) ## fetch files from suppliers' servers into the inbox (NAME=one of them)
	@$(BIN)/etl fetch $(if $(NAME),'$(NAME)') $(ARGS)

.PHONY: preview
preview: need-FILE $(READY) ## show what a file would send, without sending it (FILE=path [FEED=name])
	@$(BIN)/etl preview '$(FILE)' $(if $(FEED),--feed '$(FEED)') $(ARGS)

.PHONY: rerun
rerun: need-RUN-or-FILE $(READY) ## process a processed file again (RUN=id, or FILE=its name)
	@$(BIN)/etl rerun $(if $(FILE),--file '$(FILE)','$(RUN)') $(ARGS)

.PHONY: retry
retry: need-FEED $(READY) ## send only those records of a feed that Norce has not accepted (FEED=name)
	@$(BIN)/etl retry '$(FEED)' $(ARGS)

.PHONY: resend
resend: need-FEED need-KEYS $(READY) ## send named records again, accepted or not (FEED=name KEYS="A1 A2")
	@$(BIN)/etl resend '$(FEED)' $(foreach key,$(KEYS),'$(key)') $(ARGS)

.PHONY: full
full: need-FEED $(READY) ## send all records of a feed again (FEED=name)
	@$(BIN)/etl full '$(FEED)' $(ARGS)

.PHONY: approve
approve: need-RUN $(READY) ## send a held run as it was planned (RUN=id)
	@$(BIN)/etl approve '$(RUN)' $(ARGS)

.PHONY: discard
discard: need-RUN $(READY) ## archive a held run without sending it (RUN=id)
	@$(BIN)/etl discard '$(RUN)' $(ARGS)

.PHONY: undo
undo: need-RUN $(READY) ## plan a run that restores the values before a run; then approve it (RUN=id)
	@$(BIN)/etl undo '$(RUN)' $(ARGS)

.PHONY: restart
restart: need-JOB $(READY) ## restart an ended job in Norce (JOB=number)
	@$(BIN)/etl restart '$(JOB)' $(ARGS)

.PHONY: status
status: $(READY) ## show recent runs, open and held runs, and active alerts
	@$(BIN)/etl status $(ARGS)

.PHONY: show
show: need-RUN $(READY) ## show one run with its failed records (RUN=id)
	@$(BIN)/etl show '$(RUN)' $(ARGS)

.PHONY: sandbox
sandbox: $(READY) ## start the built-in sandbox for Connect
	@$(BIN)/etl sandbox $(ARGS)

# -- working on it -------------------------------------------------------------------------------

.PHONY: test
test: $(READY) ## run all tests (ARGS="-k word" for some)
	@$(BIN)/pytest -n auto $(ARGS)

.PHONY: properties
properties: export ETL_PROFILE := campaign
properties: $(READY) ## run the property tests with all of their examples; `make test` takes a few (an hour)
	@$(BIN)/pytest -q -n auto tests/unit tests/integration $(ARGS)

.PHONY: test-times
test-times: $(READY) ## show the processor seconds of each part of the tests and of the dearest 20
	@$(BIN)/pytest -q -n auto -p tests.support.processor_times $(ARGS)

.PHONY: crash
crash: $(READY) ## kill the command at every second effect, in pairs, with torn writes and failing disks (a quarter of an hour)
	@$(BIN)/python -m tests.crash.walk $(ARGS)

.PHONY: sftp
sftp: $(READY) ## all uploads and broken lines, against each SFTP server that is installed
	@SFTP_CAMPAIGN=1 $(BIN)/pytest -n auto tests/sftp $(ARGS)

.PHONY: answers
answers: export ETL_ANSWERS ?= 2000
answers: $(READY) ## give random answers to random files, and check that nothing is believed that is not so
	@$(BIN)/pytest -q -n auto tests/simulation/test_answers.py $(ARGS)

.PHONY: states
states: export ETL_STATES ?= 200
states: $(READY) ## run random histories of the pipeline and check the guarantees after each step
	@$(BIN)/pytest -q -n auto tests/simulation $(ARGS)

.PHONY: restart-loop
restart-loop: $(READY) ## kill and stop `etl run` forty times while it processes fifty files
	@$(BIN)/python -m tests.load.restart_loop $(ARGS)

.PHONY: burst
burst: $(READY) ## 30,000 files arrive while `etl run` is stopped
	@$(BIN)/python -m tests.load.burst $(ARGS)

.PHONY: soak
soak: $(READY) ## a month of simulated time and 4,000 files in one process
	@$(BIN)/python -m tests.load.soak $(ARGS)

.PHONY: undo-examples
undo-examples: $(READY) ## undo the last of many random runs, 200 for each import
	@UNDO_EXAMPLES=200 $(BIN)/pytest -q -n auto tests/unit/plan/test_undo.py $(ARGS)

.PHONY: corruption
corruption: $(READY) ## damage files of a state folder in 1,000 ways (ten minutes; ARGS="--count N --seed N")
	@$(BIN)/python -m tests.corruption.walk $(ARGS)

.PHONY: mutants
mutants: $(READY) ## change the code in one place at a time and list what the nearest tests do not notice (ARGS=plan/changes)
	@$(BIN)/python -m tests.mutation.mutants $(ARGS)

.PHONY: golden
golden: $(READY) ## write the golden plans again; the commit lists each changed input
	@$(BIN)/python -m tests.golden.golden

.PHONY: contract-coverage
contract-coverage: $(READY) ## show how much of Connect the mappings reach
	@$(BIN)/python -m tests.contract.coverage

# What others take is measured with their own packages, in an environment of its own.
BENCH := .venv-bench
BENCH_READY := $(BENCH)/.ready

$(BENCH_READY): tests/benchmarks/requirements.txt | $(READY)
	@$(BIN)/python -m venv --without-pip --clear $(BENCH)
	@$(BIN)/python -m pip --python $(BENCH)/bin/python install --quiet --require-hashes --requirement $<
	@touch $@

.PHONY: bench
bench: $(BENCH_READY) ## measure against floors and goals (ARGS="--rounds 3 --only day five")
	@$(BIN)/python -m tests.benchmarks $(ARGS)

.PHONY: bench-peers
bench-peers: $(BENCH_READY) ## the same work by hand-written scripts and other tools
	@$(BIN)/python -m tests.benchmarks.against $(ARGS)

.PHONY: bench-plots
bench-plots: $(BENCH_READY) ## draw docs/*.svg: rows against seconds and memory, changes against requests
	@$(BIN)/python -m tests.benchmarks.plots $(ARGS)

.PHONY: corpus
corpus: $(BENCH_READY) ## count how many real and polluted files are read correctly, beside other readers (ARGS=number of polluted ones)
	@PYTHONPATH="$$(echo $(CURDIR)/$(BENCH)/lib/python3*/site-packages)" $(BIN)/python -m tests.benchmarks.corpus $(ARGS)

.PHONY: pollution
pollution: $(READY) ## check detection and reading with thousands of polluted files (FILES=3000)
	@ETL_FILES=$(or $(FILES),3000) $(BIN)/pytest -q -s tests/integration/formats/test_pollution.py

.PHONY: metamorphic
metamorphic: $(READY) ## the same data written in 500 ways gives the same requests
	@ETL_EXAMPLES=500 $(BIN)/pytest -q tests/integration/formats/test_metamorphic.py

.PHONY: bench-reading
bench-reading: $(BENCH_READY) ## read a clean file of a million rows with several readers (ARGS=rows)
	@PYTHONPATH="$$(echo $(CURDIR)/$(BENCH)/lib/python3*/site-packages)" $(BIN)/python -m tests.benchmarks.reading $(ARGS)

.PHONY: bench-packing
bench-packing: $(READY) ## measure how changes share requests
	@$(BIN)/python -m tests.benchmarks.packing

.PHONY: reference
reference: $(READY) ## write the files generated from etl/contract/contract.yaml: contract.json, docs/connect.md, mappings/mapping.schema.json
	$(BIN)/python -m etl.contract.reference
	$(BIN)/etl schema > mappings/mapping.schema.json

.PHONY: check
check: $(READY) ## formatting, lint, types, import contracts
	@failed=; for tool in 'ruff format --check --quiet' 'ruff check' 'mypy' 'lint-imports --no-logo'; do \
	    echo "-- $$tool"; $(BIN)/$$tool || failed="$$failed [$${tool}]"; \
	done; test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

.PHONY: format
format: $(READY) ## format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Versions move only on purpose: `make requirements ARGS=--upgrade`. Addresses of package indexes stay out of the files.
COMPILE = $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --all-build-deps \
	--no-header --no-emit-options --no-emit-index-url --no-emit-find-links --no-emit-trusted-host

.PHONY: requirements
requirements: $(READY) ## write requirements*.txt from pyproject.toml
	$(COMPILE) $(ARGS) --output-file requirements.txt pyproject.toml
	$(COMPILE) $(ARGS) --extra dev --constraint requirements.txt --output-file requirements-dev.txt pyproject.toml
	$(filter-out --all-build-deps,$(COMPILE)) $(ARGS) --output-file tests/benchmarks/requirements.txt tests/benchmarks/requirements.in

.PHONY: demo-data
demo-data: $(READY) ## write the exports of the demo
	$(BIN)/python -m etl.demo.generate

.PHONY: clean
clean: ## remove the files of make and the tools; state in var/ stays
	rm -rf $(VENV) $(BENCH) build dist *.egg-info .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis
	find etl tests -name __pycache__ -type d -prune -exec rm -rf {} +

# -- variables that a target needs ---------------------------------------------------------------

.PHONY: need-FILE need-RUN need-RUN-or-FILE need-FEED need-KEYS need-JOB
need-FILE:
	@test -n '$(FILE)' || { echo 'usage: make preview FILE=path/to/export.csv [FEED=name]' >&2; exit 2; }
need-RUN:
	@test -n '$(RUN)' || { echo 'usage: make $(firstword $(MAKECMDGOALS)) RUN=id  (make status lists them)' >&2; exit 2; }
need-RUN-or-FILE:
	@test -n '$(RUN)$(FILE)' || { echo 'usage: make rerun RUN=id, or FILE=name  (make status lists both)' >&2; exit 2; }
need-JOB:
	@test -n '$(JOB)' || { echo 'usage: make restart JOB=number  (make show ARGS=--json lists them)' >&2; exit 2; }
need-FEED:
	@test -n '$(FEED)' || { echo 'usage: make $(firstword $(MAKECMDGOALS)) FEED=name  (make status lists them)' >&2; exit 2; }
need-KEYS:
	@test -n '$(KEYS)' || { echo 'usage: make resend FEED=name KEYS="A1 A2"' >&2; exit 2; }
