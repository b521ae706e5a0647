"""`reproduce`: measure the claims of the two records of word2vec on this machine."""

from __future__ import annotations

import sys


def main() -> None:
    """The console command; without the extra `reproduce`, one line that says what to install, and exit code 2."""
    try:
        from papertest.reproduce import run
    except ModuleNotFoundError as missing:
        print(
            f"reproduce: {missing.name} is not installed; from a checkout: "
            'uv pip install "./packages/word2vec[reproduce]" '
            '(with pip: pip install ./shared "./packages/word2vec[reproduce]")',
            file=sys.stderr,
        )
        sys.exit(2)
    run("word2vec")
