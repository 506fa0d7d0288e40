# Each command is one call of Python: without make, run `python tools/tasks.py COMMAND`.
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo setup check fmt test test-all bench transports peers dashboard lock mutation recording clean

help demo setup check fmt test test-all bench transports peers dashboard lock mutation recording clean:
	@$(PYTHON) tools/tasks.py $@ $(ARGS)
