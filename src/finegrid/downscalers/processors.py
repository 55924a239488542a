"""How many processors work at once: threads of torch, of NumPy's and scikit-learn's libraries, and of dask together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from finegrid.conventions import InputError


@contextmanager
def processors(n_jobs: int | None) -> Iterator[None]:
    """Within it at most `n_jobs` processors work at once; None leaves that to the libraries.

    >>> with processors(2):                  # doctest: +SKIP
    ...     model.fit(coarse, fine)

    Raises:
        InputError: when it is below 1.
    """
    if n_jobs is None:
        yield
        return
    if n_jobs < 1:
        raise InputError(f"got n_jobs={n_jobs}; expected 1 or more, or None for all; set --jobs")
    import dask
    import torch
    from threadpoolctl import threadpool_limits

    before = torch.get_num_threads()
    torch.set_num_threads(n_jobs)
    try:
        with threadpool_limits(n_jobs), dask.config.set(num_workers=n_jobs):
            yield
    finally:
        torch.set_num_threads(before)
