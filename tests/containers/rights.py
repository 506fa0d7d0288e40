"""What a user of the feature store's Redis may do; runs in a container that has the user's password.

Usage: python rights.py USER KEY OTHER < commands.json, a list of lists of words, in which KEY and OTHER stand for a key
of this service and for one that is not. Prints, as JSON, what Redis says to each: `done`, `denied`, or its error.
"""

import json
import sys
from pathlib import Path

import redis


def main(user: str, key: str, other: str) -> None:
    """Try every command on its own connection, so that none is left half in a transaction."""
    password = Path(f"/run/secrets/feature_store_{user}").read_text(encoding="utf-8").strip()
    answers = []
    for words in json.load(sys.stdin):
        with redis.Redis("feature-store", username=user, password=password, socket_timeout=5) as client:
            try:
                client.execute_command(*({"KEY": key, "OTHER": other}.get(word, word) for word in words))
            except redis.exceptions.NoPermissionError:
                answers.append("denied")
            except redis.RedisError as error:
                answers.append(str(error))
            else:
                answers.append("done")
    print(json.dumps(answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
