import functools
import itertools
import os
import signal

import pytest

from fairseq_cgc.inference.text.lines import MAX_WORKERS, check_workers, map_lines
from fairseq_cgc.support.errors import UserError


def make_marker(mark):
    return lambda line: f"{line}{mark}"


def make_failing():
    def fail(line):
        if line == "700":
            raise UserError("line 700")
        return line

    return fail


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("count", [0, 1, 499, 500, 4321])
def test_order_is_kept(workers, count):
    lines = [str(number) for number in range(count)]
    result = list(map_lines(functools.partial(make_marker, "!"), iter(lines), workers))
    assert result == [f"{line}!" for line in lines]


def test_one_worker_answers_line_by_line():
    read = []
    lines = (read.append(number) or str(number) for number in range(10))
    results = map_lines(functools.partial(make_marker, "!"), lines, 1)
    assert next(results) == "0!"
    assert read == [0]


def test_endless_input_is_read_only_a_little_ahead():
    results = map_lines(functools.partial(make_marker, "!"), map(str, itertools.count()), 2)
    assert list(itertools.islice(results, 3)) == ["0!", "1!", "2!"]
    results.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_process_arrives(workers):
    with pytest.raises(UserError, match="line 700"):
        list(map_lines(make_failing, map(str, range(2000)), workers))


def make_unmakeable():
    raise UserError("no model")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_the_factory_arrives(workers):
    with pytest.raises(UserError, match="no model"):
        list(map_lines(make_unmakeable, ["a"], workers))


def make_killed():
    return lambda line: os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_process_is_an_error_not_a_hang():
    with pytest.raises(UserError, match="one of 2 worker processes was killed"):
        list(map_lines(make_killed, ["a"], 2))


def test_number_of_processes():
    check_workers(1)
    check_workers(MAX_WORKERS)
    for workers in (0, -1, MAX_WORKERS + 1, 10**9):
        with pytest.raises(UserError, match=f"--workers is {workers}, but must be from 1 to"):
            check_workers(workers)
