"""A few hundred hostile cases, the same each time; fuzz.py tries as many as one likes."""

from __future__ import annotations

import tarfile
import traceback

import coverage_guided
import hostile_inputs as hostile
import pytest
from hostile_files import ARCHIVES, CAMPAIGN
from hostile_targets import TARGETS
from hypothesis import HealthCheck, given, settings
from iwslt_archive import campaign_files
from surroundings import Hangs, Lost, Surroundings, command_line, ends_clearly, nothing_half, within

from fairseq_cgc.__main__ import main
from fairseq_cgc.support.errors import UserError

pytestmark = pytest.mark.reliability

#: Cases of each target here.
EXAMPLES = {
    "tokens": 120,
    "subwords": 60,
    "files": 60,
    "archives": 80,
    "preparation": 15,
    "campaign": 5,
    "options of commands": 60,
    "options of the model": 25,
    "translation": 15,
    "resumption": 60,
    "data folder": 20,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Surroundings:
    return Surroundings(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", TARGETS)
def test_every_case_ends_in_a_result_or_in_one_clear_error(name: str, place: Surroundings) -> None:
    target = TARGETS[name]
    results = []

    @settings(
        derandomize=True,
        max_examples=EXAMPLES[name],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(target.cases)
    def attempt(case: object) -> None:
        results.append(target.attempt(place, case))

    try:
        attempt()
    except Exception:  # file names need not be UTF-8, but what pytest's processes report must be
        told = traceback.format_exc().encode(errors="backslashreplace").decode()
        pytest.fail(told, pytrace=False)
    # Else the cases would end early, at a check that has nothing to do with them.
    assert sum(results) >= len(results) / 20


# What the fuzzer itself must notice -------------------------------------------------------------


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "lost"),
    [
        (ValueError("x"), ValueError),
        (RecursionError("x"), RecursionError),
        (SystemExit(7), Lost),
        (SystemExit("half a sentence"), Lost),
    ],
    ids=str,
)
def test_what_is_no_clear_error_is_lost(error: BaseException, lost: type[BaseException]) -> None:
    with pytest.raises(lost):
        ends_clearly(lambda: _raise(error))


def test_clear_errors_and_results_survive() -> None:
    assert ends_clearly(lambda: None)
    assert not ends_clearly(lambda: _raise(UserError("--beam is 0")))
    assert not ends_clearly(lambda: _raise(UserError("a name with\nits own lines \x1b[2J")))
    assert not ends_clearly(lambda: _raise(OSError(28, "No space left on device", "out")))
    with command_line(["translate", "--beam"]):
        assert not ends_clearly(main)


def test_a_case_that_hangs_is_lost() -> None:
    with pytest.raises(Hangs), within(0.2):
        while True:
            pass


def test_what_is_left_half_written_is_lost(place: Surroundings) -> None:
    folder = place.fresh()
    (folder / "whole").write_text("")
    nothing_half(folder)
    (folder / ".whole.7.partial").write_text("")
    with pytest.raises(Lost, match="left half-written"):
        nothing_half(folder)


def test_coverage_guides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three bytes, one after the other, that chance alone would not find together."""
    monkeypatch.setattr(coverage_guided, "PACKAGE", __file__)
    tried = found = 0

    def run(content: bytes) -> bytes:
        nonlocal tried, found
        tried += 1
        found = max(found, _depth(content))
        return content[:4]  # what was used of it

    kept = coverage_guided.explore(run, 1, lambda: tried >= 50_000 or found == 3)
    assert found == 3
    assert [_depth(content) for content in kept][-1] == 3


def _depth(content: bytes) -> int:
    depth = 0
    if content[:1] == b"C":
        depth = 1
        if content[1:2] == b"G":
            depth = 2
            if content[2:3] == b"C":
                depth = 3
    return depth


# Cases by name ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../up", "/up", "a/../../up"])
def test_a_campaign_with_a_path_outside_makes_nothing(place: Surroundings, name: str) -> None:
    members = []
    for member, content in [*campaign_files().items(), (name, b"text\n")]:
        info = tarfile.TarInfo(f"de-en/{member}" if member != name else name)
        info.size = len(content)
        members.append((info, content))
    content = hostile.tar(members, tarfile.PAX_FORMAT)
    assert not CAMPAIGN.attempt(place, (content, True))
    assert [path.name for path in (place.folder / "case").iterdir()] == ["de-en.tar"]
    assert not ARCHIVES.attempt(place, content)


@pytest.mark.parametrize("name", ["translation", "tokens", "subwords"])
@pytest.mark.parametrize("letter", ["a", ".", "…", "\u200b", "א", "\0", "a ", "'", "中", "&"])
def test_lines_of_100_000_characters(place: Surroundings, name: str, letter: str) -> None:
    line = (letter * 100_000)[:100_000]
    cases = {
        "translation": ([line, "Der Hund."], 1, None, 2),
        "tokens": (line, "de", True, True, False),
        "subwords": (line, "subword_nmt"),
    }
    assert TARGETS[name].attempt(place, cases[name])
