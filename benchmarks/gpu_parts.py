"""The parts of benchmarks/gpu.py: what each measures or checks, at the paper's size or as a toy."""

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import filelock

# Older releases than the workflow asks for may come with PyTorch; no other process writes what is written here.
if not hasattr(filelock, "lock_descriptor"):
    filelock.lock_descriptor = lambda *_, **__: True

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F

sys.path[:0] = [str(Path(__file__).parent.parent / "scripts"), str(Path(__file__).parent)]

import coda.training.vit
from coda.crops.harmonisation import BINS, Harmonisation, Harmoniser
from coda.crops.store import CropStore
from coda.training.classifier_trainer import ClassifierLearner, LabelledSites
from coda.training.compute import Compute, Machine
from coda.training.inference import apply_to_sites, cls_features
from coda.training.knn import knn_accuracy
from coda.training.networks import Supervised, build_foundation, build_task_model
from coda.training.settings import HeadSettings, ModelSettings, TaskSettings, ViewSettings
from coda.training.trainer import Trainer
from coda.training.views import draw_view, make_view
from gpu import Rows
from training import (
    PAPER,
    SMALL,
    batches_of,
    flops_per_sample,
    make_store,
    make_training,
    measure_end_to_end,
    measure_parts,
    measure_peak,
    measure_usual_way,
    synchronize,
)

TOY = dict(
    crop=48,
    sites=64,
    channels=["DNA", "ER", "Mito"],
    batch=8,
    model=ModelSettings(
        "vit_tiny_patch16_224", dict(embed_dim=32, depth=2, num_heads=2, patch_size=8), "random"
    ),
    head=HeadSettings(32, 16, 32, False),
    views=ViewSettings(32, 16, 2),
)
# A small network in float32 for comparisons, whose random numbers are all drawn on the CPU.
CHECKED = SMALL | dict(batch=16, sites=64)
CLASSES = 8


@dataclass(frozen=True)
class Run:
    """What a part computes with.

    Attributes
    ----------
    size : dict
        Sizes of crops, batches, networks and views.
    compute : Compute
        As a job on one GPU has it; for a toy, on the CPU.
    folder : Path
        For files.
    toy : bool
        Whether the numbers mean nothing.
    """

    size: dict
    compute: Compute
    folder: Path
    toy: bool

    @property
    def threads(self) -> int:
        """Threads that gather crops."""
        return 1 if self.toy else min(12, len(os.sched_getaffinity(0)))

    def count(self, paper: int) -> int:
        """Give so many turns; for a toy two."""
        return 2 if self.toy else paper

    def store(self, size: dict | None = None, name: str = "plate") -> CropStore:
        """Write crops of noise and open them."""
        return make_store(self.folder / f"{name}.arrow", size or self.size)

    def checked(self) -> dict:
        """Give the sizes for comparisons."""
        return TOY if self.toy else CHECKED


@contextmanager
def run_for(toy: bool) -> Iterator[Run]:
    """Prepare a part: a device without locks, since the machine is ours, and a folder."""
    gpu = torch.cuda.is_available() and not toy
    machine = Machine(1, devices=(0,)) if gpu else Machine(0, 1, "fp32")
    with tempfile.TemporaryDirectory() as folder:
        yield Run(TOY if toy else PAPER, machine.compute(), Path(folder), toy)


def part(function: Callable[[Rows, Run], None]) -> Callable[[Rows, bool], None]:
    """Make a part of a function that measures."""

    def prepared(rows: Rows, toy: bool) -> None:
        with run_for(toy) as run:
            function(rows, run)

    return prepared


# Training


def train(rows: Rows, run: Run, batch: int) -> None:
    """Training from the store to the optimiser: rates, parts of a step, memory; at the paper's batch what it is of."""
    paper = batch == PAPER["batch"]
    batch = batch if not run.toy else run.size["batch"] * batch // PAPER["batch"]
    training = make_training(run.store(), run.size, run.compute, batch, run.threads)
    whole = measure_end_to_end(
        training, warm=run.count(12), steps=run.count(60 if paper else 30 * 128 // batch + 8)
    )
    goal = (">= 3000", whole["rate"] >= 3000) if paper else ()
    rows.add(f"end to end, batch {batch}", whole["rate"], "samples/s", *goal)
    goal = ("< 2", whole["waiting"] < 0.02) if paper else ()
    rows.add(f"waiting for data, batch {batch}", 100 * whole["waiting"], "%", *goal)
    if run.compute.device.type == "cuda":
        rows.add(f"peak memory, batch {batch}", torch.cuda.max_memory_allocated() / 2**30, "GiB")
        peak = measure_peak()
        rows.add("bf16 peak, measured", peak / 1e12, "TFLOP/s")
        share = whole["rate"] * flops_per_sample(run.size) / peak
        rows.add(f"share of the measured peak, batch {batch}", 100 * share, "%")
    for name, seconds in measure_parts(training, run.count(20)).items():
        rows.add(f"{name}, batch {batch}", 1e3 * seconds, "ms")
    if paper:
        profile(rows, training, run.count(5))


# By name, the first that fits. Names of compiled kernels list all that they do, copies and norms among it.
KINDS = {
    "compiled elementwise, norms and sums": r"^triton_(?!tem|mm)",
    "attention": r"flash|fmha|attention|sdpa",
    "optimiser, clipping, teacher": r"multi_tensor|fused_adam|foreach|_fused_adamw|lerp",
    "matrix products": r"gemm|nvjet|cutlass|cublas|xmma|addmm|bmm|::mm\b|::linear|^triton_",
    "copies": r"memcpy|memset|copy",
    "other norms and sums": r"norm|reduce|sum|mean",
}


def kind_of(kernel: str) -> str:
    """Tell the kind of a kernel by its name."""
    return next((kind for kind, words in KINDS.items() if re.search(words, kernel, re.I)), "other")


def profile(rows: Rows, training: Trainer, steps: int) -> None:
    """Time on the device by kind of kernel, in milliseconds a step."""
    gpu = training.learner.compute.device.type == "cuda"
    activities = [torch.profiler.ProfilerActivity.CPU]
    activities += [torch.profiler.ProfilerActivity.CUDA] if gpu else []
    loader = iter(batches_of(training))
    training.learner.train_step(*next(loader))
    with torch.profiler.profile(activities=activities) as profiler:
        for _ in range(steps):
            training.learner.train_step(*next(loader))
        synchronize(training.learner.compute)
    loader.close()
    spent, launched = Counter(), Counter()
    for event in profiler.key_averages():
        if gpu and (event.device_type.name != "CUDA" or event.is_user_annotation):
            continue
        time_ = event.self_device_time_total if gpu else event.self_cpu_time_total
        spent[kind_of(event.key)] += time_ / 1e3 / steps
        launched[kind_of(event.key)] += event.count / steps
    for kind, milliseconds in spent.most_common():
        rows.add(f"kernels: {kind}", milliseconds, "ms a step")
        rows.add(f"kernels: {kind}, how many", launched[kind], "a step")


def usual_way(rows: Rows, run: Run) -> None:
    """The baseline in the same run: PNG files, PIL and torchvision in workers, float32, not compiled."""
    store = run.store()
    rate = measure_usual_way(
        store, run.size, run.compute, run.folder, run.count(4), 0 if run.toy else run.threads
    )
    rows.add("the usual way", rate, "samples/s")


# Inference and classifiers


def inference(rows: Rows, run: Run) -> None:
    """From the store to logits and embeddings, with the task model, as predictions of the workflow are made."""
    store, size = run.store(), run.size["views"].global_size
    shape = len(store.channels), size
    foundation = build_foundation(run.size["model"], *shape)
    heads = {
        "with task model": build_task_model(run.size["model"], None, CLASSES, *shape),
        "features alone": None,
    }
    for network in (foundation, *filter(None, heads.values())):
        network.eval().to(run.compute.device)
    sites = np.tile(np.arange(len(store)), 1 if run.toy else 10)

    def predict(task_model: torch.nn.Module | None, views: torch.Tensor) -> tuple:
        if task_model is None:
            return (coda.training.vit.cls_tokens(foundation, views),)
        tokens = foundation.forward_features(views)
        return tokens[:, 0], task_model(tokens)

    for words, task_model in heads.items():
        function = run.compute.compiled(partial(predict, task_model))
        inputs = dict(store=store, size=size, compute=run.compute, threads=run.threads)
        batch = inputs["batch_size"] = 16 if run.toy else 512
        apply_to_sites(function, sites=sites[: 2 * batch], **inputs)
        begun = time.perf_counter()
        apply_to_sites(function, sites=sites, **inputs)
        rate = len(sites) / (time.perf_counter() - begun)
        goal = (">= 15000", rate >= 15_000) if task_model else ()
        rows.add(f"inference at {size}, {words}", rate, "images/s", *goal)


def classifiers(rows: Rows, run: Run) -> None:
    """Training of the task model on a frozen foundation, and of the supervised baseline."""
    store = run.store()
    shape = len(store.channels), run.size["views"].global_size
    frozen = build_foundation(run.size["model"], *shape).eval().to(run.compute.device)

    def tokens(views: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return frozen.forward_features(views)

    task_model = build_task_model(run.size["model"], None, CLASSES, *shape)
    supervised = Supervised(build_foundation(run.size["model"], *shape), CLASSES)
    numbers = np.arange(len(store))
    for words, features, network in (
        ("task model", tokens, task_model),
        ("supervised", torch.nn.Identity(), supervised),
    ):
        sites = LabelledSites(store, numbers, numbers % CLASSES)
        learner = ClassifierLearner(
            features=features,
            classifier=network.to(run.compute.device),
            compute=run.compute,
            settings=TaskSettings(epochs=10_000, batch_size=run.size["batch"]),
            views=run.size["views"],
            seed=0,
            sites_per_epoch=len(numbers),
            steps_per_epoch=sites.steps_per_epoch(run.size["batch"]),
        )
        measured = measure_end_to_end(
            Trainer(learner, sites, threads=run.threads), run.count(10), run.count(40)
        )
        rows.add(f"training of a classifier, {words}", measured["rate"], "samples/s")


# Views and harmonisation


def views(rows: Rows, run: Run) -> None:
    """Views alone, from crops on the device: as the protocol makes them, and with every change."""
    count, side = run.size["batch"], run.size["crop"]
    channels = len(run.size["channels"])
    device = run.compute.device
    sites = torch.randint(0, 256, (count, channels, side, side), dtype=torch.uint8, device=device)
    every = replace(run.size["views"], scale=1.2, blur=1.0, noise=0.1, drop_channel=0.1)
    for words, settings in (("the protocol's", run.size["views"]), ("every change", every)):
        function = run.compute.compiled(make_view)
        generator = torch.Generator().manual_seed(0)
        for kind, size in (("global", settings.global_size), ("local", settings.local_size)):
            draw = draw_view(count, channels, settings, generator, kind == "global").to(device)
            milliseconds = _milliseconds(run, partial(function, sites, draw, size, settings))
            rows.add(f"a {kind} view of {count} sites, {words}", milliseconds, "ms")


def harmonisation(rows: Rows, run: Run) -> None:
    """Filters of a step's crops, four plates in a batch: their cost, and how far from the CPU's result they are."""
    count, side = 2 * run.size["batch"], run.size["crop"]
    channels = run.size["channels"]
    random = np.random.default_rng(0)
    filters, width = {}, 1 / (2 * 0.65) / BINS
    for plate in range(4):
        factors = np.eye(len(channels)) + 0.2 * random.normal(
            size=(BINS, len(channels), len(channels))
        )
        gain = factors @ factors.transpose(0, 2, 1)
        filters["s", str(plate)] = Harmonisation(
            "s", str(plate), "t", channels, 0.65, 0.65, width, 64, 1.0, 1.0, gain, gain, gain
        )
    names = [("s", str(row % 4)) for row in range(count)]
    pixels = torch.from_numpy(
        random.integers(0, 256, (count, len(channels), side, side), dtype=np.uint8)
    )
    sites, few = pixels.to(run.compute.device), min(8, count)
    harmoniser = Harmoniser(filters, run.compute.device)
    rows.add(
        "harmonisation of a step's crops",
        _milliseconds(run, lambda: harmoniser(sites, names)),
        "ms",
    )
    apart = harmoniser(sites[:few], names[:few]).cpu() - Harmoniser(filters, "cpu")(
        pixels[:few], names[:few]
    )
    most = float(apart.abs().max())
    rows.add("harmonisation, from the CPU's at most", most, "grey levels", "< 0.01", most < 0.01)


def _milliseconds(run: Run, work: Callable[[], object]) -> float:
    """Time of one call among many, the device being waited for at the end."""
    for _ in range(run.count(3)):
        work()
    turns = run.count(20)
    synchronize(run.compute)
    begun = time.perf_counter()
    for _ in range(turns):
        work()
    synchronize(run.compute)
    return 1e3 * (time.perf_counter() - begun) / turns


# Checks


def checks(rows: Rows, run: Run) -> None:
    """A step against the CPU's, a training that goes on, and both switches."""
    works = step_against_the_cpu, going_on, graph_against_eager, ahead_against_plain
    all_tried({work.__name__: partial(work, rows, run) for work in works})


def all_tried(works: dict[str, Callable[[], None]]) -> None:
    """Do all, whatever becomes of one of them, and say in the end which failed."""
    failed = []
    for name, work in works.items():
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            failed.append(f"{name}: {type(error).__name__}: {error}")
    if failed:
        raise RuntimeError("; ".join(failed))


def quiet_training(run: Run, store: CropStore, compute: Compute) -> Trainer:
    """Prepare a small training that draws no random number on the device."""
    training = make_training(store, run.checked(), compute, run.checked()["batch"], 1)
    for block in training.learner.student.foundation.blocks:
        block.drop_path1 = block.drop_path2 = torch.nn.Identity()
    return training


def take_steps(training: Trainer, steps: int) -> torch.Tensor:
    """Take steps, and give all weights of student and teacher, and the centre, as one float64 vector on the CPU."""
    loader = iter(batches_of(training))
    for batch, _ in zip(training.learner.prepared(loader), range(steps), strict=False):
        training.learner.train_step(*batch)
    loader.close()
    tensors = training.learner.tensors().values()
    return torch.cat([each.detach().double().cpu().flatten() for each in tensors])


def apart(one: torch.Tensor, two: torch.Tensor) -> float:
    """Distance of two vectors over the length of the second."""
    return float((one - two).norm() / two.norm())


def gradient(training: Trainer) -> torch.Tensor:
    """Gradient of the first step as one vector."""
    loader = iter(batches_of(training))
    sites, (*draws, sites_rows) = next(loader)
    loader.close()
    learner = training.learner
    learner.forward_backward(*learner.make_views(sites, *draws), sites[0, :0], sites_rows)
    grads = [p.grad for p in learner.student.parameters() if p.grad is not None]
    return torch.cat([each.double().cpu().flatten() for each in grads])


def step_against_the_cpu(rows: Rows, run: Run) -> None:
    """Compare gradients, not weights: the first step of AdamW is a sign, which rounding turns."""
    store = run.store(run.checked(), "checked")
    reference = gradient(quiet_training(run, store, Compute(torch.device("cpu"), "fp32")))
    before = torch.get_float32_matmul_precision()
    for precision, limit in (("fp32", 1e-3), ("bf16", 0.1)):
        exact = precision == "fp32"
        torch.set_float32_matmul_precision("highest" if exact else "high")
        # In bf16 as a job has it; compiling takes longer than all else here, so only there.
        compute = replace(
            run.compute, precision=precision, compile=run.compute.compile and not exact
        )
        found = apart(gradient(quiet_training(run, store, compute)), reference)
        words = f"gradient of a step in {precision}, from the CPU's in float32"
        rows.add(words, found, "of its length", f"< {limit}", found < limit)
    torch.set_float32_matmul_precision(before)


def going_on(rows: Rows, run: Run) -> None:
    """Compare a training that goes on from a state with one that was not interrupted."""
    store = run.store(run.checked(), "resumed")
    whole = take_steps(make_training(store, run.checked(), run.compute, 8, 1), 8)
    first = make_training(store, run.checked(), run.compute, 8, 1)
    take_steps(first, 4)
    state = {name: each.detach().cpu().clone() for name, each in first.learner.state().items()}
    second = make_training(store, run.checked(), run.compute, 8, 1)
    second.learner.load_state(state, first.learner.step)
    found = apart(take_steps(second, 4), whole)
    words = "8 steps, interrupted after 4, from 8 undisturbed"
    rows.add(words, found, "of their length", "< 0.001", found < 1e-3)


def graph_against_eager(rows: Rows, run: Run) -> None:
    """The update as a CUDA graph: bit for bit what it is without one, and close to the plain one."""
    from coda.training.graphed_update import GraphedUpdate

    def weights(graphed: bool) -> torch.Tensor:
        torch.manual_seed(0)
        student = build_foundation(run.checked()["model"], 3, run.checked()["views"].global_size)
        student.to(run.compute.device)
        teacher = build_foundation(run.checked()["model"], 3, run.checked()["views"].global_size)
        teacher.to(run.compute.device).load_state_dict(student.state_dict())
        centre = torch.zeros(8, device=run.compute.device)
        update = GraphedUpdate(student, teacher, 1.0, lambda: centre.lerp_(centre + 1, 0.1))
        update.graphed = update.graphed and graphed
        frozen = [student.patch_embed.proj.weight]
        generator = torch.Generator().manual_seed(1)
        for step in range(8):
            for each in student.parameters():
                new = torch.randn(each.shape, generator=generator).to(each.device)
                if each.grad is None:
                    each.grad = new
                else:
                    each.grad.add_(new)
            update(1e-3 * (step + 1), 0.1 + step, 0.9, frozen if step < 4 else [])
        if graphed and run.compute.device.type == "cuda" and not update.graphed:
            raise RuntimeError("the update could not be captured")
        parts = [*student.parameters(), *teacher.parameters(), centre]
        return torch.cat([each.detach().double().cpu().flatten() for each in parts])

    differ = int((weights(True) != weights(False)).sum())
    rows.add("weights that the graph of the update changes", differ, "", "0", differ == 0)
    store = run.store(run.checked(), "graphed")
    plain = take_steps(quiet_training(run, store, run.compute), 8)
    compute = replace(run.compute, graph_updates=True)
    found = apart(take_steps(quiet_training(run, store, compute), 8), plain)
    words = "8 steps with the graph of the update, from 8 plain ones"
    rows.add(words, found, "of their length", "< 0.001", found < 1e-3)


def ahead_against_plain(rows: Rows, run: Run) -> None:
    """Views that are made ahead are the plain ones, looked at when the step that read them has been given out."""
    store = run.store(run.checked(), "ahead")
    plain, ahead = (
        quiet_training(run, store, replace(run.compute, compile=False, views_ahead=switched))
        for switched in (False, True)
    )
    loaders = [iter(batches_of(training)) for training in (plain, ahead)]
    differ = 0
    for (sites, (*draws, _)), batch, _ in zip(
        loaders[0], ahead.learner.prepared(loaders[1]), range(8), strict=False
    ):
        ahead.learner.train_step(*batch)
        for made, expected in zip(batch[2], plain.learner.make_views(sites, *draws), strict=True):
            differ += int((made != expected.to(made.dtype)).sum())
    for loader in loaders:
        loader.close()
    rows.add("pixels that differ in views made ahead", differ, "", "0", differ == 0)
    whole = take_steps(quiet_training(run, store, run.compute), 8)
    compute = replace(run.compute, views_ahead=True)
    found = apart(take_steps(quiet_training(run, store, compute), 8), whole)
    words = "8 steps with views made ahead, from 8 plain ones"
    rows.add(words, found, "of their length", "< 0.001", found < 1e-3)


def two_processes(rows: Rows, run: Run) -> None:
    """Two processes on one device share a batch: by NCCL where it lets them, else by gloo."""
    store = run.store(run.checked(), "shared")
    plain = replace(run.compute, compile=False, precision="fp32")
    alone = take_steps(quiet_training(run, store, plain), 3)
    gpu = run.compute.device.type == "cuda"
    for backend in ("nccl", "gloo") if gpu else ("gloo",):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        files = [run.folder / f"{backend}_{rank}.npy" for rank in range(2)]
        both = [
            subprocess.Popen(
                [sys.executable, __file__, backend, str(rank), str(port), store.paths[0], str(file)]
                + ["--toy"] * run.toy,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank, file in enumerate(files)
        ]
        said = []
        for process in both:
            try:
                said.append(process.communicate(timeout=600 if run.toy else 25)[0])
            except subprocess.TimeoutExpired:
                process.kill()
                said.append(process.communicate()[0])
        worked = all(process.returncode == 0 for process in both)
        rows.add(f"two processes on one device by {backend}", worked, "(1: it works)")
        if worked:
            ends = [torch.from_numpy(np.load(file)) for file in files]
            rows.add("weights that two ranks do not share", int((ends[0] != ends[1]).sum()), "")
            found = apart(ends[0], alone)
            words = "3 steps of two processes, from 3 of one"
            rows.add(words, found, "of their length", "< 0.001", found < 1e-3)
            return
        print(f"{backend}: {said[0][-600:]}", flush=True)
    raise RuntimeError(f"two processes could not train together: {said[0][-1500:]}")


def one_of_two(backend: str, rank: str, port: str, store: str, file: str, *toy: str) -> None:
    """Train as one of two processes that share a device, and write the weights."""
    address = f"tcp://127.0.0.1:{port}"
    with run_for(bool(toy)) as run:
        dist.init_process_group(backend, init_method=address, rank=int(rank), world_size=2)
        compute = replace(run.compute, compile=False, precision="fp32", rank=int(rank), ranks=2)
        np.save(file, take_steps(quiet_training(run, CropStore([store]), compute), 3).numpy())
        dist.destroy_process_group()


# Changes of the step: switches that are in the code, off until they have won here, and candidates that are here alone.


def candidate(
    rows: Rows,
    run: Run,
    words: str,
    change: Callable[[Trainer], None] = lambda training: None,
    **options: bool,
) -> None:
    """Rate of a training at the paper's batch, the step changed in one way."""
    compute = replace(run.compute, **options)
    training = make_training(run.store(), run.size, compute, run.size["batch"], run.threads)
    change(training)
    rate = measure_end_to_end(training, run.count(12), run.count(60))["rate"]
    rows.add(f"candidate: {words}", rate, "samples/s")


def switches(rows: Rows, run: Run) -> None:
    """What no job has on yet; `training_128` of the same call has the step as it is."""
    graph, ahead = dict(graph_updates=True), dict(views_ahead=True)
    kinds = {
        "update as a CUDA graph": graph,
        "views of the next step made meanwhile": ahead,
        "both of these": graph | ahead,
    }
    all_tried({words: partial(candidate, rows, run, words, **on) for words, on in kinds.items()})


def as_it_is(rows: Rows, run: Run) -> None:
    """The step as it is, for comparison."""
    candidate(rows, run, "the step as it is")


def cudnn_attention(rows: Rows, run: Run) -> None:
    """Attention by cuDNN in place of flash attention."""
    torch.backends.cuda.enable_cudnn_sdp(True)
    torch.backends.cuda.enable_flash_sdp(False)
    try:
        candidate(rows, run, "attention by cuDNN")
    finally:
        torch.backends.cuda.enable_flash_sdp(True)


def flex_attention(rows: Rows, run: Run) -> None:
    """FlexAttention with small blocks."""
    from torch.nn.attention.flex_attention import flex_attention as flex

    as_built = coda.training.vit.attend

    def attend(qkv: torch.Tensor, heads: int, scale: float) -> torch.Tensor:
        if qkv.device.type == "cpu" and qkv.requires_grad:  # where it knows no backward pass
            return as_built(qkv, heads, scale)
        count, tokens, width = qkv.shape
        q, k, v = qkv.reshape(count, tokens, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        blocks = None if qkv.device.type == "cpu" else {"BLOCK_M": 64, "BLOCK_N": 64}
        mixed = flex(q, k, v, scale=scale, kernel_options=blocks)
        return mixed.transpose(1, 2).reshape(count, tokens, width // 3)

    with replaced(coda.training.vit, "attend", attend):
        candidate(rows, run, "FlexAttention, blocks of 64")


def bf16_residuals(rows: Rows, run: Run) -> None:
    """Tokens between blocks in bf16; norms stay float32. Nearest neighbours judge what both ways train."""
    after = coda.training.vit.cls_after
    narrow = torch.bfloat16 if run.compute.precision == "bf16" else torch.float32

    def rounded(blocks, *tokens: torch.Tensor, **options) -> torch.Tensor:
        return after(blocks, *(each.to(narrow) for each in tokens), **options)

    in_bf16 = partial(replaced, coda.training.vit, "cls_after", rounded)
    with in_bf16():
        candidate(rows, run, "residual stream in bf16")
    for seed in range(2):
        for words, way in (("float32", nullcontext), ("bf16", in_bf16)):
            with way():
                share = neighbours_after_training(run, seed)
            rows.add(f"kNN accuracy, residual stream in {words}, seed {seed}", 100 * share, "%")


def neighbours_after_training(run: Run, seed: int) -> float:
    """Share of crops whose nearest ones of other plates name their class, after a short training."""
    views, sites = run.size["views"], run.size["sites"] if run.toy else 1024
    # Without batch normalisation a training from random weights learns nothing.
    head = replace(run.size["head"], batch_norm=True)
    size = run.size | dict(crop=views.global_size * 3 // 2, sites=sites, head=head)
    each = sites // (8 if run.toy else 32)
    path = run.folder / "classes.arrow"
    store = CropStore([path]) if path.exists() else make_store(path, size, grains(size, each), each)
    schedule = dict(
        epochs=2 if run.toy else 40, warmup_epochs=1, learning_rate=1e-3, teacher_momentum="auto"
    )
    training = make_training(store, size, run.compute, size["batch"], run.threads, seed, **schedule)
    for batch in batches_of(training):
        training.learner.train_step(*batch)
    features = cls_features(
        training.learner.teacher.foundation,
        store=store,
        sites=np.arange(len(store)),
        size=views.global_size,
        compute=run.compute,
        threads=run.threads,
    )
    numbers = torch.arange(len(store))
    labels, plates = numbers // each % CLASSES, numbers % 8
    shares = [
        knn_accuracy(features[~asked], labels[~asked], features[asked], labels[asked], k=20)
        for asked in (plates == plate for plate in range(8))
    ]
    return float(np.mean(shares))


def grains(size: dict, each: int) -> Callable[[int], np.ndarray]:
    """Draw crops of noise; its grain, in each channel, is that of the class, which goes on for `each` sites."""
    generator = torch.Generator().manual_seed(0)
    shape = len(size["channels"]), size["crop"], size["crop"]
    widths = 1 + 2 * torch.randint(0, 4, (CLASSES, shape[0]), generator=generator)

    def draw(site: int) -> np.ndarray:
        coarse, fine = torch.randn(2, *shape, generator=generator)
        for channel, width in enumerate(widths[site // each % CLASSES].tolist()):
            plane = F.avg_pool2d(coarse[None, channel], width, 1, width // 2)[0]
            coarse[channel] = plane / plane.std()
        mixed = 128 + 30 * (coarse + 0.3 * fine)
        return mixed.clamp(0, 255).byte().numpy()[None]

    return draw


class ActivatedProduct(torch.autograd.Function):
    """GELU within the product before it; on a GPU in its tanh form, the only one that cuBLASLt has.

    PyTorch's product does not keep what it activates, so the backward pass takes the product again.
    """

    @staticmethod
    def forward(
        ctx: Any, bias: torch.Tensor, tokens: torch.Tensor, weight: torch.Tensor
    ) -> torch.Tensor:
        """Give GELU of tokens (N, inputs) times the transposed weight (outputs, inputs), plus the bias."""
        ctx.save_for_backward(bias, tokens, weight)
        return torch.ops.aten._addmm_activation(bias, tokens, weight.t(), use_gelu=True)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Give the gradients of bias, tokens and weight."""
        bias, tokens, weight = ctx.saved_tensors
        inner = torch.addmm(bias, tokens, weight.t())
        form = "tanh" if tokens.device.type == "cuda" else "none"
        change = torch.ops.aten.gelu_backward(gradient, inner, approximate=form)
        return change.sum(dim=0), change @ weight, change.t() @ tokens


def with_gelu_epilogues(foundation: torch.nn.Module, kind: torch.dtype) -> None:
    """Let the blocks of a foundation compute their first product and GELU as one."""

    def activated(mlp: torch.nn.Module, tokens: torch.Tensor) -> torch.Tensor:
        bias, weight, flat = (
            each.to(kind) for each in (mlp.fc1.bias, mlp.fc1.weight, tokens.flatten(0, -2))
        )
        inner = ActivatedProduct.apply(bias, flat, weight)
        return mlp.fc2(inner).unflatten(0, tokens.shape[:-1])

    for block in foundation.blocks:
        block.mlp.forward = partial(activated, block.mlp)


def gelu_epilogues(rows: Rows, run: Run) -> None:
    """GELU as an epilogue: the teacher's, then the student's too."""
    kind = torch.bfloat16 if run.compute.precision == "bf16" else torch.float32
    for words, names in (("teacher's", ["teacher"]), ("both networks'", ["teacher", "student"])):

        def change(training: Trainer, names: list[str] = names) -> None:
            for name in names:
                with_gelu_epilogues(getattr(training.learner, name).foundation, kind)

        candidate(rows, run, f"{words} GELU as an epilogue", change)


def max_autotune(rows: Rows, run: Run) -> None:
    """Inductor's choice among products of cuBLAS and Triton, persistent TMA ones and GELU epilogues among them."""
    import torch._inductor.config as inductor

    inductor.triton.enable_persistent_tma_matmul = True
    compile_ = torch.compile

    def tuned(function: Callable, dynamic: bool, mode: str | None) -> Callable:
        return compile_(function, dynamic=dynamic, mode="max-autotune" if mode else None)

    with replaced(torch, "compile", tuned):
        candidate(rows, run, "max-autotune")


@contextmanager
def replaced(owner: object, name: str, other: object) -> Iterator[None]:
    """Put something else in the place of an attribute while the block runs."""
    before = getattr(owner, name)
    setattr(owner, name, other)
    try:
        yield
    finally:
        setattr(owner, name, before)


PARTS = {f"training_{batch}": part(partial(train, batch=batch)) for batch in (128, 256, 512)} | {
    function.__name__: part(function)
    for function in (
        checks,
        inference,
        two_processes,
        classifiers,
        usual_way,
        harmonisation,
        views,
        switches,
        as_it_is,
        cudnn_attention,
        flex_attention,
        bf16_residuals,
        gelu_epilogues,
        max_autotune,
    )
}

if __name__ == "__main__":
    one_of_two(*sys.argv[1:])
