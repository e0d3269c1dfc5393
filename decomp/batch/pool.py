"""The same work on many items in several processes of one machine, in constant memory."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor


def each(work: Callable, items: Iterable, jobs: int) -> Iterator:
    """`work(item)` for every item, in order. Items may be large: at most four for each process are in memory.

    Processes and not threads: only one thread at a time may look for a face, and a thread can't silence Pillow's
    warnings for itself alone.

    Args:
        work: a function of a module. It and the items are pickled; each process imports that module.
        jobs: number of processes; with 1 the work is done in this one.
    Raises:
        BrokenProcessPool: a process was killed, mostly for lack of memory.
        Exception: whatever `work` raises.
    """
    if jobs == 1:
        yield from map(work, items)
        return
    with spawned(jobs) as pool:
        waiting = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) == 4 * jobs:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def spawned(jobs: int) -> ProcessPoolExecutor:
    """Fresh processes: a forked one inherits locks of torch's threads that nobody will open."""
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start)


def _start() -> None:
    """In each process, before its first item."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the others in good order
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # temporary files are removed
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import cv2
    import torch

    cv2.setNumThreads(1)  # every process is one of several
    torch.set_num_threads(1)


def _end_with_parent() -> None:
    """A pool's processes wait for ever for work if their parent is killed (github.com/python/cpython/issues/111873)."""
    multiprocessing.parent_process().join()
    os._exit(1)
