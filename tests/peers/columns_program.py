"""A program of a caller who asks a generated repo's server with its client: all rows of a file, a column an input.

columns_program.py TARGET ROWS
"""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path

import numpy as np
from serving_client import Client


def main(target: str, path: str) -> None:
    """Ask the server and print what it answers."""
    with Path(path).open(encoding="utf-8", newline="") as file:
        titles, *rows = csv.reader(file)
    columns = zip(titles, np.array(rows, np.float32).T, strict=True)
    with Client(target) as client:
        inputs = {re.sub(r"\W+", "_", title): column for title, column in columns}
        prediction = client.predict(inputs, timeout=30)
    print(json.dumps({name: values.tolist() for name, values in prediction.outputs.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])
