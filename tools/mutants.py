"""The mutants of a generated repo, as mutmut makes and tests them: this runs in the environment of that repo.

`python mutants.py list` prints the names of all mutants as JSON, `results` those that were tested. The current folder
is the repo's; its pyproject.toml has the settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator

from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import get_mutant_name


def names() -> list[str]:
    """Return the names of all mutants, sorted."""
    return sorted(
        get_mutant_name(path, name)
        for path in walk_mutatable_files()
        for name in mutate_file_contents(str(path), path.read_text(encoding="utf-8")).mutant_names
    )


def results() -> Iterator[dict[str, str]]:
    """Yield what was found about each tested mutant; a survivor's lines say what was changed into what."""
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            if code is None:
                continue
            status = status_by_exit_code[code]
            diff = get_diff_for_mutant(name, path=path) if status in ("survived", "no tests") else ""
            changed = [line for line in diff.splitlines() if not line.startswith(("---", "+++"))]
            yield {
                "name": name,
                "status": status,
                "before": " ".join(line[1:].strip() for line in changed if line.startswith("-")),
                "after": " ".join(line[1:].strip() for line in changed if line.startswith("+")),
            }


if __name__ == "__main__":
    json.dump(names() if sys.argv[1] == "list" else list(results()), sys.stdout)
