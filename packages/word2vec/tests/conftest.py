"""For all tests of this package."""

from __future__ import annotations

import sys
from pathlib import Path

from papertest.fixtures import on_one_thread as on_one_thread

sys.path.insert(0, str(Path(__file__).parent))  # word2vec_cases, which several files share
