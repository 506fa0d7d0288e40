"""Finish the repo that Cookiecutter has just written.

The code lies in the repo, so that users who run no hooks can read it there and run it: `_variants/finish.py`.
"""

import runpy

runpy.run_path("_variants/finish.py", run_name="__main__")
