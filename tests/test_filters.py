"""The filters of DRAW and GLAS: every claim made about them, in float64 where exact."""

from __future__ import annotations

import importlib.util
import itertools
import math
import sys

import jaxtyping
import numpy as np
import pytest
import reference_filterbank as reference
import torch

from drawlib.filters import Filters, filterbank, grid

KERNELS = ["gaussian", "cauchy"]
NORMALISERS = ["exact", "floor"]
SIZES = [(28, 28), (9, 9), (12, 20), (20, 12), (1, 7)]

both_kernels = pytest.mark.parametrize("kernel", KERNELS)
both_normalisers = pytest.mark.parametrize("normalise", NORMALISERS)


@pytest.fixture
def unchecked_shapes():
    """Turn the tests' shape checking off, so that the library's own checks answer."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


MODULES = itertools.count()


@pytest.fixture
def unwrapped_filterbank(monkeypatch):
    """`filterbank` without the tests' shape checking, which no compiler can trace."""
    # Not `drawlib.filters.__file__`: the package gives that name to the function.
    path = importlib.util.find_spec("drawlib.filters").origin
    # A name of its own each time: torch 2.4 remembers the first module of a name.
    name = f"filterbank_without_shape_checks_{next(MODULES)}"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module.filterbank


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64)


def some_raw(batch: int, seed: int = 1) -> torch.Tensor:
    """Raw numbers all different, windows inside and partly outside, δ̃ never 1."""
    raw = 2 * random(batch, 5, seed=seed) - 1
    raw[:, 3] = -0.2 - raw[:, 3].abs()
    return raw


def one_raw(g_x=0.0, g_y=0.0, third=0.0, log_delta=0.0, log_gamma=0.0) -> torch.Tensor:
    return torch.tensor([[g_x, g_y, third, log_delta, log_gamma]], dtype=torch.float64)


def at(mu, length: int, width: float, kernel: str = "gaussian", **options) -> Filters:
    """Filters of one square image, at the given centres on both axes."""
    mu = torch.as_tensor(mu, dtype=torch.float64).reshape(1, -1)
    one = torch.ones(1, dtype=torch.float64)
    size = (length, length)
    return Filters.from_centres(mu, mu, width * one, one, size, kernel, **options)


def assert_equal(a, b, tolerance: float = 1e-12) -> None:
    torch.testing.assert_close(
        torch.as_tensor(a), torch.as_tensor(b), rtol=tolerance, atol=tolerance
    )


# The grid, eqs. (19)–(24)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [1, 2, 3, 5, 12])
def test_eqs_22_23_all_raw_zero_is_centred_on_each_axis(size, patch):
    mu_x, mu_y = grid(one_raw(), size, patch)
    assert mu_x.shape == mu_y.shape == (1, patch)
    assert_equal(mu_x.mean().item(), (size[1] - 1) / 2)
    assert_equal(mu_y.mean().item(), (size[0] - 1) / 2)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [2, 3, 5, 12])
def test_eq_24_all_raw_zero_spans_the_longer_axis_from_pixel_to_pixel(size, patch):
    mu_x, mu_y = grid(one_raw(), size, patch)
    mu = mu_x if size[1] >= size[0] else mu_y
    assert_equal(mu[0, 0].item(), 0.0)
    assert_equal(mu[0, -1].item(), max(size) - 1.0)
    # One stride for both axes.
    assert_equal(mu_x.diff(), mu_y.diff())


def test_eq_24_log_delta_multiplies_the_stride():
    for log_delta in (-1.0, 0.0, 0.5):
        expected = torch.full((1, 4), 27 / 4 * math.exp(log_delta), dtype=torch.float64)
        for mu in grid(one_raw(0.2, -0.3, log_delta=log_delta), (28, 20), 5):
            assert_equal(mu.diff(), expected)


def test_eqs_22_23_g_of_one_lies_one_pixel_outside():
    for sign in (-1.0, 1.0):
        mu_x, mu_y = grid(one_raw(g_x=sign, g_y=sign), (20, 28), 1)
        assert_equal(mu_x.item(), 28.0 if sign > 0 else -1.0)
        assert_equal(mu_y.item(), 20.0 if sign > 0 else -1.0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [1, 2, 5])
def test_eqs_19_20_grid_is_the_papers_one_based_grid_moved_by_one(size, patch):
    raw = some_raw(4)
    mu_x, mu_y = grid(raw, size, patch)
    for n, row in enumerate(raw.tolist()):
        for mu, g, length in ((mu_x, row[0], size[1]), (mu_y, row[1], size[0])):
            expected = reference.draw_centres(g, row[3], length, max(size), patch)
            assert_equal(mu[n], torch.tensor(expected, dtype=torch.float64))


def test_a_single_filter_ignores_the_stride():
    for log_delta in (-3.0, 0.0, 3.0):
        mu_x, mu_y = grid(one_raw(0.3, -0.2, log_delta=log_delta), (9, 11), 1)
        assert_equal(mu_x.item(), 5 + 6 * 0.3)
        assert_equal(mu_y.item(), 4 + 5 * -0.2)


def test_glas_legacy_and_corrected_grid_at_raw_zero():
    legacy = torch.tensor([[-21.25, -12.5, -3.75, 5.0, 13.75]], dtype=torch.float64)
    for mu in grid(one_raw(), (9, 9), 5, legacy=True):
        assert_equal(mu, legacy)
    for mu in grid(one_raw(), (9, 9), 5):
        assert_equal(mu, torch.tensor([[0.0, 2, 4, 6, 8]], dtype=torch.float64))
    # The sizes of the configuration file that ships with the GLAS code.
    shipped = torch.tensor([[-236 / 3, -39, 2 / 3, 121 / 3]], dtype=torch.float64)
    assert_equal(grid(one_raw(), (40, 40), 4, legacy=True)[0], shipped)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("patch", [1, 2, 5])
def test_glas_legacy_grid_is_that_of_its_code(size, patch):
    raw = some_raw(4)
    mu_x, mu_y = grid(raw, size, patch, legacy=True)
    for n, row in enumerate(raw.tolist()):
        for mu, g, length in ((mu_x, row[0], size[1]), (mu_y, row[1], size[0])):
            expected = reference.glas_centres(g, row[3], length, max(size), patch)
            assert_equal(mu[n], torch.tensor(expected, dtype=torch.float64))


# Symmetry: one test catches every off-by-one


def mirror_case(kernel: str, normalise: str, size: tuple[int, int], patch: int):
    """A bank, an image and a patch, for raw numbers whose δ is not 1."""

    def bank(raw, size=size):
        return filterbank(raw, size, patch, kernel, normalise=normalise)

    return bank, some_raw(3), random(3, 2, *size), random(3, 2, patch, patch)


@both_kernels
@both_normalisers
@pytest.mark.parametrize(("size", "patch"), [((28, 28), 5), ((12, 20), 2), ((9, 7), 3)])
@pytest.mark.parametrize(("column", "axis"), [(0, -1), (1, -2)])
def test_mirrored_image_and_negated_centre_give_the_mirrored_patch(
    kernel, normalise, size, patch, column, axis
):
    bank, raw, images, patches = mirror_case(kernel, normalise, size, patch)
    mirrored = raw.clone()
    mirrored[:, column] *= -1
    assert_equal(
        bank(mirrored).read(images.flip(axis)), bank(raw).read(images).flip(axis)
    )
    assert_equal(
        bank(mirrored).write(patches.flip(axis)), bank(raw).write(patches).flip(axis)
    )


@pytest.mark.parametrize("scale", [27 / 2, 28 / 2])
def test_a_wrong_scale_of_the_centre_passes_the_mirror_and_not_a_known_value(scale):
    """Chapter 8: (A + 1)/2 is right, and −(A − 1)/(A + 1) must read the first pixel."""
    right = 29 / 2

    def bank(raw, scale, patch=5):
        planted = raw.clone()
        planted[:, :2] *= scale / right
        return filterbank(planted, (28, 28), patch)

    raw, images = some_raw(3), random(3, 1, 28, 28)
    for column, axis in ((0, -1), (1, -2)):
        mirrored = raw.clone()
        mirrored[:, column] *= -1
        assert_equal(
            bank(mirrored, scale).read(images.flip(axis)),
            bank(raw, scale).read(images).flip(axis),
        )
    first = one_raw(-27 / 29, -27 / 29)
    assert abs(bank(first, right, 1).mu_x.item()) < 1e-12
    assert abs(bank(first, scale, 1).mu_x.item()) > 0.4


@both_kernels
@both_normalisers
@pytest.mark.parametrize(("size", "patch"), [((28, 28), 5), ((12, 20), 3)])
def test_transposed_image_and_swapped_centres_give_the_transposed_patch(
    kernel, normalise, size, patch
):
    bank, raw, images, patches = mirror_case(kernel, normalise, size, patch)
    swapped, turned = raw[:, [1, 0, 2, 3, 4]], (size[1], size[0])
    assert_equal(bank(swapped, turned).read(images.mT), bank(raw).read(images).mT)
    assert_equal(bank(swapped, turned).write(patches.mT), bank(raw).write(patches).mT)


def test_glas_corrected_grid_mirrors_and_the_legacy_grid_does_not():
    raw = some_raw(4)
    mirrored = raw * torch.tensor([-1.0, 1, 1, 1, 1], dtype=torch.float64)
    latent = random(4, 1, 9, 9)

    def gap(legacy: bool) -> float:
        one, two = (
            filterbank(numbers, (9, 9), 5, "cauchy", legacy=legacy).read(image)
            for numbers, image in ((raw, latent), (mirrored, latent.flip(-1)))
        )
        return (one - two.flip(-1)).abs().max().item()

    assert gap(legacy=False) < 1e-12
    assert gap(legacy=True) > 1e-3


# The filters, eqs. (25), (26)


@both_kernels
@both_normalisers
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    ("size", "patch"), [((9, 9), 5), ((12, 20), 2), ((20, 12), 1), ((5, 4), 12)]
)
def test_filters_equal_the_reference(kernel, normalise, legacy, size, patch):
    raw = some_raw(4)
    raw[0, 2] = -25.0  # below every floor on the width
    if kernel == "gaussian" and normalise == "exact":
        raw[0, 2] = -5.0
    bank = filterbank(raw, size, patch, kernel, legacy=legacy, normalise=normalise)
    assert bank.F_x.shape == (4, patch, size[1])
    assert bank.F_y.shape == (4, patch, size[0])
    for n in range(4):
        F_x, F_y, gamma = reference.filters(
            raw[n], size, patch, kernel, legacy, normalise
        )
        assert_equal(bank.F_x[n], F_x)
        assert_equal(bank.F_y[n], F_y)
        assert_equal(bank.gamma[n].item(), gamma)


@both_kernels
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("patch", [1, 2, 12])
def test_eq_25_filterbank_rows_sum_to_one(kernel, legacy, patch):
    raw = some_raw(6)
    raw[0, :2] = 30.0  # far outside the image
    bank = filterbank(raw, (12, 20), patch, kernel, legacy=legacy)
    for F in (bank.F_x, bank.F_y):
        assert_equal(F.sum(-1), torch.ones(6, patch, dtype=torch.float64))
        assert (F >= 0).all()


@both_kernels
def test_floor_rows_sum_to_one_at_most_and_to_one_inside(kernel):
    raw = some_raw(6)
    raw[0, :2] = 100.0
    bank = filterbank(raw, (12, 20), 5, kernel, normalise="floor")
    for F in (bank.F_x, bank.F_y):
        assert (F >= 0).all()
        assert (F.sum(-1) <= 1 + 1e-12).all()
        assert (F[0].sum(-1) < 0.99).all()
    inside = at([3.0, 7.0], 12, 1.0, kernel, normalise="floor")
    assert_equal(inside.F_x.sum(-1), torch.ones(1, 2, dtype=torch.float64))


def test_glas_gaussian_rows_far_outside_fade_and_lose_their_gradient_under_the_floor():
    raw = one_raw().requires_grad_()
    rows = filterbank(raw, (9, 9), 5, legacy=True, normalise="floor").F_x[0]
    # The raw sums are 9e-99, 1e-34, 9e-4, 2.5, 7e-8; the floor is 1e-3.
    sums = [
        sum(math.exp(-((a - mu) ** 2) / 2) for a in range(9))
        for mu in (-21.25, -12.5, -3.75, 5.0, 13.75)
    ]
    expected = torch.tensor([f / max(f, 1e-3) for f in sums], dtype=torch.float64)
    assert_equal(rows.sum(-1), expected)
    ramp = torch.arange(9, dtype=torch.float64)
    (gradient,) = torch.autograd.grad(rows[0] @ ramp, raw)
    assert gradient.abs().max() < 1e-80
    heavy = filterbank(raw, (9, 9), 5, "cauchy", legacy=True, normalise="floor").F_x[0]
    assert_equal(heavy.sum(-1), torch.ones(5, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(heavy[0] @ ramp, raw)
    assert gradient[0, 0].abs() > 1e-3


def test_exact_row_far_outside_reads_the_border_pixel():
    rows = at([-21.0, 29.0], 9, 1.0).F_x[0]
    assert rows[0, 0] > 1 - 1e-8
    assert rows[1, -1] > 1 - 1e-8


@both_kernels
@both_normalisers
def test_identity_read_gives_gamma_x_and_write_gives_w_over_gamma(kernel, normalise):
    # N = A = B and δ̃ = 1: a stride of one pixel, centres on the pixels.
    raw = one_raw(third=math.log(1e-14), log_gamma=0.7)
    if kernel == "gaussian":
        raw[0, 2] = math.log(1e-4)
    bank = filterbank(raw, (9, 9), 9, kernel, normalise=normalise, floor=1e-7)
    tolerance = 1e-12
    assert_equal(bank.F_x[0], torch.eye(9, dtype=torch.float64), tolerance)
    assert_equal(bank.F_y[0], torch.eye(9, dtype=torch.float64), tolerance)
    image = random(1, 2, 9, 9)
    assert_equal(bank.read(image), math.exp(0.7) * image, tolerance)
    assert_equal(bank.write(image), image / math.exp(0.7), tolerance)


@pytest.mark.parametrize("third", [math.log(4.0), -0.5, 1.5])
def test_eq_25_ratio_of_neighbours_is_the_gaussian_kernel(third):
    bank = filterbank(one_raw(0.1, third=third, log_delta=-1), (28, 28), 5)
    ratio = bank.F_x[0, :, 1:] / bank.F_x[0, :, :-1]
    d = torch.arange(28, dtype=torch.float64) - bank.mu_x[0, :, None]
    expected = torch.exp(-(d[:, 1:] ** 2 - d[:, :-1] ** 2) / (2 * math.exp(third)))
    assert_equal(ratio, expected, 1e-10)


def test_eq_25_one_pixel_from_the_centre_at_variance_four():
    row = filterbank(one_raw(third=math.log(4.0)), (9, 9), 1).F_x[0, 0]
    assert_equal((row[5] / row[4]).item(), math.exp(-1 / 8))


@pytest.mark.parametrize("third", [math.log(4.0), -0.5, 1.5])
def test_ratio_of_neighbours_is_the_cauchy_kernel_with_third_log_s_squared(third):
    bank = filterbank(one_raw(0.1, third=third, log_delta=-1), (28, 28), 5, "cauchy")
    ratio = bank.F_x[0, :, 1:] / bank.F_x[0, :, :-1]
    d = torch.arange(28, dtype=torch.float64) - bank.mu_x[0, :, None]
    f = 1 / (1 + d**2 / math.exp(third))
    assert_equal(ratio, f[:, 1:] / f[:, :-1])


@pytest.mark.parametrize(("s", "c"), [(0.7, 0.3), (0.2, 0.5), (1.5, 0.1)])
def test_cauchy_lattice_sum_is_the_hyperbolic_closed_form(s, c):
    reach = 2000
    row = at([reach + c], 2 * reach + 1, s * s, "cauchy").F_x[0, 0]
    # The filter is density over lattice sum, so at any pixel the sum can be read off.
    lattice = 1 / (math.pi * s * (1 + (c / s) ** 2)) / row[reach].item()
    closed = math.sinh(2 * math.pi * s) / (
        math.cosh(2 * math.pi * s) - math.cos(2 * math.pi * c)
    )
    cut_off = 2 * math.atan(s / (reach + 0.5)) / math.pi
    assert abs(lattice - (closed - cut_off)) < 1e-8
    if (s, c) == (0.7, 0.3):
        assert abs(closed - 0.9921570) < 5e-8


def test_gaussian_reads_a_ramp_at_its_centres_with_second_moment_sigma_squared():
    a = torch.arange(60, dtype=torch.float64)
    centres = torch.tensor([20.3, 29.0, 38.75], dtype=torch.float64)
    bank = at(centres, 60, 1.5**2)
    ramp = a.expand(1, 1, 60, 60)
    expected = centres.expand(3, 3)
    assert_equal(bank.read(ramp)[0, 0], expected, 1e-9)
    assert_equal(bank.read(ramp.mT)[0, 0], expected.T, 1e-9)
    moment = (bank.F_x[0] * (a - centres[:, None]) ** 2).sum(-1)
    assert_equal(moment, torch.full((3,), 1.5**2, dtype=torch.float64), 1e-8)


@pytest.mark.parametrize("floor", [1e-3, 1e-6])
def test_small_cauchy_scale_on_whole_centres_selects_cells(floor):
    latent = random(1, 1, 9, 9)
    raw = one_raw(third=2 * math.log(floor))
    picked = filterbank(raw, (9, 9), 5, "cauchy", floor=floor).read(latent)
    # One cell away a weight is s²: twice on each axis.
    assert_equal(picked, latent[..., 0::2, 0::2], 20 * floor**2)


def test_large_cauchy_scale_reads_gamma_times_the_mean_everywhere():
    latent = random(1, 1, 9, 9)
    raw = one_raw(0.4, -0.3, third=2 * math.log(1e6), log_gamma=0.5)
    bank = filterbank(raw, (9, 9), 5, "cauchy")
    assert_equal(bank.F_x, torch.full((1, 5, 9), 1 / 9, dtype=torch.float64), 1e-9)
    mean = latent.mean() * math.exp(0.5)
    assert_equal(bank.read(latent), mean.expand(1, 1, 5, 5), 1e-9)


@both_kernels
@pytest.mark.parametrize("legacy", [False, True])
def test_constant_image_or_latent_reads_gamma_times_the_constant(kernel, legacy):
    raw = some_raw(4)
    bank = filterbank(raw, (9, 9), 5, kernel, legacy=legacy)
    patch = bank.read(torch.full((4, 1, 9, 9), 0.37, dtype=torch.float64))
    expected = 0.37 * raw[:, 4].exp()
    assert_equal(patch, expected[:, None, None, None].expand(4, 1, 5, 5))


# Reading and writing, eqs. (27), (29)


@both_kernels
@pytest.mark.parametrize(
    ("size", "patch"), [((9, 9), 5), ((6, 10), 2), ((10, 6), 3), ((5, 7), 1)]
)
def test_eqs_27_29_read_and_write_equal_the_reference(kernel, size, patch):
    raw, images = some_raw(3), random(3, 2, *size)
    patches = random(3, 2, patch, patch, seed=2)
    bank = filterbank(raw, size, patch, kernel)
    read, write = bank.read(images), bank.write(patches)
    assert read.shape == patches.shape
    assert write.shape == images.shape
    for n, channel in itertools.product(range(3), range(2)):
        pair = reference.filters(raw[n], size, patch, kernel)
        x, w = np.asarray(images[n, channel]), np.asarray(patches[n, channel])
        assert_equal(read[n, channel], reference.read(*pair, x))
        assert_equal(write[n, channel], reference.write(*pair, w))


@both_kernels
@pytest.mark.parametrize("size", [(12, 20), (20, 12)])
def test_write_is_the_adjoint_of_read_over_gamma_squared(kernel, size):
    raw, x, w = some_raw(3), random(3, 2, *size), random(3, 2, 5, 5, seed=2)
    bank = filterbank(raw, size, 5, kernel)
    read_then_dot = (bank.read(x) * w).sum((1, 2, 3))
    dot_after_write = (x * bank.write(w)).sum((1, 2, 3))
    assert_equal(read_then_dot, dot_after_write * bank.gamma**2)


@both_kernels
def test_writing_keeps_the_ink_up_to_one_over_gamma(kernel):
    raw, w = some_raw(4), random(4, 3, 5, 5)
    canvas = filterbank(raw, (12, 20), 5, kernel).write(w)
    expected = w.sum((2, 3)) / raw[:, 4:].exp()
    assert_equal(canvas.sum((2, 3)), expected)


@both_kernels
def test_reading_an_image_in_zero_one_stays_in_zero_one(kernel):
    raw = some_raw(8)
    raw[:, 4] = 0.0
    patch = filterbank(raw, (12, 20), 5, kernel).read(random(8, 1, 12, 20).round())
    assert patch.min() >= 0
    assert patch.max() <= 1 + 1e-12


def test_image_and_centre_moved_by_one_pixel_read_the_same_patch():
    image = random(1, 1, 40, 50)
    raw = one_raw(0.05, -0.1, third=0.0, log_delta=-2.0)
    moved = raw.clone()
    moved[0, 0] += 2 / 51  # one column
    moved[0, 1] -= 2 / 41 * 2  # two rows, the other way
    one = filterbank(raw, (40, 50), 3).read(image)
    two = filterbank(moved, (40, 50), 3).read(image.roll((-2, 1), (-2, -1)))
    assert_equal(one, two, 1e-10)


def test_a_larger_stride_covers_more_of_the_image():
    image = torch.zeros(1, 1, 28, 28, dtype=torch.float64)
    image[..., 2, :] = 1.0  # a line near the top edge
    seen = [
        filterbank(one_raw(log_delta=d), (28, 28), 5).read(image).max().item()
        for d in (-3.0, -0.2)
    ]
    assert seen[0] < 1e-12
    assert seen[1] > 0.1


@both_kernels
def test_intensity_multiplies_the_read_and_divides_the_write(kernel):
    raw, x, w = some_raw(3), random(3, 1, 12, 20), random(3, 1, 5, 5)
    louder = raw.clone()
    louder[:, 4] += math.log(3.0)
    one, three = (filterbank(numbers, (12, 20), 5, kernel) for numbers in (raw, louder))
    assert_equal(three.F_x, one.F_x)
    assert_equal(three.read(x), 3 * one.read(x))
    assert_equal(three.write(w), one.write(w) / 3)


def test_scaling_the_latent_and_dividing_gamma_changes_nothing():
    raw, latent = some_raw(3), random(3, 1, 9, 9)
    fainter = raw.clone()
    fainter[:, 4] -= math.log(7.0)
    one = filterbank(raw, (9, 9), 5, "cauchy").read(latent)
    two = filterbank(fainter, (9, 9), 5, "cauchy").read(7 * latent)
    assert_equal(one, two)


# The batch


@both_kernels
@both_normalisers
def test_batch_equals_the_loop_over_single_images(kernel, normalise):
    raw, x, w = some_raw(5), random(5, 2, 12, 20), random(5, 2, 3, 3)

    def both(raw, x, w):
        bank = filterbank(raw, (12, 20), 3, kernel, normalise=normalise)
        return bank.read(x), bank.write(w)

    singles = [both(raw[n : n + 1], x[n : n + 1], w[n : n + 1]) for n in range(5)]
    for batched, loop in zip(both(raw, x, w), zip(*singles, strict=True), strict=True):
        assert_equal(batched, torch.cat(loop))


@both_kernels
def test_permuting_the_batch_permutes_the_outputs(kernel):
    raw, x, order = some_raw(5), random(5, 1, 12, 20), [3, 0, 4, 1, 2]
    patch = filterbank(raw, (12, 20), 3, kernel).read(x)
    permuted = filterbank(raw[order], (12, 20), 3, kernel).read(x[order])
    assert_equal(permuted, patch[order])


@both_kernels
@both_normalisers
def test_an_image_depends_on_no_other_images_raw_numbers(kernel, normalise):
    raw, x = some_raw(4), random(4, 1, 12, 20)
    changed = raw.clone()
    changed[0] = torch.tensor([0.9, -0.9, 1.0, -1.5, 0.8], dtype=torch.float64)
    one, two = (
        filterbank(numbers, (12, 20), 3, kernel, normalise=normalise).read(x)
        for numbers in (raw, changed)
    )
    assert torch.equal(one[1:], two[1:])
    assert not torch.allclose(one[0], two[0])


# Gradients and finiteness


@both_kernels
@both_normalisers
@pytest.mark.parametrize("legacy", [False, True])
def test_gradcheck_of_the_filters_and_both_products(kernel, normalise, legacy):
    raw = some_raw(2).requires_grad_()
    x = random(2, 1, 5, 4).requires_grad_()
    w = random(2, 1, 3, 3).requires_grad_()

    def all_of_it(raw, x, w):
        bank = filterbank(
            raw, (5, 4), 3, kernel, legacy=legacy, normalise=normalise, floor=1e-3
        )
        return bank.F_x, bank.F_y, bank.gamma, bank.read(x), bank.write(w)

    assert torch.autograd.gradcheck(all_of_it, (raw, x, w))


@both_kernels
@both_normalisers
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("what", ["read", "write"])
def test_all_five_raw_numbers_of_every_image_get_a_gradient(
    kernel, normalise, legacy, what
):
    raw = some_raw(4).requires_grad_()
    bank = filterbank(raw, (9, 12), 3, kernel, legacy=legacy, normalise=normalise)
    if what == "read":
        out = bank.read(random(4, 1, 9, 12))
    else:
        out = bank.write(random(4, 1, 3, 3))
    (out * random(*out.shape, seed=5)).sum().backward()
    assert (raw.grad.abs() > 1e-9).all()


@both_kernels
@both_normalisers
@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("patch", [1, 2, 5])
def test_extreme_raw_numbers_stay_finite_forward_and_backward_in_float32(
    kernel, normalise, legacy, patch
):
    extremes = [(-100, 0, 100), (-100, 0.3, 100), (-20, 0, 20), (-10, 0, 10), (-5, 5)]
    raw = torch.tensor(list(itertools.product(*extremes)), dtype=torch.float32)
    raw.requires_grad_()
    batch = len(raw)
    bank = filterbank(raw, (28, 20), patch, kernel, legacy=legacy, normalise=normalise)
    read = bank.read(random(batch, 1, 28, 20).float())
    write = bank.write(random(batch, 1, patch, patch).float())
    (read.sum() + (write * random(batch, 1, 28, 20).float()).sum()).backward()
    for name, tensor in (("read", read), ("write", write), ("gradient", raw.grad)):
        assert tensor.isfinite().all(), name


def test_a_cauchy_filter_of_tiny_scale_keeps_its_gradient_in_float32():
    weights, gradients = random(1, 3, 9), []
    for dtype in (torch.float32, torch.float64):
        raw = one_raw(0.03, 0.02, third=2 * math.log(2e-3), log_delta=-0.3).to(dtype)
        raw.requires_grad_()
        bank = filterbank(raw, (9, 9), 3, "cauchy")
        (bank.F_x * weights.to(dtype)).sum().backward()
        gradients.append(raw.grad[0, [0, 3]].double())  # centre and stride
    assert (gradients[1].abs() > 1e-6).all()
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-9)


# Precision, compilation, other grids


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_results_have_the_dtype_of_the_raw_numbers(dtype):
    raw = some_raw(2).to(dtype)
    bank = filterbank(raw, (9, 9), 3)
    assert bank.read(random(2, 1, 9, 9).to(dtype)).dtype == dtype
    assert bank.write(random(2, 1, 3, 3).to(dtype)).dtype == dtype


@both_kernels
@both_normalisers
def test_under_bfloat16_autocast_the_filters_are_computed_in_float32(kernel, normalise):
    head = some_raw(3).bfloat16()
    x, w = random(3, 1, 28, 28).float(), random(3, 1, 5, 5).bfloat16()

    def results(raw, w):
        bank = filterbank(raw, (28, 28), 5, kernel, normalise=normalise)
        return bank.mu_x, bank.F_x, bank.F_y, bank.gamma, bank.read(x), bank.write(w)

    with torch.autocast("cpu", torch.bfloat16):
        autocast = results(head, w)
    for a, b in zip(autocast, results(head.float(), w.float()), strict=True):
        assert a.dtype == torch.float32
        assert torch.equal(a, b)


@both_kernels
@both_normalisers
def test_filters_from_centres_on_the_grid_equal_the_filterbank(kernel, normalise):
    raw, size = some_raw(3), (12, 20)
    bank = filterbank(raw, size, 3, kernel, normalise=normalise, floor=0.01)
    mu_x, mu_y = grid(raw, size, 3)
    width, gamma = raw[:, 2].exp(), raw[:, 4].exp()
    same = Filters.from_centres(
        mu_x, mu_y, width, gamma, size, kernel, normalise=normalise, floor=0.01
    )
    for name in ("F_x", "F_y", "gamma", "mu_x", "mu_y"):
        assert torch.equal(getattr(bank, name), getattr(same, name)), name


def test_filters_from_centres_take_any_centres():
    centres = torch.tensor([[7.0, 1.0, 3.5]], dtype=torch.float64)
    bank = at(centres, 9, 0.8)
    for i, mu in enumerate(centres[0].tolist()):
        expected = reference.exact_row(mu, math.log(0.8), 9, "gaussian", 1e-3)
        assert_equal(bank.F_x[0, i], expected)


@both_kernels
@both_normalisers
def test_reading_and_writing_compile_into_one_graph(
    kernel, normalise, unwrapped_filterbank
):
    def step(raw, x, w):
        bank = unwrapped_filterbank(raw, (12, 20), 3, kernel, normalise=normalise)
        return bank.read(x) + bank.read(bank.write(w))

    case = some_raw(2), random(2, 1, 12, 20), random(2, 1, 3, 3)
    compiled = torch.compile(step, backend="eager", fullgraph=True)
    assert_equal(compiled(*case), step(*case))


# Refusals: one line, before anything is computed


def bank_of_two() -> Filters:
    return filterbank(torch.zeros(2, 5), (12, 20), 3)


def centres_of_two(**changes) -> Filters:
    given = {
        "mu_x": torch.zeros(2, 3),
        "mu_y": torch.zeros(2, 3),
        "width": torch.ones(2),
        "gamma": torch.ones(2),
        "size": (12, 20),
    }
    return Filters.from_centres(**(given | changes))


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(
    ("call", "given", "allowed"),
    [
        (lambda: filterbank(torch.zeros(2, 4), (9, 9), 3), "(2, 4)", "(batch, 5)"),
        (lambda: grid(torch.zeros(5), (9, 9), 3), "(5,)", "(batch, 5)"),
        (lambda: grid(torch.zeros(2, 5), (0, 9), 3), "(0, 9)", "at least 1"),
        (lambda: grid(torch.zeros(2, 5), (9, 9, 9), 3), "(9, 9, 9)", "(height, width)"),
        (lambda: filterbank(torch.zeros(2, 5), (9, 9), 0), "got 0", "at least 1"),
        (
            lambda: filterbank(torch.zeros(2, 5), (9, 9), 3, "laplace"),
            "'laplace'",
            "'gaussian', 'cauchy'",
        ),
        (
            lambda: filterbank(torch.zeros(2, 5), (9, 9), 3, normalise="sum"),
            "'sum'",
            "'exact', 'floor'",
        ),
        (
            lambda: filterbank(torch.zeros(2, 5), (9, 9), 3, floor=0.0),
            "got 0.0",
            "above 0",
        ),
        (
            lambda: bank_of_two().read(torch.zeros(2, 1, 20, 12)),
            "(2, 1, 20, 12)",
            "(2, channels, 12, 20)",
        ),
        (lambda: bank_of_two().read(torch.zeros(3, 1, 12, 20)), "(3, 1, 12, 20)", "(2"),
        (lambda: bank_of_two().read(torch.zeros(12, 20)), "(12, 20)", "channels"),
        (
            lambda: bank_of_two().write(torch.zeros(2, 1, 3, 4)),
            "(2, 1, 3, 4)",
            "(2, channels, 3, 3)",
        ),
        (lambda: centres_of_two(mu_y=torch.zeros(2, 4)), "(2, 4)", "(batch, patch)"),
        (lambda: centres_of_two(mu_x=torch.zeros(3)), "(3,)", "(batch, patch)"),
        (lambda: centres_of_two(gamma=torch.ones(1)), "(1,)", "(batch,)"),
        (lambda: centres_of_two(width=torch.ones(2, 1)), "(2, 1)", "(batch,)"),
        (lambda: centres_of_two(size=(12, 0)), "(12, 0)", "at least 1"),
        (lambda: centres_of_two(kernel="box"), "'box'", "'gaussian', 'cauchy'"),
    ],
)
def test_bad_input_is_refused_in_one_line(call, given, allowed):
    with pytest.raises(ValueError) as error:
        call()
    message = str(error.value)
    assert given in message
    assert allowed in message
    assert "\n" not in message


@pytest.mark.usefixtures("unchecked_shapes")
def test_whole_numbers_are_refused():
    with pytest.raises(TypeError, match="raw: got torch.int64; must be a floating"):
        filterbank(torch.zeros(2, 5, dtype=torch.int64), (9, 9), 3)
