"""The checks of `ci/check`: one module each, with `check(root)` that returns its problems, one line each."""
