"""Training: one plain loop that knows the model contract and no model by name."""

from __future__ import annotations

import hashlib
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from drawlib.bound import LatentModel, check_images
from drawlib.data.sets import Data, stratified_subset
from drawlib.evaluation import check_likelihood, evaluate
from drawlib.fast.loop import accelerate
from drawlib.machine.device import pick_device
from drawlib.machine.distributed import ALONE, Team, join
from drawlib.machine.files import sweep
from drawlib.machine.stopping import Terminated, stop_signals
from drawlib.training.optimisers import make_optimisers
from drawlib.training.runstate import History, RunState, TrainingStopped
from drawlib.training.schedule import TrainConfig

__all__ = ["History", "TrainConfig", "TrainingStopped", "fit", "pick_device"]

Loss = Callable[[nn.Module, Tensor, Tensor | None, torch.Generator], Tensor]


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """A 32-bit seed for one step or epoch, the same in every process.

    Every random number of a training is a pure function of (seed, step), so a run
    that is resumed draws exactly what it would have drawn: no generator's state can
    be lost, or be left out of a checkpoint.
    """
    text = f"{seed}:{purpose}:{index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


def negative_elbo(
    model: Any,
    x: Tensor,
    generator: torch.Generator,
    beta: float,
    rows: slice = slice(None),
) -> tuple[Tensor, Tensor]:
    """The loss with KL weight β, and −ELBO (β = 1), each a mean over the batch.

    With ``rows`` a mean over those of the batch, under the noise that they have in it.
    """
    noise = model.noise(len(x), generator)
    cut = tuple(e[rows] for e in noise) if isinstance(noise, tuple) else noise[rows]
    bound = model.bound(x[rows], cut)
    loss = -(bound.log_likelihood - beta * bound.kl.sum(1)).mean()
    return loss, -bound.elbo.detach().mean()


def fit(
    model: nn.Module,
    data: Data,
    config: TrainConfig,
    run_dir: str | Path,
    *,
    loss: Loss | None = None,
    progress: bool = True,
) -> History:
    """Train ``model`` on ``data.train``; resume where ``run_dir`` holds a checkpoint.

    On return the model holds the weights that ``config.keep`` asks for and is in
    evaluation mode. SIGINT and SIGTERM end the training after a checkpoint, with
    ``KeyboardInterrupt`` and ``SystemExit``; a second one ends it at once. ``loss`` is
    for a model that returns no ``Bound``: ``loss(model, images, labels, generator)``
    gives a scalar, and the validation column is its mean.

    Under ``torchrun`` every process calls this; ``config.batch_size`` is that of the
    whole job, and the first process alone writes into ``run_dir``. A ``loss`` that
    draws from its generator then draws other numbers than in a single process.

    Raises:
        TrainingStopped: after ten non-finite steps in a row; where the run directory
            belongs to another config, or another process trains in it.
        CheckpointError: where the disk refuses a checkpoint.
        ValueError: for an empty split, images of another shape than the model's, a
            likelihood that is not the protocol's, or fewer images in a batch than
            processes.
        WorkerLost: where another process of the job is gone.

    Example:
        >>> import tempfile
        >>> from drawlib import VAE, Data, Split, VAEConfig
        >>> from drawlib.data.protocols import Protocol
        >>> empty = Split(torch.zeros(4, 1, 28, 28, dtype=torch.uint8))
        >>> toy = Protocol("toy", "Four empty images.")
        >>> data = Data("toy", toy, empty, empty, empty)
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> config = TrainConfig(epochs=2, batch_size=2)
        >>> history = fit(model, data, config, tempfile.mkdtemp(), progress=False)
        >>> history.column("epoch")
        [1, 2]
    """
    run_dir = Path(run_dir)
    lock = FileLock(run_dir / ".lock")
    team = join(config.device)
    team.from_first(lambda: claim(run_dir, lock))
    try:
        if team.first:
            sweep(run_dir)
        with matmul_precision(config), stop_signals(team.size > 1) as asked:
            return train_loop(model, data, config, run_dir, loss, progress, asked, team)
    finally:
        lock.release()


def claim(run_dir: Path, lock: FileLock) -> None:
    """Make the run directory, and keep every other training out of it."""
    run_dir.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingStopped(f"another process trains in {run_dir}") from None


def train_loop(
    model: Any,
    data: Data,
    config: TrainConfig,
    run_dir: Path,
    loss: Loss | None,
    progress: bool,
    asked: dict[str, int],
    team: Team = ALONE,
) -> History:
    """The loop itself; ``asked`` is filled by a signal."""
    device = pick_device(team.device(config.device))
    model.to(device)
    data = data.to(device)
    images, labels = data.train.images, data.train.labels
    n, per_epoch = len(images), config.steps_per_epoch(len(images))
    for split in ("train", "valid"):
        if not len(data.split(split)):
            raise ValueError(f"the {split} split is empty; allowed: one image or more")
    if team.size > (batch := min(config.batch_size, n)):
        raise ValueError(
            f"a batch of {batch} is shared by {team.size} processes; "
            f"allowed: {team.size} images or more"
        )
    if loss is None:
        check_likelihood(model, data)
        look = torch.Generator(device).manual_seed(0)
        check_images(data.binarise(images[:1], look), model.image_shape)
    # What a classifier sees is made from the images, and has another mean.
    has_mean = data.likelihood != "classification"
    if config.start_at_mean and has_mean and hasattr(model, "start_at"):
        model.start_at(mean_image(data))
    team.prepare(model)
    if config.compile:
        accelerate(model)
    optimisers = make_optimisers(model, config, device)
    average = None
    if config.ema:
        average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
    state = RunState(run_dir, config, model, data, team)
    state.resume(model, optimisers, average, device)

    generator = torch.Generator(device)
    order = epoch_order(config, state.step // per_epoch, n)
    rows, share = team.rows(batch), team.share(batch)
    bar = tqdm(
        total=config.steps(n),
        initial=state.step,
        disable=not (progress and team.first),
        unit="step",
        smoothing=0.02,
    )
    with bar:
        while state.step < config.steps(n):
            started = time.perf_counter()
            epoch, at = divmod(state.step, per_epoch)
            if at == 0:
                order = epoch_order(config, epoch, n)
                if isinstance(model, LatentModel):
                    model.begin_epoch((epoch + 1) / config.epochs)
            index = order[at * config.batch_size : (at + 1) * config.batch_size]
            generator.manual_seed(derived_seed(config.seed, "step", state.step))
            index = index.to(device)
            x = data.binarise(images[index], generator)
            rate = config.learning_rate(state.step, n)

            model.train()
            buffers = [buffer.clone() for buffer in model.buffers()]
            optimisers.zero_grad()
            with torch.autocast(
                device.type, torch.bfloat16, enabled=config.precision == "bf16"
            ):
                if loss is None:
                    beta = config.kl_weight(state.step, n)
                    value, shown = negative_elbo(model, x, generator, beta, rows)
                else:
                    if not team.first:
                        # Or all would draw the same numbers for different images.
                        draw = f"step of rank {team.rank}"
                        seed = derived_seed(config.seed, draw, state.step)
                        generator.manual_seed(seed)
                    target = None if labels is None else labels[index][rows]
                    value = loss(model, x[rows], target, generator)
                    shown = value.detach()
            (value * share).backward()
            value, shown, stop = team.add_up(model, value, shown, asked, share)
            norm = clip_gradients(model, config)
            if torch.isfinite(value) and torch.isfinite(norm):
                optimisers.step(partial(config.learning_rate, state.step, n))
                if average is not None:
                    average.update_parameters(model)
                state.record(shown.item())
            else:
                # Running statistics have seen the bad batch: it must not stay there.
                for buffer, before in zip(model.buffers(), buffers, strict=True):
                    buffer.copy_(before)
                state.skip()
            state.step += 1
            state.seconds += time.perf_counter() - started
            bar.update()
            if state.step % 20 == 0:
                bar.set_postfix_str(f"−ELBO {state.smooth:.1f} nats", refresh=False)

            if state.step % per_epoch == 0:
                final = state.step == config.steps(n)
                if (epoch + 1) % config.evaluate_every == 0 or final:
                    started = time.perf_counter()
                    shown_model = model if average is None else average.module
                    valid = validate(shown_model, data, config, loss, device, team)
                    state.seconds += time.perf_counter() - started
                    state.log(epoch + 1, rate, valid, shown_model)
                    bar.set_postfix_str(
                        f"validation −ELBO {valid['valid']:.2f} nats", refresh=False
                    )
                if team.size == 1:
                    # Validation takes long: what came meanwhile counts, also after
                    # the last step, which no other one follows.
                    stop = dict(asked)
                state.save(model, optimisers, average)
            elif state.due() or stop:
                state.save(model, optimisers, average)
            if stop:
                team.wait()  # Whoever ends a job early ends the others of it too.
                message = f"stopped at step {state.step}; {run_dir} holds a checkpoint"
                if stop["signal"] == signal.SIGINT:
                    raise KeyboardInterrupt(message)
                raise Terminated(message)
    state.finish(model, average)
    return state.history()


def mean_image(data: Data) -> Tensor:
    """The mean training image in [0, 1], (channels, height, width)."""
    most = 1 if data.train.visit == "bits" else 255
    return data.train.images.float().mean(0) / most


def epoch_order(config: TrainConfig, epoch: int, n: int) -> Tensor:
    """The order of the training images in one epoch."""
    seed = derived_seed(config.seed, "order", epoch)
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def clip_gradients(model: nn.Module, config: TrainConfig) -> Tensor:
    """Clip as the config says; the global norm before clipping."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    limit = config.clip_norm if config.clip == "global" else math.inf
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    if config.clip == "tensor":
        for p in parameters:
            nn.utils.clip_grad_norm_([p], config.clip_norm)
    return norm


def validate(
    model: Any,
    data: Data,
    config: TrainConfig,
    loss: Loss | None,
    device: torch.device,
    team: Team = ALONE,
) -> dict[str, float]:
    """Bounds on the validation split, from fixed noise.

    The processes share the images out; a ``loss`` of one's own is computed by the
    first of them, since nobody knows which numbers it draws.
    """
    part = data.valid
    count = min(config.valid_images or len(part.images), len(part.images))
    with torch.autocast(
        device.type, torch.bfloat16, enabled=config.precision == "bf16"
    ):
        if loss is None:
            result = evaluate(
                model,
                data,
                "valid",
                samples=1,
                images=None if count == len(part.images) else count,
                seed=config.seed,
                team=team,
            )
            return {
                "valid": result.neg_elbo,
                "valid_se": result.neg_elbo_se,
                "valid_kl": result.kl,
                "valid_reconstruction": result.reconstruction,
            }
        return team.from_first(lambda: mean_loss(model, data, count, config, loss))


@torch.no_grad()
def mean_loss(
    model: Any, data: Data, count: int, config: TrainConfig, loss: Loss
) -> dict[str, float]:
    """The mean of a loss over ``count`` validation images."""
    model.eval()
    part, total = data.valid, 0.0
    generator = torch.Generator(part.images.device).manual_seed(config.seed)
    for block in stratified_subset(part, count, config.seed).split(500):
        x = data.binarise(part.images[block], generator, split="valid")
        y = None if part.labels is None else part.labels[block]
        total += loss(model, x, y, generator).item() * len(block)
    return {"valid": total / count}


@contextmanager
def matmul_precision(config: TrainConfig) -> Iterator[None]:
    """Allow faster float32 products for the length of a training."""
    before = torch.get_float32_matmul_precision()
    if config.precision != "float32":
        torch.set_float32_matmul_precision("medium")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
