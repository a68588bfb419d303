"""Sites from the memory-mapped store to the device, gathered ahead of need by threads."""

import queue
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch

from coda.crops.store import CropStore


class Loader:
    """Gather batches ahead of the device.

    Copying from the memory map releases Python's lock, so a few threads keep up with a GPU. The
    copies go into pinned buffers that are used in turn, so that they travel while the GPU works.

    Parameters
    ----------
    store
        The crops.
    plan
        Yields pairs: the crops of a batch as an int64 array of any shape, and whatever else
        belongs to the batch (handed on untouched).
    device
        Where the batches go.
    threads
        Threads that copy.
    side
        Side of the centre of each crop that the reader wants; the rest is gathered only where the store needs it.
        By default all is wanted.

    Yields
    ------
    uint8 or float32 tensor, shape (*indices.shape, C, H, W)
        On the device, from 0 to 255; float32 where the store harmonises. H and W are those of crops, or `side`, or
        in between.
    object
        The rest of the batch.
    """

    AHEAD = 3

    def __init__(
        self,
        store: CropStore,
        plan: Iterator[tuple[np.ndarray, Any]],
        device: torch.device,
        threads: int = 1,
        side: int | None = None,
    ):
        self.store, self.plan, self.device = store, plan, device
        self.pinned = device.type == "cuda"
        self.pool = ThreadPoolExecutor(threads) if threads > 1 else None
        self.threads = threads
        self.size = (store.height, store.width) if side is None else store.enough(side)
        self.waited = 0.0
        self._queue: queue.Queue = queue.Queue(maxsize=self.AHEAD - 1)
        self._stopping = threading.Event()

    def __iter__(self) -> Iterator[tuple[torch.Tensor, Any]]:
        """Start gathering and yield batches; `waited` adds up the seconds the reader stood still."""
        worker = threading.Thread(target=self._work, daemon=True)
        worker.start()
        try:
            while True:
                start = time.perf_counter()
                item = self._queue.get()
                self.waited += time.perf_counter() - start
                if item is None:
                    return
                if isinstance(item, BaseException):
                    raise item
                batch, copied, indices, rest = item
                if copied is not None:
                    torch.cuda.current_stream(self.device).wait_event(copied)
                    batch.record_stream(torch.cuda.current_stream(self.device))
                yield self.store.on_device(batch, indices), rest
        finally:
            self._stopping.set()
            while worker.is_alive():
                self._empty()
                worker.join(timeout=0.05)
            if self.pool is not None:
                self.pool.shutdown()

    def _work(self) -> None:
        buffers: list[torch.Tensor | None] = [None] * (self.AHEAD + 1)
        events: list[torch.cuda.Event | None] = [None] * (self.AHEAD + 1)
        stream = torch.cuda.Stream(self.device) if self.pinned else None
        try:
            for number, (indices, rest) in enumerate(self.plan):
                if self._stopping.is_set():
                    return
                slot = number % len(buffers)
                if events[slot] is not None:
                    events[slot].synchronize()
                buffers[slot] = self._buffer(buffers[slot], indices.size)
                self._gather(indices.reshape(-1), buffers[slot].numpy())
                batch, copied = buffers[slot], None
                if stream is not None:
                    with torch.cuda.stream(stream):
                        batch = batch.to(self.device, non_blocking=True)
                        copied = events[slot] = torch.cuda.Event()
                        copied.record(stream)
                self._put((batch.unflatten(0, indices.shape), copied, indices, rest))
            self._put(None)
        except BaseException as error:  # handed to the reader, whatever it is
            self._put(error)

    def _buffer(self, buffer: torch.Tensor | None, count: int) -> torch.Tensor:
        """Give a buffer for `count` crops: the pinned one again if it fits, on the CPU always a new one."""
        if buffer is not None and self.pinned and len(buffer) == count:
            return buffer
        shape = (count, len(self.store.channels), *self.size)
        return torch.empty(shape, dtype=torch.uint8, pin_memory=self.pinned)

    def _gather(self, indices: np.ndarray, out: np.ndarray) -> None:
        if self.pool is None:
            self.store.gather(indices, out=out)
            return
        bounds = np.linspace(0, len(indices), self.threads + 1).astype(int)
        parts = [slice(a, b) for a, b in zip(bounds[:-1], bounds[1:], strict=True) if b > a]
        for done in [
            self.pool.submit(self.store.gather, indices[part], out[part]) for part in parts
        ]:
            done.result()

    def _put(self, item: Any) -> None:
        while not self._stopping.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def _empty(self) -> None:
        while not self._queue.empty():
            self._queue.get_nowait()


def epoch_order(sites: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Give `sites` in the order of one epoch: each exactly once, by seed and epoch alone."""
    return np.random.default_rng([seed, epoch]).permutation(sites)
