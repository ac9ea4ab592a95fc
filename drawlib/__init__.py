"""drawlib: VAE, Ladder VAE, DRAW and what came after, in PyTorch, bounds in nats."""

import os

try:
    os.getcwd()
except FileNotFoundError:
    # PyTorch's mathematics library would end the process, with another reason.
    raise SystemExit(
        "drawlib: the current folder was deleted; allowed: one that is there"
    ) from None

from drawlib.bound import Bound, LatentModel
from drawlib.classifier import Classifier, ClassifierConfig
from drawlib.conv_draw import ConvDRAW, ConvDRAWConfig
from drawlib.data.download import DataError
from drawlib.data.protocols import DATASETS
from drawlib.data.sets import Data, Split, load_data, stratified_subset
from drawlib.diffusion import Diffusion, DiffusionConfig
from drawlib.draw import DRAW, DRAWConfig
from drawlib.evaluation import Evaluation, evaluate
from drawlib.fast.loop import accelerate
from drawlib.filters import Filters, filterbank, grid
from drawlib.gaussian import Gaussian, merge
from drawlib.glas import GLAS, GLASConfig
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.machine.distributed import WorkerLost
from drawlib.mistakes.planting import MISTAKES, planted
from drawlib.results.zoo import load_pretrained, published, records
from drawlib.trace import Trace
from drawlib.training.runstate import History, TrainingStopped
from drawlib.training.schedule import TrainConfig
from drawlib.training.train import fit
from drawlib.vae import VAE, VAEConfig

__all__ = [
    "DATASETS",
    "DRAW",
    "GLAS",
    "MISTAKES",
    "VAE",
    "Bound",
    "Classifier",
    "ClassifierConfig",
    "ConvDRAW",
    "ConvDRAWConfig",
    "DRAWConfig",
    "Data",
    "DataError",
    "Diffusion",
    "DiffusionConfig",
    "Evaluation",
    "Filters",
    "GLASConfig",
    "Gaussian",
    "History",
    "LadderConfig",
    "LadderVAE",
    "LatentModel",
    "Split",
    "Trace",
    "TrainConfig",
    "TrainingStopped",
    "VAEConfig",
    "WorkerLost",
    "accelerate",
    "evaluate",
    "filterbank",
    "fit",
    "grid",
    "load_data",
    "load_pretrained",
    "merge",
    "planted",
    "published",
    "records",
    "stratified_subset",
]
