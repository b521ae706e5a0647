"""Files that are whole or not there: atomic JSON with a checksum of its own."""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any, cast


class Damaged(ValueError):
    """A file that is cut short, edited by hand, or not ours; the message says which and what happens next."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` so that a reader sees the old file or the new one, never a part, whatever is killed when."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            error.filename, error.filename2 = str(path), None  # what the reader knows, and a full disk names nothing
        raise


def sweep(*folders: Path) -> None:
    """Delete the temporary files that a killed process left in these folders; for who alone writes into them now."""
    for folder in folders:
        for left in folder.glob(".*.????????.part"):
            left.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` with a `checksum`; numbers that JSON has no word for (NaN, infinity) become null."""
    body = finite(content)
    write_bytes(path, (json.dumps(body | {"checksum": checksum(body)}, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> dict[str, Any]:
    """Read what `write_json` wrote, without its checksum. FileNotFoundError, or Damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError:
        raise Damaged(f"{path.name} is cut short or not JSON") from None
    if not isinstance(content, dict) or content.pop("checksum", None) != checksum(content):
        raise Damaged(f"{path.name} was edited by hand: its checksum does not fit its content")
    return cast("dict[str, Any]", content)


def checksum(content: Any) -> str:
    """16 hexadecimal digits of the SHA-256 of the content's canonical JSON."""
    canonical = json.dumps(finite(content), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def finite(content: Any) -> Any:
    """`content` as strict JSON: tuples as lists, NaN and infinity as None."""
    if isinstance(content, dict):
        return {str(key): finite(value) for key, value in cast("dict[Any, Any]", content).items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in cast("list[Any]", content)]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
