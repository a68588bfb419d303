"""The end of a step, from the gradients to the centre, as one CUDA graph.

Clipping, AdamW, the teacher and the centre are hundreds of small kernels, and a GPU is done with each before the CPU
has launched the next. A graph launches them at once. It reads and writes the tensors that it was captured with, so
gradients stay where they are from step to step, and what changes with the step is a tensor too.
"""

from collections.abc import Callable, Sequence

import torch
from torch import nn

from coda.logs import warn
from coda.training.optim import decay_groups


class GraphedUpdate:
    """Updates of a student, by its gradients, and of what follows it.

    Its results are those of `coda.training.optim.step_optimizer` and `coda.training.dino.update_teacher`, up to
    rounding. On a CPU it does the same without a graph, as on a GPU that cannot capture one.

    Parameters
    ----------
    student, teacher
        Networks of the same shape.
    clip
        Largest norm of the gradient.
    finish
        Called without arguments at the end of an update; a part of the graph.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, clip: float, finish: Callable[[], None]
    ):
        self.pairs = list(zip(teacher.parameters(), student.parameters(), strict=True))
        self.clip, self.finish = clip, finish
        device = self.pairs[0][0].device
        self.rate, self.lost, self.moved = (torch.zeros((), device=device) for _ in range(3))
        self.graphed = device.type == "cuda"
        self.optimizer = torch.optim.AdamW(
            decay_groups([student]),
            lr=self.rate,
            weight_decay=0.0,  # a float would be a part of the graph
            fused=True,
            capturable=self.graphed,
        )
        self._learned: list[nn.Parameter] = []
        self._seen: set[bool] = set()
        self._graphs: dict[bool, torch.cuda.CUDAGraph] = {}

    def __call__(
        self,
        learning_rate: float,
        weight_decay: float,
        momentum: float,
        frozen: Sequence[nn.Parameter] = (),
    ) -> None:
        """Take one step, the teacher's `momentum` being the share of it that stays, and set the gradients to 0.

        Parameters that are `frozen` stay as they are. Either all calls name the same ones, or none.
        """
        self.rate.fill_(learning_rate)
        self.lost.fill_(-learning_rate * weight_decay)
        self.moved.fill_(1 - momentum)
        if not self._learned:
            self._hold_gradients()
        state = bool(frozen)
        if self.graphed and state in self._seen and state not in self._graphs:
            self._capture(state, frozen)
        if state in self._graphs:
            self._graphs[state].replay()
        else:
            # The first update of a kind makes the moments, which a graph must find.
            self._update(frozen)
            self._seen.add(state)

    def forget(self) -> None:
        """Drop graphs: the optimiser's moments are other tensors now."""
        self._graphs, self._seen = {}, set()

    def _hold_gradients(self) -> None:
        """Keep the gradients in place from here on; parameters without one have no part in the loss."""
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        self._learned = [p for p in parameters if p.grad is not None]
        for parameter in self._learned:
            parameter.grad = parameter.grad.clone()

    @torch.no_grad()
    def _update(self, frozen: Sequence[nn.Parameter]) -> None:
        left_out = {id(parameter) for parameter in frozen}
        learned = [p for p in self._learned if id(p) not in left_out]
        still = [p for p in self._learned if id(p) in left_out]
        gradients = [p.grad for p in self._learned]
        nn.utils.clip_grad_norm_(learned, self.clip, foreach=True)
        matrices = [p for p in learned if p.ndim > 1]
        # Not times 1 - rate * decay: in float32 that is 1, or a coarse step below.
        torch._foreach_add_(matrices, torch._foreach_mul(matrices, self.lost))
        held = [p.grad for p in still]
        for parameter in still:
            parameter.grad = None
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate
        self.optimizer.step()
        for parameter, gradient in zip(still, held, strict=True):
            parameter.grad = gradient
        torch._foreach_zero_(gradients)
        teacher, student = map(list, zip(*self.pairs, strict=True))
        difference = torch._foreach_sub(student, teacher)
        torch._foreach_mul_(difference, self.moved)
        torch._foreach_add_(teacher, difference)
        self.finish()

    def _capture(self, state: bool, frozen: Sequence[nn.Parameter]) -> None:
        graph = torch.cuda.CUDAGraph()
        try:
            # Threads that load crops use the GPU meanwhile; their calls are no part of it.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                self._update(frozen)
        except RuntimeError as error:
            self.graphed = False
            warn(f"The update cannot be captured as a CUDA graph and goes on without one: {error}")
        else:
            self._graphs[state] = graph
