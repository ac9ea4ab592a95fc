"""The data sets by name: what each name stands for, its source and its licence.

A likelihood means nothing without its protocol: which images, cut into which splits,
made binary in which way. So the name of a data set fixes all three. Bits are drawn by
`drawlib.data.sets.Data.binarise` at each visit, or once by `drawlib.data.draws`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

__all__ = ["DATASETS", "Protocol"]


@dataclass(frozen=True)
class Protocol:
    """What a data set's name stands for; `str(protocol)` is the sentence.

    `binarisation` is "fixed" (the same bits at every visit), "dynamic" (training images
    are Bernoulli-sampled anew at each visit) or "none". `likelihood` is "bernoulli",
    "discretised-logistic" (8-bit colour, in bits per dimension), "categorical" (one of
    the channels at each place: letters) or "classification".
    `sizes` counts the training, validation and test images.

    >>> print(DATASETS["mnist-dynamic"].binarisation, DATASETS["mnist-dynamic"].sizes)
    dynamic (50000, 10000, 10000)
    """

    name: str
    sentence: str
    image_shape: tuple[int, int, int] = (1, 28, 28)
    binarisation: Literal["fixed", "dynamic", "none"] = "fixed"
    likelihood: Literal[
        "bernoulli", "discretised-logistic", "categorical", "classification"
    ] = "bernoulli"
    sizes: tuple[int, int, int] = (0, 0, 0)
    source: str = ""
    licence: str = ""

    def __str__(self) -> str:
        return self.sentence


_LECUN = (
    "LeCun, Bottou, Bengio & Haffner, Gradient-based learning applied to document "
    "recognition, Proceedings of the IEEE 86(11), 1998"
)
_MNIST_LICENCE = "redistributed by others under CC BY-SA 3.0; the originals name none"
_CIFAR = "Krizhevsky, Learning multiple layers of features from tiny images, 2009"
_CIFAR_LICENCE = "none named; the authors ask for the citation"
_LAKE = (
    "Lake, Salakhutdinov & Tenenbaum, Human-level concept learning through "
    "probabilistic program induction, Science 350, 2015"
)

_PROTOCOLS = (
    Protocol(
        "mnist-fixed",
        "MNIST in the fixed binarisation of Larochelle and Murray: the same bits at "
        "every visit, 50,000 training, 10,000 validation and 10,000 test images; its "
        "test images are sorted by class, so a subset is drawn and never the first.",
        sizes=(50_000, 10_000, 10_000),
        source="Larochelle & Murray, The neural autoregressive distribution "
        "estimator, AISTATS 2011; Salakhutdinov & Murray, ICML 2008; " + _LECUN,
        licence=_MNIST_LICENCE,
    ),
    Protocol(
        "mnist-dynamic",
        "Grey MNIST, Bernoulli-sampled anew at each visit in training; validation and "
        "test bits drawn once from a fixed seed; the official 60,000 training images "
        "are cut 50,000/10,000 by a seeded permutation, 10,000 official test images.",
        binarisation="dynamic",
        sizes=(50_000, 10_000, 10_000),
        source=_LECUN,
        licence=_MNIST_LICENCE,
    ),
    Protocol(
        "mnist-dynamic-60k",
        "As mnist-dynamic, but trained on all 60,000 official training images, as many "
        "papers do: its validation images are those of mnist-dynamic, and are trained "
        "on too, so their bound shows no overfitting and may choose nothing; the test "
        "images and their bits are those of mnist-dynamic.",
        binarisation="dynamic",
        sizes=(60_000, 10_000, 10_000),
        source=_LECUN,
        licence=_MNIST_LICENCE,
    ),
    Protocol(
        "omniglot",
        "Omniglot at 28x28 as Burda, Grosse and Salakhutdinov prepared it, "
        "Bernoulli-sampled anew at each visit in training; validation and test bits "
        "drawn once from a fixed seed; 23,000 training and 1,345 validation images by "
        "a seeded permutation (not the tail of the ordered file), 8,070 test images.",
        binarisation="dynamic",
        sizes=(23_000, 1_345, 8_070),
        source="Burda, Grosse & Salakhutdinov, Importance weighted autoencoders, "
        "ICLR 2016 (chardata.mat); " + _LAKE,
        licence="MIT (Omniglot)",
    ),
    Protocol(
        "omniglot-ours",
        "Omniglot area-resized by us from 105x105 to 28x28, Bernoulli-sampled anew at "
        "each visit in training; validation and test bits drawn once from a fixed "
        "seed; drawers 1-13 train, 14-15 validation, 16-20 test: not comparable with "
        "published numbers.",
        binarisation="dynamic",
        sizes=(21_099, 3_246, 8_115),
        source=_LAKE,
        licence="MIT (Omniglot)",
    ),
    Protocol(
        "cifar10",
        "CIFAR-10 in colour, 8 bits per channel, 45,000 training and 5,000 validation "
        "images by a seeded permutation of the official 50,000, 10,000 test images; "
        "discretised logistic likelihood, in bits per dimension.",
        image_shape=(3, 32, 32),
        binarisation="none",
        likelihood="discretised-logistic",
        sizes=(45_000, 5_000, 10_000),
        source=_CIFAR,
        licence=_CIFAR_LICENCE,
    ),
    Protocol(
        "cifar10-10k",
        "The first 10,000 training images of CIFAR-10 (9,000 to train on, the last "
        "1,000 for validation) and its first 2,000 test images: a development subset, "
        "not comparable with published numbers; discretised logistic likelihood, in "
        "bits per dimension.",
        image_shape=(3, 32, 32),
        binarisation="none",
        likelihood="discretised-logistic",
        sizes=(9_000, 1_000, 2_000),
        source=_CIFAR,
        licence=_CIFAR_LICENCE,
    ),
    Protocol(
        "cluttered-mnist",
        "MNIST digits at random places of a 100x100 image among 8x8 fragments of "
        "other digits; training images are made anew at each visit, validation and "
        "test images once from a fixed seed; the split is that of mnist-dynamic.",
        image_shape=(1, 100, 100),
        binarisation="none",
        likelihood="classification",
        sizes=(50_000, 10_000, 10_000),
        source="the task of Mnih, Heess, Graves & Kavukcuoglu, Recurrent models of "
        "visual attention, NeurIPS 2014, made anew by us; " + _LECUN,
        licence=_MNIST_LICENCE,
    ),
    Protocol(
        "mnist-two",
        "Two MNIST digits at random places of a 60x60 image; where they overlap their "
        "grey levels are added and cut off at white; Bernoulli-sampled. In training "
        "each digit meets another one, places and bits anew at each visit; validation "
        "and test images are made once from a fixed seed, of digits of their own "
        "split, which is that of mnist-dynamic. No number was published.",
        image_shape=(1, 60, 60),
        binarisation="dynamic",
        sizes=(50_000, 10_000, 10_000),
        source="the images of Gregor, Danihelka, Graves, Rezende & Wierstra, DRAW: a "
        "recurrent neural network for image generation, ICML 2015, made anew by us; "
        + _LECUN,
        licence=_MNIST_LICENCE,
    ),
    Protocol(
        "surnames",
        "The 88,799 most frequent surnames of the US census of 1990, each once, "
        "whatever its frequency: 71,041 training, 8,879 validation and 8,879 test "
        "names by a seeded permutation; 2 to 13 letters A-Z and an end at 1x13 places "
        "of 27 channels (the file cuts longer names at 13).",
        image_shape=(27, 1, 13),
        likelihood="categorical",
        sizes=(71_041, 8_879, 8_879),
        source="US Census Bureau, Frequently occurring surnames in the 1990 census, "
        "file dist.all.last; in the package names 0.3.0",
        licence="public domain (a work of the US government)",
    ),
)
DATASETS: Mapping[str, Protocol] = MappingProxyType({p.name: p for p in _PROTOCOLS})
"""Every data set that `load_data` knows, by name."""
