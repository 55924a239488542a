"""Pieces that are read ahead: in their order, one at a time, by threads that are used again."""

import os
import threading
import time
from contextlib import closing

import dask.array
import numpy as np
import pytest

from finegrid.data.working import ahead, alone, aside


def test_pieces_come_in_order_and_the_next_is_read_meanwhile():
    begun = [threading.Event() for _ in range(5)]

    def read(piece: int) -> int:
        begun[piece].set()
        return 10 * piece

    found = []
    for value in ahead(read, range(5)):
        found.append(value)
        if value < 40:
            assert begun[value // 10 + 1].wait(5)
    assert found == [0, 10, 20, 30, 40]
    assert list(ahead(read, [])) == []
    assert list(alone(read, str, range(3))) == ["0", "10", "20"]


def test_one_piece_is_read_at_a_time_and_two_are_held_at_most():
    now, most, lock = [0], [0], threading.Lock()

    def read(piece: int) -> int:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1
        return piece

    taken = []
    for piece in ahead(read, iter(taken.append(each) or each for each in range(10))):
        assert len(taken) <= piece + 2
    assert most == [1]


def test_what_reading_raises_is_raised_at_its_piece():
    def read(piece: int) -> int:
        if piece == 2:
            raise ValueError("damaged")
        return piece

    found = []
    with pytest.raises(ValueError, match="damaged"):
        for piece in ahead(read, range(5)):
            found.append(piece)
    assert found == [0, 1]


def test_whoever_stops_waits_for_what_is_being_read():
    begun, done = threading.Event(), threading.Event()

    def read(piece: int) -> int:
        if piece:
            begun.set()
            time.sleep(0.1)
            done.set()
        return piece

    with closing(ahead(read, range(3))) as pieces:
        assert next(pieces) == 0
        assert begun.wait(5)
    assert done.is_set()


def test_threads_are_used_again():
    # dask keeps something of every thread that has computed, until the process ends.
    seen = set()

    def read(piece: int) -> float:
        seen.add(threading.current_thread())
        return float(dask.array.ones((4, 4), chunks=2).sum().compute(scheduler="threads")) + piece

    for _ in range(20):
        assert list(ahead(read, range(3))) == [16.0, 17.0, 18.0]
    assert len(seen) < 5


def test_work_aside_may_have_work_done_aside():
    def deep(level: int) -> int:
        return 0 if not level else 1 + aside(deep, level - 1).result()

    assert aside(deep, 10).result(5) == 10


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_is_forked_has_threads_of_its_own():
    assert aside(np.sqrt, 4.0).result() == 2.0
    child = os.fork()
    if not child:
        os._exit(int(aside(np.sqrt, 9.0).result(10)))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
