"""The views of the next step, made while a GPU computes the present one.

They are made on a stream of their own, in two sets of buffers that take turns: a step reads one while the other is
written. Under autocast the buffers are bfloat16, to which the first layer of a network rounds its pixels anyhow: the
step computes the same from half as many bytes.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import cycle
from typing import Any

import torch

from coda.training.compute import Compute

Batch = tuple[Any, ...]
Views = list[torch.Tensor]


def made_ahead(
    batches: Iterable[Batch], make: Callable[[Batch, Views], object], compute: Compute
) -> Iterator[tuple[Batch, Views]]:
    """Give each batch with its views, those of the next one being under way.

    On a CPU the views are the same, made one after the other.

    Parameters
    ----------
    batches
        On the device, or on their way there by the present stream.
    make
        Writes the views of a batch into global and local buffers, which are empty the first time.
    compute
        Device, and precision of the buffers.

    Yields
    ------
    tuple
        A batch.
    list of tensors
        Its global and local views; written over once the next batch but one is asked for.
    """
    streams = torch.get_device_module(compute.device)  # those of a CPU do nothing
    side, ready = streams.Stream(), None
    kind = torch.bfloat16 if compute.precision == "bf16" else torch.float32
    buffers = [[torch.empty(0, dtype=kind, device=compute.device) for _ in range(2)] for _ in "ab"]
    for batch, views in zip(batches, cycle(buffers), strict=False):
        # The step that read these buffers is over by then, and the batch is there.
        side.wait_stream(streams.current_stream())
        with streams.stream(side):
            make(batch, views)
            made = side.record_event()
        if ready:
            yield _waited_for(*ready, streams)
        # The batch is held until then: its memory must not be given to others while the side reads it.
        ready = batch, views, made
    if ready:
        yield _waited_for(*ready, streams)


def _waited_for(batch: Batch, views: Views, made: Any, streams: Any) -> tuple[Batch, Views]:
    streams.current_stream().wait_event(made)
    return batch, views
