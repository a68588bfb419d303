"""Spread work over processes: results in order, and memory bounded for any number of items."""

import ctypes
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from coda.errors import UserError

DIE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux's prctl
_state = None


def spread(function: Callable, items: Iterable, state: object, processes: int) -> Iterator:
    """Yield ``function(state, item)`` for each item, in order.

    Workers are forked: they inherit `state` without a copy, and the script that calls this needs
    no ``__main__`` guard (Snakemake's scripts have none). Call it before starting threads. At most
    a few results wait at a time, so a slow reader slows the workers down instead of filling memory.
    Workers end with this process, however it ends.

    Parameters
    ----------
    function
        A module-level function of two arguments.
    items
        What to work on; each item and each result crosses a pipe, so keep them small.
    state
        Anything that all calls share, read-only.
    processes
        Number of workers; 1 works in this process.

    Raises
    ------
    UserError
        If a worker is killed, as happens when memory runs out.
    """
    if processes <= 1:
        for item in items:
            yield function(state, item)
        return
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(processes, fork, _begin, (state, os.getpid()))
    try:
        waiting: deque = deque()
        for item in items:
            waiting.append(pool.submit(_call, function, item))
            if len(waiting) > processes + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "A worker process was killed, most likely because memory ran out; "
            "give the job more mem_mb or fewer threads."
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _begin(state: object, parent: int) -> None:
    global _state
    _state = state
    # A killed parent cannot tell its workers to stop: they would wait for work forever, with the
    # memory and the open files that they inherited.
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    if os.getppid() != parent:  # killed before the request
        os._exit(1)


def _call(function: Callable, item: object) -> object:
    return function(_state, item)
