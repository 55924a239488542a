"""Memory of a long job stays what a few blocks need.

Fields that are held by objects which hold each other, as graphs of dask do, are free only after a collection, and
Python collects by the number of objects, not by their bytes: of twenty years of the Earth it kept 12 GB.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dask.utils import key_split


@contextmanager
def steady() -> Iterator[Callable[[], object]]:
    """A function to be called after every block, which frees what nobody needs.

    What was there before does not count, so that a call takes milliseconds.
    """
    gc.collect()
    gc.freeze()
    try:
        yield gc.collect
    finally:
        gc.unfreeze()
        # A hundred thousand names of tasks, which lie in between all that is freed and keep its pages.
        key_split.cache_clear()
