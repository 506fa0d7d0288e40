# Every command is one call of Python, so `python tools/tasks.py COMMAND` does the same without make.
PYTHON ?= python3
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo setup check fmt test test-all bench lock recording clean

help demo setup check fmt test test-all bench lock recording clean:
	@$(PYTHON) tools/tasks.py $@ $(ARGS)
