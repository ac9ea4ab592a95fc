"""The grid of filters through which DRAW and GLAS look at an image, and write on one.

Five raw numbers per image place an N × N grid of one-dimensional filters: two for the
grid's centre, one for the filters' width, one for their spacing, one for the intensity.
The equations are those of the DRAW paper (Gregor et al. 2015, arXiv:1502.04623), moved
from its 1-based pixels to pixels 0 … A−1. The Cauchy kernel, the `legacy` grid and the
`floor` normalisation are those of the GLAS code (github.com/dojoteef/glas).

Each step is a small function of this module, looked up when it is called, so that one
step can be exchanged for a faulty one, and the effect of the mistake be measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Size = tuple[int, int]
Images = Float[Tensor, "batch channels height width"]
Patches = Float[Tensor, "batch channels patch patch"]
Centres = Float[Tensor, "batch patch"]

KERNELS = ("gaussian", "cauchy")
NORMALISERS = ("exact", "floor")


@dataclass(frozen=True, eq=False)
class Filters:
    """One pair of filter matrices per image, ready to read and to write.

    `F_x[n, i, a]` is the weight of image n's column a in column i of its patch, and
    `F_y[n, j, b]` that of row b in row j; `mu_x`, `mu_y` are the filters' centres in
    pixels from 0, `gamma` the intensity. Results have the filters' dtype.

    >>> filterbank(torch.zeros(1, 5), (28, 28), patch=3).mu_x
    tensor([[ 0.0000, 13.5000, 27.0000]])
    """

    F_x: Float[Tensor, "batch patch width"]
    F_y: Float[Tensor, "batch patch height"]
    gamma: Float[Tensor, " batch"]
    mu_x: Centres
    mu_y: Centres

    def read(self, images: Images) -> Patches:
        """Read a patch: γ F_Y x F_Xᵀ, the same filters for each channel.

        DRAW paper, eq. (27); a model stacks x and x̂ as channels.
        Raises ValueError if the images are not of the filters' size and number.

        >>> filters = filterbank(torch.zeros(2, 5), (28, 20), patch=5)
        >>> filters.read(torch.ones(2, 3, 28, 20)).shape
        torch.Size([2, 3, 5, 5])
        """
        _check_stack("images", images, self, self.F_y.shape[2], self.F_x.shape[2])
        return _read(self.F_y, images, self.F_x, self.gamma)

    def write(self, patches: Patches) -> Images:
        """Write a patch: (1/γ) F_Yᵀ w F_X, the adjoint of reading up to γ².

        DRAW paper, eq. (29).
        Raises ValueError if the patches are not of the filters' size and number.

        >>> filters = filterbank(torch.zeros(2, 5), (28, 20), patch=5)
        >>> filters.write(torch.ones(2, 1, 5, 5)).shape
        torch.Size([2, 1, 28, 20])
        """
        _check_stack("patches", patches, self, self.F_y.shape[1], self.F_x.shape[1])
        return _write(self.F_y, patches, self.F_x, self.gamma)

    @classmethod
    def from_centres(
        cls,
        mu_x: Centres,
        mu_y: Centres,
        width: Float[Tensor, " batch"],
        gamma: Float[Tensor, " batch"],
        size: Size,
        kernel: str = "gaussian",
        normalise: str = "exact",
        floor: float = 1e-3,
    ) -> Filters:
        """Build filters on any grid: one centre per row and per column of the patch.

        `width` is the squared width of a filter, σ² or s², and `gamma` the intensity:
        positive numbers, where `filterbank` takes their logarithms. `size` = (height,
        width) of the image. Equations, the other arguments and errors: `filterbank`.

        >>> centres = torch.tensor([[0.0, 2.0, 4.0]])
        >>> one = torch.ones(1)
        >>> Filters.from_centres(centres, centres, one, one, (5, 5)).F_x.shape
        torch.Size([1, 3, 5])
        """
        _check_names(kernel, normalise, floor)
        one, four = mu_x.shape, [tuple(t.shape) for t in (mu_x, mu_y, width, gamma)]
        if len(one) != 2 or four != [one, one, one[:1], one[:1]]:
            allowed = "mu_x and mu_y (batch, patch), width and gamma (batch,)"
            raise ValueError(f"from_centres: got shapes {four}; must be {allowed}")
        _check_size(size, mu_x.shape[1])
        F_x, F_y = _filter_pair(mu_x, mu_y, width, size, kernel, normalise, floor)
        return cls(F_x, F_y, gamma, mu_x, mu_y)


def grid(
    raw: Float[Tensor, "batch 5"], size: Size, patch: int, legacy: bool = False
) -> tuple[Centres, Centres]:
    """Place the filters: μ^i = g + (i − (N−1)/2) δ on each axis, in pixels from 0.

    `raw` = (g̃_X, g̃_Y, third, log δ̃, log γ); `size` = (height B, width A); `patch` = N.
    Returns (mu_x, mu_y). All raw numbers 0: the longer axis is spanned from its first
    pixel to its last. `legacy=True` gives the grid of the GLAS code with both of its
    mistakes. (That code's head has another order: g̃_x, g̃_y, log stride, log scale,
    log γ.)
    DRAW paper, eqs. (19)–(24).
    Raises ValueError if `raw` is not (batch, 5) or a size is below 1.

    >>> grid(torch.zeros(1, 5), (9, 9), patch=5)[0]
    tensor([[0., 2., 4., 6., 8.]])
    >>> grid(torch.zeros(1, 5), (9, 9), patch=5, legacy=True)[0]
    tensor([[-21.2500, -12.5000,  -3.7500,   5.0000,  13.7500]])
    """
    _check_raw(raw)
    _check_size(size, patch)
    if legacy:
        return _legacy_grid(raw, size, patch)
    g_x, g_y, _, log_delta, _ = _split(raw)
    g_x, g_y = _centre(g_x, size[1]), _centre(g_y, size[0])
    delta = _stride(log_delta, size, patch)[:, None]
    steps = _offsets(patch, delta) * delta
    # Eqs. (19), (20)
    return g_x[:, None] + steps, g_y[:, None] + steps


def filterbank(
    raw: Float[Tensor, "batch 5"],
    size: Size,
    patch: int,
    kernel: str = "gaussian",
    *,
    legacy: bool = False,
    normalise: str = "exact",
    floor: float = 1e-3,
) -> Filters:
    """Turn five raw numbers per image into filters on the grid of `grid`.

    `raw` = (g̃_X, g̃_Y, third, log δ̃, log γ); third is log σ² for the Gaussian kernel
    and log s² for the Cauchy one, s its scale, so that one head serves both (the GLAS
    code's is log s: the same model, reparametrised). With d = a − μ:

      exact, Gaussian   softmax over a of −d²/(2σ²)              eqs. (25), (26)
      exact, Cauchy     softmax over a of −log(1 + d²/s²),  s ≥ floor
      floor, Gaussian   f = exp(−d² / max(2σ², floor)),  then f / max(Σ_a f, floor)
      floor, Cauchy     f = 1/(πs (1 + d²/s²)), s ≥ floor, then the same

    Exact rows sum to 1. The floor rows are the GLAS code's: far outside the image a
    Gaussian row fades to 0, its gradient too. Computed in float32 at least; finite
    there, gradients too, for |g̃| ≤ 100, |log δ̃| ≤ 10, |third| ≤ 20.
    Raises ValueError if `raw` is not (batch, 5), a size is below 1, a name is unknown
    or `floor` is not positive.

    >>> filters = filterbank(torch.zeros(2, 5), (28, 28), patch=5, kernel="cauchy")
    >>> torch.allclose(filters.F_x.sum(-1), torch.ones(2, 5))
    True
    """
    mu_x, mu_y = grid(raw, size, patch, legacy)
    # Eq. (21)
    _, _, third, _, log_gamma = _split(raw)
    numbers = (mu_x, mu_y, third.exp(), log_gamma.exp())
    return Filters.from_centres(*numbers, size, kernel, normalise, floor)


# The steps, in the order in which they are computed.


def _split(raw: Tensor) -> tuple[Tensor, ...]:
    """The five columns, in float32 at least: bfloat16 is 1/16 off at pixel 27."""
    return raw.to(torch.promote_types(raw.dtype, torch.float32)).unbind(1)


def _centre(g: Tensor, length: int) -> Tensor:
    """Eqs. (22), (23), the paper's (A+1)/2 (g̃+1) − 1: g̃ = ±1 lies just outside."""
    return (length - 1) / 2 + (length + 1) / 2 * g


def _stride(log_delta: Tensor, size: Size, patch: int) -> Tensor:
    """Eq. (24); with a single filter, N = 1, the offset is 0 and δ has no effect."""
    return (max(size) - 1) / max(patch - 1, 1) * torch.exp(log_delta)


def _offsets(patch: int, like: Tensor) -> Tensor:
    """i − (N−1)/2 for i = 0 … N−1: eqs. (19), (20) count i from 1."""
    return torch.arange(patch, dtype=like.dtype, device=like.device) - (patch - 1) / 2


def _legacy_grid(raw: Tensor, size: Size, patch: int) -> tuple[Tensor, Tensor]:
    """The grid that the GLAS code computes; it is wrong in two ways."""
    g_x, g_y, _, log_delta, _ = (column[:, None] for column in _split(raw))
    # First: max − 1/(N−1) where (max − 1)/(N−1) is meant.
    delta = (max(size) - 1 / max(patch - 1, 1)) * torch.exp(log_delta)
    # Second: 1-based offsets and centres, used with 0-based filters and pixels.
    steps = (_offsets(patch, delta) - 1) * delta
    g_x, g_y = (size[1] + 1) / 2 * (g_x + 1), (size[0] + 1) / 2 * (g_y + 1)
    return g_x + steps, g_y + steps


def _filter_pair(
    mu_x: Tensor, mu_y: Tensor, width: Tensor, size: Size,
    kernel: str, normalise: str, floor: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """F_X with one weight per column and F_Y with one per row of the image."""
    width = width.clamp(min=_least_width(kernel, normalise, floor))
    precision = 1 / width[:, None, None]
    # 1/(πs) cancels, except where a row's sum meets the floor.
    peak = precision.sqrt() / math.pi if kernel == "cauchy" else 1.0
    F_x, F_y = (
        _normalise(_exponents(mu, precision, n, kernel), peak, normalise, floor)
        for mu, n in ((mu_x, size[1]), (mu_y, size[0]))
    )
    return F_x, F_y


def _least_width(kernel: str, normalise: str, floor: float) -> float:
    """The least σ² or s²; without a floor, one that float32 can divide by."""
    if kernel == "cauchy":
        return floor**2
    return floor / 2 if normalise == "floor" else 1e-12


def _exponents(mu: Tensor, precision: Tensor, length: int, kernel: str) -> Tensor:
    """The logarithm of each weight, up to a constant: 0 at the filter's centre."""
    a = torch.arange(length, dtype=mu.dtype, device=mu.device)
    d_squared = (a - mu[:, :, None]) ** 2
    if kernel == "cauchy":
        return -torch.log1p(d_squared * precision)
    # Eqs. (25), (26)
    return d_squared * (-precision / 2)


def _normalise(e: Tensor, peak: Tensor | float, normalise: str, floor: float) -> Tensor:
    """The Z of eqs. (25), (26), Σ_a F[i, a] = 1: one for each *row* of the matrix."""
    if normalise == "exact":
        # A softmax has no 0/0, however far outside the image the centre lies.
        return torch.softmax(e, -1)
    f = peak * torch.exp(e)
    return f / f.sum(-1, keepdim=True).clamp(min=floor)


# The order of the factors is the one that is fastest on a CPU. Autocast is off: at
# these sizes bfloat16 is slower, and it is less exact.


def _read(F_y: Tensor, images: Tensor, F_x: Tensor, gamma: Tensor) -> Tensor:
    with torch.autocast(F_x.device.type, enabled=False):
        # Eq. (27)
        patches = (F_y[:, None] @ images.to(F_x.dtype)) @ F_x[:, None].mT
        return gamma[:, None, None, None] * patches


def _write(F_y: Tensor, patches: Tensor, F_x: Tensor, gamma: Tensor) -> Tensor:
    with torch.autocast(F_x.device.type, enabled=False):
        # Eq. (29); scaling the small patch costs less than scaling the image.
        patches = patches.to(F_x.dtype) / gamma[:, None, None, None]
        return F_y[:, None].mT @ (patches @ F_x[:, None])


# The checks look at shapes and names alone: they cost no synchronisation.


def _check_raw(raw: Tensor) -> None:
    if raw.ndim != 2 or raw.shape[1] != 5:
        raise ValueError(f"raw: got shape {tuple(raw.shape)}; must be (batch, 5)")
    if not raw.is_floating_point():
        raise TypeError(f"raw: got {raw.dtype}; must be a floating-point tensor")


def _check_size(size: Size, patch: int) -> None:
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: got {size}; must be (height, width), each at least 1")
    if patch < 1:
        raise ValueError(f"patch: got {patch}; must be at least 1")


def _check_names(kernel: str, normalise: str, floor: float) -> None:
    if kernel not in KERNELS:
        raise ValueError(f"kernel: got {kernel!r}; must be one of {KERNELS}")
    if normalise not in NORMALISERS:
        raise ValueError(f"normalise: got {normalise!r}; must be one of {NORMALISERS}")
    if not floor > 0:
        raise ValueError(f"floor: got {floor}; must be above 0")


def _check_stack(name: str, given: Tensor, filters: Filters, *size: int) -> None:
    batch = len(filters.gamma)
    if given.ndim != 4 or given.shape != (batch, given.shape[1], *size):
        allowed = f"({batch}, channels, {size[0]}, {size[1]})"
        raise ValueError(f"{name}: got shape {tuple(given.shape)}; must be {allowed}")
