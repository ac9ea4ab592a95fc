"""drawlib: VAE, Ladder VAE, DRAW and GLAS, in PyTorch, with their bounds in nats."""

from drawlib.bound import Bound, LatentModel
from drawlib.classifier import Classifier, ClassifierConfig
from drawlib.data import DATASETS, Data, DataError, Split, load_data, stratified_subset
from drawlib.distributed import WorkerLost
from drawlib.draw import DRAW, DRAWConfig
from drawlib.evaluate import Evaluation, evaluate
from drawlib.filterbank import Filters, filterbank, grid
from drawlib.gaussian import Gaussian, merge
from drawlib.glas import GLAS, GLASConfig
from drawlib.ladder import LadderConfig, LadderVAE
from drawlib.mistakes import MISTAKES, planted
from drawlib.runstate import History, TrainingStopped
from drawlib.schedule import TrainConfig
from drawlib.trace import Trace
from drawlib.train import fit
from drawlib.vae import VAE, VAEConfig
from drawlib.zoo import load_pretrained, published, records

__all__ = [
    "DATASETS",
    "DRAW",
    "GLAS",
    "MISTAKES",
    "VAE",
    "Bound",
    "Classifier",
    "ClassifierConfig",
    "DRAWConfig",
    "Data",
    "DataError",
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
