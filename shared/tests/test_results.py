"""Files of results and samples: damaged, not writable, stale, or holding numbers that are not finite."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from papertest import files, measure

DAMAGE: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut short": (lambda b: b[: len(b) // 2], "is cut short or not JSON"),
    "empty": (lambda b: b"", "is cut short or not JSON"),
    "binary": (lambda b: b"\xff\xfe\x00", "is cut short or not JSON"),
    "edited by hand": (lambda b: b.replace(b"42", b"43"), "was edited by hand: its checksum does not fit its content"),
    "no checksum": (lambda b: b"{}", "was edited by hand: its checksum does not fit its content"),
    "a list": (lambda b: b"[]", "was edited by hand: its checksum does not fit its content"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_a_damaged_sample_is_named_and_measured_again(toy, how: str):
    assert toy.run("--only", "answer").code == 0
    (sample,) = toy.state.glob("samples/answer/*.json")
    whole = json.loads(sample.read_text())
    damage, said = DAMAGE[how]
    sample.write_bytes(damage(sample.read_bytes()))
    toy.log()
    done = toy.run("--only", "answer")
    assert (done.code, toy.log()) == (0, ["answer 0"])
    assert done.err.splitlines().count(f"seed-0-cpu.json {said}; answer is measured again") == 1
    assert json.loads(sample.read_text())["value"] == whole["value"]


@pytest.mark.parametrize("how", ["cut short", "edited by hand", "empty"])
def test_a_damaged_result_is_named_and_written_again(toy, how: str):
    assert toy.run("--only", "answer", "--record").code == 0
    result = toy.results / "answer.json"
    whole = files.read_json(result)
    damage, said = DAMAGE[how]
    result.write_bytes(damage(result.read_bytes()))
    done = toy.run("--only", "answer", "--record")
    assert done.code == 0
    assert f"answer.json {said}; `reproduce --only answer --record` writes it again" in done.err.splitlines()
    assert files.read_json(result) == whole


def test_a_damaged_shared_run_is_made_again(toy):
    assert toy.run("--only", "noise").code == 0
    for path in toy.state.glob("runs/*.json"):
        path.write_bytes(b"")
    toy.log()
    done = toy.run("--only", "curve")
    assert (done.code, toy.log().count("base 1")) == (0, 1)
    assert done.err.count(".json is cut short or not JSON; that run is made again") == 3


def test_a_file_of_another_version_is_not_usable_and_says_so(toy):
    assert toy.run("--only", "answer", "--record").code == 0
    (sample,) = toy.state.glob("samples/answer/*.json")
    for path in (sample, toy.results / "answer.json"):
        files.write_json(path, files.read_json(path) | {"unheard-of": 1})
    toy.log()
    done = toy.run("--only", "answer")
    assert (done.code, toy.log()) == (0, ["answer 0"])
    assert "seed-0-cpu.json is not a sample of this version; answer is measured again" in done.err
    assert "answer.json is not a result of this version; `reproduce --only answer --record` writes it again" in done.err


def test_results_that_cannot_be_written_lose_nothing(toy):
    toy.edit(toy.claims, 'event("end", f"noise {run.seed}")', "block(run.seed)")
    with toy.claims.open("a") as file:  # a file where the folder should be stops root too
        file.write(f"""
def block(seed, folder=__import__("pathlib").Path({str(toy.results)!r})):
    if seed == 2:
        [path.unlink() for path in folder.iterdir()]
        folder.rmdir()
        folder.write_text("not a folder")
""")
    done = toy.run("--record")
    assert done.code == 2
    assert done.err.splitlines()[-1] == f"reproduce: cannot write {toy.results / 'answer.json'}: Not a directory"
    assert "Traceback" not in done.err and len(toy.log()) == 13
    done = toy.run("--record")
    assert done.err.splitlines() == [f"reproduce: cannot write {toy.results / 'answer.json'}: Not a directory"]
    toy.results.unlink()
    assert (toy.run("--record").code, toy.log()) == (0, ["similar 0", "similar 1", "similar 2", "fast 0"])
    assert len(list(toy.results.glob("*.json"))) == 9


def as_a_reader() -> tuple[str, ...]:
    """A command that runs another without root's right to write everywhere."""
    if os.geteuid() != 0:
        return ()
    if (setpriv := shutil.which("setpriv")) is None:
        pytest.skip("root writes into read-only folders too, and there is no setpriv to give up that right")
    return (setpriv, "--bounding-set", "-dac_override,-dac_read_search")


def test_a_read_only_results_folder_loses_nothing(toy):
    under = as_a_reader()
    toy.results.chmod(0o555)
    done = toy.finish(toy.start("--record", under=under))
    assert done.code == 2
    assert done.err.splitlines()[-1] == f"reproduce: cannot write {toy.results / 'answer.json'}: Permission denied"
    toy.log()
    toy.results.chmod(0o755)
    assert (toy.run("--tier", "exact", "--record").code, toy.log()) == (0, ["pair 0", "ours 0"])


def test_what_is_complete_is_only_read(toy_with_figure):
    toy, under = toy_with_figure, as_a_reader()
    first = toy.run("--full")
    toy.log()
    folders = [toy.root / ".papertest", *(p for p in (toy.root / ".papertest").rglob("*") if p.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    done = toy.finish(toy.start("--full", under=under))
    shown = toy.finish(toy.start("--show", "noise", under=under))
    for folder in folders:
        folder.chmod(0o755)
    assert (done.code, done.err, done.out, toy.log()) == (0, "", first.out, [])
    assert (shown.code, shown.err) == (0, "") and "here  ✓ reproduced" in shown.out


def test_a_state_folder_that_cannot_be_written_ends_in_one_line(toy):
    (toy.root / ".papertest").write_text("not a folder")
    done = toy.run("--only", "answer")
    assert (done.code, toy.log()) == (2, [])
    path = toy.state / "samples" / "answer" / "seed-0-cpu.json"
    assert done.err.splitlines() == [f"reproduce: cannot write {path}: Not a directory"]


def test_a_full_disk_names_the_file_and_keeps_what_was_measured(toy):
    toy.edit(toy.claims, 'event("end", f"pair {run.seed}")',
             "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200, -1))")  # fmt: skip
    done = toy.run("--tier", "exact")
    assert done.code == 2
    path = toy.state / "samples" / "pair" / "seed-0-cpu.json"
    assert done.err.splitlines()[-1] == f"reproduce: cannot write {path}: File too large"
    assert toy.debris() == []
    assert list(toy.kept()) == ["answer 0"]


def test_a_result_that_is_there_already_is_not_written_again(toy):
    """Also one with bounds, intervals, and numbers that are not finite."""
    toy.edit(toy.claims, "run.shared(base, 3.0) + 39", 'float("nan") if run.seed == 1 else 1')
    assert toy.run("--record").code == 0
    written = {path: (path.stat().st_ino, path.read_bytes()) for path in toy.results.iterdir()}
    assert len(written) == 9
    assert toy.run("--record").code == 0
    assert {path: (path.stat().st_ino, path.read_bytes()) for path in toy.results.iterdir()} == written


STALE = {
    "the claim's own code": ("claims", "double(21)", "double(20) + 2"),
    "a helper it calls": ("helpers", "return inner(x) * 2", "return 2 * inner(x)"),
    "what that helper calls": ("helpers", "    return x\n", "    return x + 0\n"),
    "the reported value": ("record", "value = 42", "value = 41"),
    "the criterion": ("record", "accept = { equals = true }", "accept = { within = 0 }"),
}
UNTOUCHED = {
    "an unrelated function": ("helpers", "return 1", "return 2"),
    "another claim": ("claims", '"b": 2.05', '"b": 2.06'),
    "a comment": ("helpers", "    return inner(x) * 2", "    # twice\n    return inner(x) * 2"),
    "a docstring": ("helpers", "Twice x.", "Two times x."),
    "the layout": ("helpers", "inner(x) * 2", "(inner(x)\n            * 2)"),
    "an annotation": ("helpers", "def double(x):", "def double(x: int) -> int:"),
    "the record's prose": ("record", "The answer is 42.", "It is 42."),
    "another claim's criterion": ("record", "at_most = 50", "at_most = 51"),
}


def place(toy, name: str) -> Path:
    return {"claims": toy.claims, "helpers": toy.code / "helpers.py", "record": toy.record}[name]


def test_changed_code_or_record_is_measured_again(toy):
    assert toy.run("--only", "answer").code == 0
    for what, (name, old, new) in STALE.items():
        toy.edit(place(toy, name), old, new)
        toy.log()
        toy.run("--only", "answer")
        assert toy.log() == ["answer 0"], what


def test_what_a_claim_does_not_run_through_leaves_it(toy):
    assert toy.run("--only", "answer").code == 0
    toy.log()
    for name, old, new in UNTOUCHED.values():
        toy.edit(place(toy, name), old, new)
    assert (toy.run("--only", "answer").code, toy.log()) == (0, [])


def test_a_changed_shared_run_is_made_again_once_for_all_its_claims(toy):
    assert toy.run("--full").code == 0
    toy.edit(toy.claims, "return height ", "return height + 1 ")
    toy.log()
    assert toy.run("--full").code == 0
    assert toy.log() == [f"{name} {s}" for s in range(3) for name in ("curve", "base")] + [
        f"noise {s}" for s in range(3)
    ]


def test_numbers_that_are_not_finite_are_kept_and_never_reproduced(toy):
    toy.edit(toy.claims, "run.shared(base, 3.0) + 39", 'float("nan") if run.seed == 1 else 1')
    toy.edit(toy.claims, "double(21)", 'float("inf")')
    first = toy.run("--record", "--json")
    again = toy.run("--full", "--json")
    assert (first.code, again.code) == (0, 0)
    assert "noise.json" not in again.err
    content = {entry["id"]: entry for entry in json.loads(again.out)}
    assert (content["noise"]["verdict"], content["answer"]["verdict"]) == ("undecided", "not reproduced")
    assert content["noise"]["why"] == "is not a finite number; no number of seeds would decide"
    assert content["noise"]["recorded_verdict"] == "undecided"
    assert content["noise"]["measured"] is None and content["noise"]["interval"] == {"": [[None, None]]}
    assert content["answer"]["why"] == "is not a finite number"
    known = files.read_json(toy.results / "noise.json")
    assert (known["interval"], known["value"]) == ({"": [[None, None]]}, None)
    assert known["bounds"] == {"": [[None, 50]]}
    assert "not a number" in (toy.home / "README.md").read_text()
    assert "≠not a number" not in toy.run().out  # the first seed is a number, and no prediction holds it
    assert toy.run("--show", "noise").code == 0


def test_the_first_run_sees_what_a_later_one_reads(toy):
    toy.edit(toy.claims, '[top, 2.0, 1.0], {"seed": run.seed}', '(top, 2.0, 1.0), {7: (run.seed, float("nan"))}')
    toy.edit(toy.claims, "double(21)", 'float("inf")')
    first, again = (toy.run("--full", "--json") for _ in range(2))
    assert (first.code, again.code, first.out) == (0, 0, again.out)
    assert json.loads(first.out)[4]["measured"] == [3, 2, 1]


def test_recording_writes_the_tables_in_both_languages(recorded_toy):
    english, chinese = ((recorded_toy.home / name).read_text() for name in ("README.md", "README.zh-CN.md"))
    assert "| The answer is 42 | Table 1 | 42 | 42 | ✓ reproduced |" in english
    assert "| 答案是 42 | 表 1 | 42 | 42 | ✓ 已复现 |" in chinese
    assert "– not run (0.5 GPU-hours)" in english
    row = (
        "| [`toy`](packages/toy/README.md): [A Toy](https://arxiv.org/abs/2001.00001) (2020) | 6 | 0 | 0 | 1 | 1 of 1 "
    )
    assert row in (recorded_toy.root / "README.md").read_text()


def test_a_result_says_what_it_was_judged_on(recorded_toy):
    curve, fast = (files.read_json(recorded_toy.results / f"{claim}.json") for claim in ("curve", "fast"))
    assert [sample["seed"] for sample in curve["samples"]] == [0, 1, 2]
    for sample in [*curve["samples"], *fast["samples"]]:
        assert sample["machine"] == measure.machine("cpu") and sample["versions"] == measure.versions()
    assert [list(sample["shared"].values()) != [] for sample in curve["samples"]] == [True] * 3
    (sample,) = fast["samples"]
    assert (len(sample["rounds"]), sample["null"], sample["value"]) == (15, [1.0, 1.01, 0.99], None)
    assert fast["bounds"] == {"speed": [[1.2, None]], "memory": [[None, 2.5]]}
    assert fast["null"] == pytest.approx(1, abs=1e-3) and fast["deciding"] == "speed"
    assert (curve["paper"], curve["bounds"], fast["paper"]) == ([3, 2, 1], {}, {"speed": 1.5})


def test_a_figure_is_drawn_once_and_again_when_its_results_change(toy_with_figure):
    toy = toy_with_figure
    assert toy.run("--only", "curve", "--record").code == 0
    figure = toy.home / "figures" / "curve.png"
    drawn = figure.read_bytes()
    inode = figure.stat().st_ino
    assert toy.run("--only", "curve", "--record").code == 0
    assert figure.stat().st_ino == inode
    figure.write_bytes(b"of something else")
    assert toy.run("--only", "curve", "--record").code == 0
    assert figure.read_bytes() == drawn
    toy.edit(toy.claims, "2.0, 1.0]", "2.5, 1.0]")
    assert toy.run("--only", "curve", "--record").code == 0
    assert figure.read_bytes()[:4] == b"\x89PNG" and figure.read_bytes() != drawn
