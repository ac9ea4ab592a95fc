"""Training: one plain loop that knows the model contract and no model by name."""

from __future__ import annotations

import hashlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from tqdm.auto import tqdm

from drawlib import checkpoint
from drawlib.bound import LatentModel, check_images
from drawlib.data import Data, stratified_subset
from drawlib.evaluate import evaluate
from drawlib.runstate import History, RunState, TrainingStopped
from drawlib.schedule import TrainConfig

__all__ = [
    "History",
    "Terminated",
    "TrainConfig",
    "TrainingStopped",
    "fit",
    "pick_device",
]


class Terminated(SystemExit):
    """SIGTERM came, and the training ended after it had saved a checkpoint."""

    def __init__(self, message: str) -> None:
        super().__init__(128 + signal.SIGTERM)
        self.message = message

    def __str__(self) -> str:
        return self.message


Loss = Callable[[nn.Module, Tensor, Tensor | None, torch.Generator], Tensor]


def pick_device(name: str) -> torch.device:
    """``auto`` is a GPU where there is one; anything else is taken as it stands.

    Raises:
        ValueError: for a name that is no device, or one that this machine lacks.

    Example:
        >>> pick_device("cpu")
        device(type='cpu')
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(
            f"device is {name!r}; allowed: auto, cpu, or a GPU of this machine"
        ) from error
    return device


def derived_seed(seed: int, purpose: str, index: int) -> int:
    """A 32-bit seed for one step or epoch, the same in every process.

    Every random number of a training is a pure function of (seed, step), so a run
    that is resumed draws exactly what it would have drawn: no generator's state can
    be lost, or be left out of a checkpoint.
    """
    text = f"{seed}:{purpose}:{index}".encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


def negative_elbo(
    model: Any, x: Tensor, generator: torch.Generator, beta: float
) -> tuple[Tensor, Tensor]:
    """The loss with KL weight β, and −ELBO (β = 1), each a mean over the batch."""
    bound = model.bound(x, model.noise(len(x), generator))
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

    Raises:
        TrainingStopped: after ten non-finite steps in a row; where the run directory
            belongs to another config, or another process trains in it.
        CheckpointError: where the disk refuses a checkpoint.
        ValueError: for an empty split, or images of another shape than the model's.

    Example:
        >>> from drawlib import VAE, VAEConfig, load_data
        >>> data = load_data("mnist-dynamic")  # doctest: +SKIP
        >>> fit(VAE(), data, TrainConfig(epochs=1), "runs/vae")  # doctest: +SKIP
    """
    run_dir = Path(run_dir)
    run_dir.mkdir(parents=True, exist_ok=True)
    lock = FileLock(run_dir / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingStopped(f"another process trains in {run_dir}") from None
    try:
        checkpoint.sweep(run_dir)
        with matmul_precision(config), stop_signals() as stop:
            return train_loop(model, data, config, run_dir, loss, progress, stop)
    finally:
        lock.release()


def train_loop(
    model: Any,
    data: Data,
    config: TrainConfig,
    run_dir: Path,
    loss: Loss | None,
    progress: bool,
    stop: dict[str, int],
) -> History:
    """The loop itself; ``stop`` is filled by a signal."""
    device = pick_device(config.device)
    model.to(device)
    data = data.to(device)
    images, labels = data.train.images, data.train.labels
    n, per_epoch = len(images), config.steps_per_epoch(len(images))
    for split in ("train", "valid"):
        if not len(data.split(split)):
            raise ValueError(f"the {split} split is empty; allowed: one image or more")
    if loss is None:
        look = torch.Generator(device).manual_seed(0)
        check_images(data.binarise(images[:1], look), model.image_shape)
    if config.start_at_mean and hasattr(model, "start_at"):
        model.start_at(mean_image(data))
    if config.compile and hasattr(model, "compile_hot"):
        model.compile_hot()
    optimiser = torch.optim.Adam(
        model.parameters(),
        config.lr,
        (config.beta1, config.beta2),
        config.eps,
        # One kernel for the whole update, where the backend has it.
        fused=device.type in ("cpu", "cuda"),
    )
    average = None
    if config.ema:
        average = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(config.ema), use_buffers=True
        )
    state = RunState(run_dir, config, model, data)
    state.resume(model, optimiser, average, device)

    generator = torch.Generator(device)
    order = epoch_order(config, state.step // per_epoch, n)
    bar = tqdm(
        total=config.steps(n),
        initial=state.step,
        disable=not progress,
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
            for group in optimiser.param_groups:
                group["lr"] = rate

            model.train()
            buffers = [buffer.clone() for buffer in model.buffers()]
            optimiser.zero_grad(set_to_none=True)
            with torch.autocast(
                device.type, torch.bfloat16, enabled=config.precision == "bf16"
            ):
                if loss is None:
                    beta = config.kl_weight(state.step, n)
                    value, shown = negative_elbo(model, x, generator, beta)
                else:
                    target = None if labels is None else labels[index]
                    value = loss(model, x, target, generator)
                    shown = value.detach()
            value.backward()
            norm = clip_gradients(model, config)
            if torch.isfinite(value) and torch.isfinite(norm):
                optimiser.step()
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
                    valid = validate(shown_model, data, config, loss, device)
                    state.seconds += time.perf_counter() - started
                    state.log(epoch + 1, rate, valid, shown_model)
                    bar.set_postfix_str(
                        f"validation −ELBO {valid['valid']:.2f} nats", refresh=False
                    )
                state.save(model, optimiser, average)
            elif state.due() or stop:
                state.save(model, optimiser, average)
            if stop:
                message = f"stopped at step {state.step}; {run_dir} holds a checkpoint"
                if stop["signal"] == signal.SIGINT:
                    raise KeyboardInterrupt(message)
                raise Terminated(message)
    state.finish(model, average)
    return History.read(run_dir)


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
) -> dict[str, float]:
    """Bounds on the validation split, from fixed noise."""
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
            )
            return {
                "valid": result.neg_elbo,
                "valid_se": result.neg_elbo_se,
                "valid_kl": result.kl,
                "valid_reconstruction": result.reconstruction,
            }
        model.eval()
        generator = torch.Generator(device).manual_seed(config.seed)
        total = 0.0
        with torch.no_grad():
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


@contextmanager
def stop_signals() -> Iterator[dict[str, int]]:
    """Turn SIGINT and SIGTERM into a request that the loop honours after its step.

    A second signal acts as it did before: whoever is in a hurry is not held up, and
    the checkpoint on the disk is whole at any moment.
    """
    stop: dict[str, int] = {}
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    # None stands for a handler that was not installed from Python.
    before = {
        number: signal.getsignal(number) or signal.SIG_DFL
        for number in (signal.SIGINT, signal.SIGTERM)
    }

    def ask(number: int, frame: Any) -> None:
        stop["signal"] = number
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in before:
            signal.signal(number, ask)
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
