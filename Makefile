# Every verb is one call of Python, so `python scripts/tasks.py VERB` does the same without make.
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo setup check fmt test test-all bench lock clean

help demo setup check fmt test test-all bench lock clean:
	@$(PYTHON) scripts/tasks.py $@ $(ARGS)
