"""The neutral form of uv.lock: every version and hash, no index's address.

Readers resolve from their own index or mirror, so the committed lock names none: the registry's URL becomes the
word `index`, the URLs of wheels and source distributions keep only their file names, and `[manifest]` goes, so that
uv sees the lock as out of step with the workspace, resolves again from whatever index it has with every version of
the lock preferred, and writes the full form back.

    python ci/lock.py            make uv.lock neutral (after `uv lock`)
    python ci/lock.py --filter   stdin to stdout: git's clean filter (`git config --local include.path ../.gitconfig`)
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "uv.lock"


def neutral(text: str) -> str:
    """`text`, a uv.lock in either form, without any index's address. Applying it twice changes nothing."""
    text = re.sub(r'registry = "[^"]*"', 'registry = "index"', text)
    text = re.sub(r'\burl = "[^"]*/([^"/]+)"', r'url = "\1"', text)
    return re.sub(r"^\[manifest[^\]]*\]\n.*?(?=^\[)", "", text, flags=re.MULTILINE | re.DOTALL)


if __name__ == "__main__":
    if sys.argv[1:] == ["--filter"]:
        sys.stdout.write(neutral(sys.stdin.read()))
    elif not sys.argv[1:]:
        LOCK.write_text(neutral(LOCK.read_text("utf-8")), "utf-8")
    else:
        sys.exit("ci/lock.py takes no argument, or --filter; see its docstring")
