"""The table on the terminal: one line per claim at every width from 80 columns, and nothing dropped inside."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from rich.cells import cell_len

from papertest import files, records
from papertest.screen import Output, Terminal

WIDTHS = (80, 100, 120, 200)
FULL = """\
A Toy (2020, arXiv 2001.00001)
   claim                              ours   paper  where
Exact: computed on our implementation
 ✓ The answer is 42                     42      42  Tab. 1
 ✓ The pair                        1.52 ms  1.5 ms  Tab. 2
Trend: trained at small scale, several seeds, 95 % interval
 ✓ The curve falls                      3…      3…  Fig. 1
 ✓ The noise is small                   42       –  Tab. 1
 ✓ Two runs are alike                0.931       –  Tab. 1
Speed: ratios in one run, 95 % interval
 ✓ Half as fast again as the peer    1.54×    1.5×  Tab. 4
The paper's own scale: needs its hardware or data
 – The same at scale                     –       –  Tab. 1
Our own benchmarks, outside the paper's score
 ✓ Three gigabytes are enough         3 GB       –  Tab. 1
Printed sums: the paper's numbers among themselves
 ✓ The parts are the answer             42      42  §5.1
6 reproduced, 1 not run; printed sums 1 of 1; ours 1 of 1
figures: .papertest/toy/figures   more: --show ID, --full, --help
"""
SPOT = """\
A Toy (2020, arXiv 2001.00001)
   claim                              ours   paper  where
Exact: computed on our implementation
 ✗ The answer is 42                     40      42  Tab. 1
 ✓ The pair                        1.52 ms  1.5 ms  Tab. 2
Trend: trained at small scale, several seeds, 95 % interval
 ? The curve falls                     ≈3…      3…  Fig. 1
 ✗ The noise is small                 (60)       –  costs 5 min
 ✓ Two runs are alike                ≠0.01       –  Tab. 1
Speed: ratios in one run, 95 % interval
 ✓ Half as fast again as the peer    1.54×    1.5×  Tab. 4
The paper's own scale: needs its hardware or data
 – The same at scale                     –       –  Tab. 1
Our own benchmarks, outside the paper's score
 ✗ Three gigabytes are enough       4.5 GB       –  Tab. 1
Printed sums: the paper's numbers among themselves
 ✗ The parts are the answer             43      42  §5.1
3 reproduced, 2 not, 1 undecided, 1 not run; printed sums 0 of 1; ours 0 of 1
≈ 1 of 2 claims measured with one seed lie where the recorded seeds predict; ≠ outside: see --show ID
( ) recorded, not measured here: 1 more would take about 5 min (--minutes, --full)
answer: recorded as reproduced, here not reproduced: 40 is not equal to the paper's 42
ours: recorded as reproduced, here not reproduced: 4.5 is not ≤ 4
sum: recorded as reproduced, here not reproduced: 43 is not equal to the paper's 42
figures: .papertest/toy/figures   more: --show ID, --full, --help
"""


def rows(out: str) -> list[str]:
    return [line for line in out.splitlines() if re.match(r" [✓✗?–] ", line)]


def test_the_whole_table_at_80_columns(toy) -> None:
    assert toy.run("--full", COLUMNS="80").out == FULL


@pytest.fixture
def mixed(toy, recorded_toy):
    """Recorded, and measured here with other results: every mark, and every sign before a number."""
    shutil.copytree(recorded_toy.results, toy.results, dirs_exist_ok=True)
    path = toy.results / "noise.json"
    content = files.read_json(path)
    samples = [sample | {"seconds": 300} for sample in content["samples"]]
    files.write_json(path, content | {"samples": samples, "verdict": "not reproduced", "value": 60})
    path = toy.results / "curve.json"
    files.write_json(path, files.read_json(path) | {"verdict": "undecided", "seeds": 12})
    toy.edit(toy.claims, "double(21)", "double(20)")
    toy.edit(toy.claims, "[0.9, 0.92, 0.96]", "[0.01, 0.92, 0.96]")
    toy.edit(toy.claims, "return 3.0", "return 4.5")
    toy.edit(toy.claims, 'sum(run.reported["parts"].value.values())', "43")
    toy.edit(toy.claims, "+ 39", "+ 40")
    return toy


def test_every_mark_and_every_sign_at_80_columns(mixed) -> None:
    done = mixed.run("--minutes", "4", COLUMNS="80")
    assert done.code == 1
    assert done.out == SPOT


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("args", [["--full"], ["--minutes", "4"], ["--minutes", "0"], ["--quick"], ["--list"]])
def test_each_claim_is_one_line_at_every_width(mixed, width: int, args: list[str]) -> None:
    out = mixed.run(*args, COLUMNS=str(width)).out
    lines = [line for line in out.splitlines() if line.startswith("  ")] if args == ["--list"] else rows(out)
    titles = [claim.title for claim in records.load(mixed.record).claims.values()]
    assert len([line for line in lines if any(title in line for title in titles)]) == 9
    assert max(map(cell_len, lines)) <= width
    assert not re.search(r"[{}']: |\{|\}", out)  # no dictionaries
    assert not re.search("[一-鿿]", out)
    assert [title for title in titles if title not in out] == []  # none is cut


LONG = "x" * 60


@pytest.mark.parametrize("width", WIDTHS)
def test_long_titles_and_numbers_keep_to_the_width(mixed, width: int) -> None:
    """The place gives way, and then the end of the title; numbers never."""
    mixed.edit(mixed.record, 'title = "The pair"', f'title = "{LONG}"')
    mixed.edit(mixed.record, 'tier = "exact"\nunit = "GB"', 'tier = "exact"\nunit = "percentage points"')
    mixed.edit(mixed.claims, "return 4.5", "return -0.000123456789")
    mixed.edit(mixed.record, 'where = "Table 2"', 'where = "Section 5.1 and the third paragraph after the second list"')
    out = mixed.run("--full", COLUMNS=str(width)).out
    assert max(map(cell_len, rows(out))) <= width
    (pair,) = [line for line in rows(out) if "xxx" in line]
    assert "1.52 ms" in pair and "1.5 ms" in pair
    assert LONG in pair or re.match(r" ✓ x{20,}…  ", pair)
    assert ("-0.000123 pp" if width == 80 else "-0.0001235 pp") in out
    assert (LONG in pair) == (width >= 100)
    assert ("the third paragraph after the second list" in pair) == (width == 200)


def test_wide_terminals_show_intervals_and_more_digits(toy) -> None:
    toy.run("--full")
    shown = {width: toy.run("--full", COLUMNS=str(width)).out for width in WIDTHS}
    assert ["0.931 " in shown[80], "0.9312 " in shown[100]] == [True, True]
    assert ["0.9312 [0.7921, 0.9796]" in shown[width] for width in WIDTHS] == [False, False, True, True]


def test_every_title_of_ours_fits_into_a_line(our_records) -> None:
    """46 characters leave room for ours, the paper's and the place in 80 columns; 60 are allowed."""
    long = {
        f"{name}: {claim.title}"
        for name, record in our_records.items()
        for claim in record.claims.values()
        if len(claim.title) > 60
    }
    assert long == set()


def test_totals_keep_the_papers_score_its_sums_and_our_own_apart(mixed) -> None:
    said = mixed.run("--tier", "exact").out
    assert "1 reproduced, 1 not; ours 0 of 1\n" in said
    assert "printed sums 0 of 1\n" in mixed.run("--tier", "printed").out
    assert "1 not run\n" in mixed.run("--tier", "paper").out


def test_quick_says_that_it_is_no_verdict(toy) -> None:
    out = toy.run("--quick").out
    assert out.splitlines()[0] == "A Toy (2020, arXiv 2001.00001) · quick: fewer steps, one seed, not a verdict"
    assert "figures:" not in out
    assert " ? The noise is small" in out and " ? Half as fast again" in out  # of one seed, and of three rounds


def test_the_list_by_tier(toy) -> None:
    assert (
        toy.run("--list", COLUMNS="80").out
        == """\
A Toy (2020, arXiv 2001.00001)
Exact: computed on our implementation
  answer   The answer is 42
  pair     The pair
Trend: trained at small scale, several seeds, 95 % interval
  curve    The curve falls
  noise    The noise is small
  similar  Two runs are alike
Speed: ratios in one run, 95 % interval
  fast     Half as fast again as the peer
The paper's own scale: needs its hardware or data
  large    The same at scale
Our own benchmarks, outside the paper's score
  ours     Three gigabytes are enough
Printed sums: the paper's numbers among themselves
  sum      The parts are the answer
"""
    )


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("claim", ["answer", "pair", "ours", "sum", "curve", "noise", "similar", "fast", "large"])
def test_all_about_one_claim_keeps_to_the_width(mixed, claim: str, width: int) -> None:
    out = mixed.run("--show", claim, COLUMNS=str(width)).out
    assert max(map(cell_len, out.splitlines())) <= width
    assert not re.search("[一-鿿{}]", out)


def test_messages_go_to_the_other_stream(toy) -> None:
    """What is read by another program holds nothing but JSON."""
    toy.run("--only", "answer")
    (sample,) = toy.state.glob("samples/answer/*.json")
    sample.write_bytes(b"")
    done = toy.run("--json")
    assert json.loads(done.out) and "answer is measured again" in done.err
    assert "\x1b" not in done.out + done.err


def test_progress_shows_the_work_and_what_a_claim_does(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    with terminal.progress(10):
        assert list(terminal.track(range(3), 3, "rounds")) == [0, 1, 2]
        terminal.done(4)
        (whole,) = [task for task in terminal.bars.tasks if task.id == terminal.all]
    assert (whole.total, whole.completed) == (10, 4)
    assert capsys.readouterr().out == ""


def test_a_pipe_that_is_closed_is_told() -> None:
    with pytest.raises(BrokenPipeError):
        Output().on_broken_pipe()
