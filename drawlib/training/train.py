"""Training: one plain loop that knows the model contract and no model by name."""

from __future__ import annotations

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

from drawlib.bound import LatentModel, check_images
from drawlib.config import of_kind
from drawlib.data.sets import Data
from drawlib.evaluation import check_likelihood, check_values
from drawlib.fast.loop import accelerate
from drawlib.likelihood import with_bits
from drawlib.machine.device import pick_device
from drawlib.machine.distributed import ALONE, Team, join
from drawlib.machine.files import path_of, sweep
from drawlib.machine.progress import progress_bar
from drawlib.machine.settings import for_training
from drawlib.machine.stopping import Terminated, stop_signals
from drawlib.training.optimisers import make_optimisers
from drawlib.training.runstate import History, RunState, TrainingStopped
from drawlib.training.schedule import TrainConfig, derived_seed, epoch_order
from drawlib.training.statistics import Statistics
from drawlib.training.validation import Loss, validate

__all__ = ["History", "TrainConfig", "TrainingStopped", "fit", "pick_device"]

OnEpoch = Callable[[dict[str, float]], object]


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
    noise = model.training_noise(len(x), generator)
    cut = tuple(e[rows] for e in noise) if isinstance(noise, tuple) else noise[rows]
    bound = model.training_bound(x[rows], cut)
    loss = -(bound.log_likelihood - beta * bound.kl.sum(1)).mean()
    return loss, -bound.elbo.detach().mean()


def fit(
    model: nn.Module,
    data: Data,
    config: TrainConfig,
    run_dir: str | Path,
    *,
    loss: Loss | None = None,
    start: str = "",
    on_epoch: OnEpoch | None = None,
    progress: bool = True,
) -> History:
    """Train ``model`` on ``data.train``; resume where ``run_dir`` holds a checkpoint.

    On return the model holds the weights that ``config.keep`` asks for and is in
    evaluation mode. SIGINT and SIGTERM end the training after a checkpoint, with
    ``KeyboardInterrupt`` and ``SystemExit``; a second one ends it at once. ``loss`` is
    for a model that returns no ``Bound``: ``loss(model, images, labels, generator)``
    gives a scalar, and the validation column is its mean. ``start`` is the sha256
    of the weights that ``model`` brings from an earlier training: its output bias then
    stays as it is, and a training that begins with others is refused the directory.

    Under ``torchrun`` every process calls this; ``config.batch_size`` is that of the
    whole job, and the first process alone writes into ``run_dir``. A ``loss`` that
    draws from its generator then draws other numbers than in a single process.

    ``on_epoch`` is called in the first process with each new row of the log, once it
    and a checkpoint are written. For example TensorBoard, where it is installed::

        writer = SummaryWriter(run_dir)  # from torch.utils.tensorboard
        def show(row):
            for name, value in row.items():
                writer.add_scalar(name, value, row["step"])
        fit(model, data, config, run_dir, on_epoch=show)

    Raises:
        TrainingStopped: after ten non-finite steps in a row; where the run directory
            belongs to another config or loss, or another process trains in it.
        CheckpointError: where the disk refuses a checkpoint.
        ValueError: for splits as ``Data.check`` has it, images of another shape than
            the model's, a likelihood that is not the protocol's, weights that are not
            finite, or a batch that is too small for the processes or for batch norm.
        WorkerLost: where another process of the job is gone.

    Example:
        >>> import tempfile
        >>> from drawlib import VAE, VAEConfig
        >>> data = Data.from_arrays(torch.zeros(40, 28, 28, dtype=torch.bool))
        >>> model = VAE(VAEConfig.preset("tiny"))
        >>> config = TrainConfig(epochs=2, batch_size=2)
        >>> history = fit(model, data, config, tempfile.mkdtemp(), progress=False)
        >>> history.column("epoch")
        [1, 2]
    """
    of_kind("config", config, TrainConfig, "a TrainConfig")
    for name, call in {"loss": loss, "on_epoch": on_epoch}.items():
        if call is not None and not callable(call):
            raise TypeError(f"{name} is {call!r:.60}; allowed: a function, or None")
    run_dir = path_of("run_dir", run_dir)
    lock = FileLock(run_dir / ".lock")
    team = join(config.device)
    device, dtype = pick_device(team.device(config.device)), dtype_of(model)
    # What is refused leaves no directory behind.
    with for_training(device, dtype, config.precision):
        check(model, data, loss)
        team.check_batch(min(config.batch_size, len(data.train)), model, device)
    team.from_first(lambda: claim(run_dir, lock))
    try:
        if team.first:
            sweep(run_dir)
        settings = for_training(device, dtype, config.precision)
        with settings, stop_signals(team.size > 1) as asked:
            training = Training(model, data, config, run_dir, device, loss, team, start)
            return train_loop(training, asked, progress, on_epoch)
    finally:
        lock.release()


def claim(run_dir: Path, lock: FileLock) -> None:
    """Make the run directory, and keep every other training out of it."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "there is a file" if run_dir.is_file() else error.strerror
        raise type(error)(f"{run_dir} cannot be a run directory: {reason}") from None
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise TrainingStopped(f"another process trains in {run_dir}") from None


def train_loop(
    training: Training, asked: dict[str, int], progress: bool, on_epoch: OnEpoch | None
) -> History:
    """The loop itself; ``asked`` is filled by a signal."""
    state, team = training.state, training.team
    bar = progress_bar(
        desc=str(state.path.parent),
        total=training.steps,
        initial=state.step,
        disable=not (progress and team.first),
        unit="step",
        smoothing=0.02,
    )
    with bar:
        while state.step < training.steps:
            # One step
            started = time.perf_counter()
            value, shown = training.backward(training.batch())
            value, shown, stop = team.add_up(
                training.model, value, shown, asked, training.share
            )
            training.update(value, shown)
            state.step += 1
            state.seconds += time.perf_counter() - started
            bar.update()
            if state.step % 20 == 0:
                told = f"−ELBO {state.smooth:.1f} nats"
                told = with_bits(told, state.smooth, training.data.dimensions)
                bar.set_postfix_str(told, refresh=False)

            # The end of an epoch
            row = None
            if state.step % training.per_epoch == 0:
                if row := training.evaluate():
                    told = f"validation −ELBO {row['valid']:.2f} nats"
                    told = with_bits(told, row["valid"], training.data.dimensions)
                    bar.set_postfix_str(told, refresh=False)
                # Validation takes long: what came meanwhile counts, also after the
                # last step, which no other one follows.
                stop = dict(asked) if team.size == 1 else stop
                training.save()
            elif state.due() or stop:
                training.save()
            if row:
                team.from_first(partial(tell, on_epoch, row))

            # Stop
            if stop:
                team.wait()  # Whoever ends a job early ends the others of it too.
                raise stopped(stop["signal"], state)
    return training.finish()


class Training:
    """A model that is being trained: what a step and the end of an epoch do to it."""

    def __init__(
        self,
        model: Any,
        data: Data,
        config: TrainConfig,
        run_dir: Path,
        device: torch.device,
        loss: Loss | None = None,
        team: Team = ALONE,
        start: str = "",
    ) -> None:
        self.model, self.config, self.loss, self.team = model, config, loss, team
        self.device, self.dtype = device, dtype_of(model)
        model.to(self.device)
        self.data = data = data.to(self.device)
        self.n = n = len(data.train)
        size = min(config.batch_size, n)
        # What a classifier sees is made from the images, and has another mean.
        has_mean = data.likelihood != "classification"
        at_mean = config.start_at_mean and has_mean and not start
        if at_mean and hasattr(model, "start_at"):
            model.start_at(mean_image(data))
        team.prepare(model)
        if config.compile:
            accelerate(model, config.recompute)
        self.per_epoch, self.steps = config.steps_per_epoch(n), config.steps(n)
        self.rows, self.share = team.rows(size), team.share(size)
        self.optimisers = make_optimisers(model, config, self.device)
        self.average = average_of(model, config.ema)
        learned = name_of(loss)
        self.state = RunState(run_dir, config, model, data, team, start, learned)
        self.state.resume(model, self.optimisers, self.average, self.device)
        if not self.state.step:  # a checkpoint would have put others in their place
            check_finite(model)
        self.generator = torch.Generator(self.device)
        self.order = epoch_order(config, self.state.step // self.per_epoch, n)
        self.statistics = Statistics(model)

    @property
    def epoch(self) -> int:
        """Of the next step, counted from 0."""
        return self.state.step // self.per_epoch

    @contextmanager
    def mixed(self) -> Iterator[None]:
        """Where ``bf16`` is asked for, products are computed in it."""
        bf16 = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            yield
        # Rounded weights are kept until the outermost autocast ends, which may be the
        # caller's; the next step has others.
        torch.clear_autocast_cache()

    def batch(self) -> tuple[Tensor, Tensor | None]:
        """The images of the next step, binarised, and their labels.

        A new epoch begins with an order of its own, and the model hears of it.
        """
        config, step = self.config, self.state.step
        if step % self.per_epoch == 0:
            self.order = epoch_order(config, self.epoch, self.n)
            # What the model shows of itself is no weight: an average would blur it.
            average = [] if self.average is None else [self.average.module]
            for model in (self.model, *average):
                if isinstance(model, LatentModel):
                    model.begin_epoch((self.epoch + 1) / config.epochs)
        at = step % self.per_epoch * config.batch_size
        index = self.order[at : at + config.batch_size].to(self.device)
        self.generator.manual_seed(derived_seed(config.seed, "step", step))
        images, labels = self.data.train.images, self.data.train.labels
        x = self.data.binarise(images[index], self.generator).to(self.dtype)
        return x, None if labels is None else labels[index]

    def backward(self, batch: tuple[Tensor, Tensor | None]) -> tuple[Tensor, Tensor]:
        """This process's gradients for a batch; its loss and −ELBO, means over rows."""
        (x, labels), rows, step = batch, self.rows, self.state.step
        self.model.train()
        self.statistics.remember()
        self.optimisers.zero_grad()
        with self.mixed():
            if self.loss is None:
                beta = self.config.kl_weight(step, self.n)
                value, shown = negative_elbo(self.model, x, self.generator, beta, rows)
            else:
                if not self.team.first:
                    # Or all would draw the same numbers for different images.
                    draw = f"step of rank {self.team.rank}"
                    seed = derived_seed(self.config.seed, draw, step)
                    self.generator.manual_seed(seed)
                target = None if labels is None else labels[rows]
                value = self.loss(self.model, x[rows], target, self.generator)
                check_loss(value)
                shown = value.detach()
        (value * self.share).backward()
        return value, shown

    def update(self, value: Tensor, shown: Tensor) -> None:
        """Step by the gradients of the whole job, or leave no trace of bad ones."""
        norm = clip_gradients(self.model, self.config)
        if torch.isfinite(value) and torch.isfinite(norm):
            rate = partial(self.config.learning_rate, self.state.step, self.n)
            self.optimisers.step(rate)
            if self.average is not None:
                self.average.update_parameters(self.model)
            self.statistics.keep()
            self.state.record(shown.item())
        else:
            self.statistics.put_back()
            self.state.skip()

    def evaluate(self) -> dict[str, float] | None:
        """The row of the epoch that has ended, logged; None where none is due."""
        config, state = self.config, self.state
        if self.epoch % config.evaluate_every and state.step != self.steps:
            return None
        started = time.perf_counter()
        model = self.model if self.average is None else self.average.module
        valid = validate(model, self.data, config, self.loss, self.team)
        state.seconds += time.perf_counter() - started
        rate = config.learning_rate(state.step - 1, self.n)
        return state.log(self.epoch, rate, valid, model)

    def save(self) -> None:
        """Write a checkpoint."""
        self.state.save(self.model, self.optimisers, self.average)

    def finish(self) -> History:
        """Leave the weights that were asked for in the model; the log."""
        self.state.finish(self.model, self.average)
        return self.state.history()


def name_of(loss: Loss | None) -> str:
    """What a checkpoint remembers of the loss: −ELBO, or the name of somebody's own.

    Example:
        >>> name_of(None), name_of(nn.functional.cross_entropy)
        ('−ELBO', 'cross_entropy')
    """
    if loss is None:
        return "−ELBO"
    return str(getattr(loss, "__qualname__", type(loss).__name__))


def check_loss(value: Any) -> None:
    """Refuse what nothing can be learned from.

    Raises:
        TypeError: for anything but one number that depends on the weights.

    Example:
        >>> check_loss(torch.zeros(2, requires_grad=True))
        Traceback (most recent call last):
        TypeError: loss gave a tensor of shape (2,); allowed: a tensor of shape () ...
    """
    given = type(value).__name__
    if isinstance(value, Tensor):
        free = "" if value.requires_grad else " that no weight is part of"
        given = f"tensor of shape {tuple(value.shape)}{free}"
        if value.ndim == 0 and value.requires_grad:
            return
    raise TypeError(
        f"loss gave a {given}; allowed: a tensor of shape () that depends on the "
        "weights, such as a mean over the images"
    )


def check(model: Any, data: Data, loss: Loss | None) -> None:
    """Refuse what cannot be trained on, before the first step."""
    if loss is not None:
        data.check("train", "valid")
        return
    check_likelihood(model, data, "train", "valid")
    if not any(p.requires_grad for p in model.parameters()):
        name = type(model).__name__
        raise ValueError(
            f"no weight of this {name} learns: requires_grad is False; allowed: "
            "model.requires_grad_()"
        )
    images = data.train.images[:1]
    look = torch.Generator(images.device).manual_seed(0)
    check_images(data.binarise(images, look), model.image_shape)


def dtype_of(model: nn.Module) -> torch.dtype:
    """The type of a model's weights.

    Raises:
        ValueError: for weights that PyTorch lets nobody train.
    """
    check_values(model)
    weights = list(model.parameters())
    if any(p.is_inference() for p in weights):
        raise ValueError(
            f"{type(model).__name__} was built under torch.inference_mode(), so its "
            "weights cannot be trained; build it outside, as under torch.no_grad()"
        )
    return weights[0].dtype


def check_finite(model: nn.Module) -> None:
    """Refuse to begin with weights from which no step is finite.

    Raises:
        ValueError: with the first one that is not finite.

    Example:
        >>> model = nn.Linear(1, 1)
        >>> _ = nn.init.constant_(model.bias, math.nan)
        >>> check_finite(model)
        Traceback (most recent call last):
        ValueError: bias of Linear is not finite; allowed: finite weights
    """
    for name, weight in model.named_parameters():
        if not weight.isfinite().all():
            kind = type(model).__name__
            raise ValueError(f"{name} of {kind} is not finite; allowed: finite weights")


def average_of(model: nn.Module, decay: float) -> AveragedModel | None:
    """The exponential average of the weights; none where the decay is 0."""
    if not decay:
        return None
    how = get_ema_multi_avg_fn(decay)
    return AveragedModel(model, multi_avg_fn=how, use_buffers=True)


def tell(on_epoch: OnEpoch | None, row: dict[str, float]) -> None:
    """Give a logger a row of its own, which it may change."""
    if on_epoch is not None:
        on_epoch(dict(row))


def stopped(number: int, state: RunState) -> BaseException:
    """What ends a training that a signal has asked to end."""
    where = state.path.parent
    message = f"stopped at step {state.step}; {where} holds a checkpoint"
    kind = KeyboardInterrupt if number == signal.SIGINT else Terminated
    return kind(message)


def mean_image(data: Data) -> Tensor:
    """The mean training image in [0, 1], (channels, height, width)."""
    if data.train.visit == "two":  # the images are made of digits at each visit
        look = torch.Generator(data.train.images.device).manual_seed(0)
        return data.binarise(data.train.images[:5000], look).mean(0)
    most = 1 if data.train.visit == "bits" else 255
    return data.train.images.float().mean(0) / most


def clip_gradients(model: nn.Module, config: TrainConfig) -> Tensor:
    """Clip as the config says; the global norm before clipping."""
    parameters = [p for p in model.parameters() if p.grad is not None]
    limit = config.clip_norm if config.clip == "global" else math.inf
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    if config.clip == "tensor":
        for p in parameters:
            nn.utils.clip_grad_norm_([p], config.clip_norm)
    return norm
