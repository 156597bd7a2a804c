import multiprocessing

import pytest

from fairseq_cgc.support.errors import UserError
from fairseq_cgc.support.settings_record import is_done, make_step, only_process_in, read_counts


def fill(folder):
    (folder / "file").write_text("content")
    return {"lines": 3}


def test_a_finished_step_is_recognised(tmp_path):
    folder = tmp_path / "step"
    assert not is_done(folder, {"size": 1})
    make_step(folder, {"size": 1}, fill)
    assert is_done(folder, {"size": 1})
    assert read_counts(folder) == {"lines": 3}
    assert (folder / "file").read_text() == "content"


@pytest.mark.parametrize("settings", [{"size": 2}, {"size": 1, "new": True}, {}])
def test_other_settings_are_refused_by_name(tmp_path, settings):
    make_step(tmp_path / "step", {"size": 1}, fill)
    name = "new = None, now it is True" if "new" in settings else "size = 1, now it is"
    with pytest.raises(UserError, match=f"step was made with {name}"):
        is_done(tmp_path / "step", settings)


@pytest.mark.parametrize("stamp", [None, "", "{", "[]", '{"settings": 3, "counts": {}}'])
def test_a_folder_of_somebody_else_is_refused(tmp_path, stamp):
    folder = tmp_path / "step"
    folder.mkdir()
    if stamp is not None:
        (folder / "stamp.json").write_text(stamp)
    with pytest.raises(UserError, match="no preparation made it; it is not overwritten"):
        is_done(folder, {})


def test_a_failing_step_leaves_nothing(tmp_path):
    def fail(folder):
        fill(folder)
        raise UserError("halfway")

    with pytest.raises(UserError, match="halfway"):
        make_step(tmp_path / "step", {}, fail)
    assert list(tmp_path.iterdir()) == []


def test_output_that_is_no_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UserError, match="not a folder to write in"),
        only_process_in(tmp_path / "file"),
    ):
        pass


def test_a_folder_made_for_nothing_is_removed(tmp_path):
    out = tmp_path / "new" / "out"
    with pytest.raises(UserError, match="at once"), only_process_in(out):
        raise UserError("at once")
    assert not out.exists()
    with only_process_in(out):
        fill(out)
    assert (out / "file").is_file()
    (out / "file").unlink()
    with pytest.raises(UserError), only_process_in(out):  # it was there before
        raise UserError("at once")
    assert out.is_dir()


def _enter(out, entered):
    with only_process_in(out):
        entered.set()


def test_a_second_process_waits(tmp_path):
    entered = multiprocessing.Event()
    process = multiprocessing.Process(target=_enter, args=(tmp_path, entered))
    with only_process_in(tmp_path):
        process.start()
        assert not entered.wait(0.5)
    assert entered.wait(30)
    process.join()
