"""Pictures: what is drawn is what was given, in order, in the right units."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from drawlib.plots import (
    PALETTE,
    bars,
    curve,
    draw_window,
    letters,
    show_images,
    strip,
    style,
)
from drawlib.training.runstate import History


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def luminance(colour: str) -> float:
    """Relative luminance of an sRGB colour (WCAG 2)."""
    c = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_palette_is_okabe_and_itos():
    assert PALETTE["blue"] == "#0072B2" and PALETTE["vermillion"] == "#D55E00"
    assert len(set(PALETTE.values())) == 8


def test_neighbouring_line_colours_differ_in_lightness():
    first = [luminance(colour) for colour in list(PALETTE.values())[:3]]
    assert all(abs(a - b) > 0.1 for a, b in zip(first, first[1:], strict=False))


def test_style_stays_after_a_call_and_is_undone_after_a_block():
    before = plt.rcParams["font.size"]
    with style():
        assert plt.rcParams["font.size"] == 12
        assert plt.rcParams["figure.figsize"] == [5.2, 3.2]
    assert plt.rcParams["font.size"] == before
    with mpl.rc_context():
        style()
        assert plt.rcParams["font.size"] == 12


def test_letters_are_at_least_ten_pixels_high_at_390_pixels():
    with style():
        width = plt.rcParams["figure.figsize"][0] * 72
        for name in ("font.size", "xtick.labelsize", "legend.fontsize"):
            assert plt.rcParams[name] / width * 360 >= 10, name


def test_images_are_laid_out_row_by_row_without_change():
    images = torch.rand(7, 1, 5, 4)
    sheet = show_images(images, columns=3).images[0].get_array()
    assert sheet.shape == (3 * 7 - 2, 3 * 6 - 2)
    for k in range(7):
        y, x = (k // 3) * 7, (k % 3) * 6
        np.testing.assert_array_equal(sheet[y : y + 5, x : x + 4], images[k, 0])


def test_images_are_ink_on_paper():
    image = show_images(torch.zeros(1, 1, 2, 2)).images[0]
    assert image.to_rgba(np.array([[0.0, 1.0]]))[0, :, :3].tolist() == [
        [1, 1, 1],
        [0, 0, 0],
    ]
    assert image.get_clim() == (0, 1)


def test_signed_images_keep_their_sign_and_zero_is_neutral():
    image = show_images(torch.tensor([[[[-1.0, 0.0, 1.0]]]]), signed=True).images[0]
    np.testing.assert_array_equal(image.get_array(), [[-1, 0, 1]])
    np.testing.assert_allclose(image.to_rgba(np.zeros((1, 1)))[0, 0, :3], 1, atol=0.05)
    assert image.get_clim() == (-1, 1)


def test_colour_images_keep_their_channels():
    images = torch.rand(2, 3, 4, 4)
    sheet = show_images(images, columns=2).images[0].get_array()
    np.testing.assert_allclose(sheet[:, 6:], images[1].permute(1, 2, 0), atol=1e-6)


def test_labels_and_titles_stand_where_their_images_are():
    ax = show_images(
        torch.rand(4, 1, 10, 10),
        columns=2,
        titles=list("abcd"),
        row_labels=["r1", "r2"],
        column_labels=["c1", "c2"],
    )
    assert [t.get_text() for t in ax.texts] == list("abcd")
    assert ax.texts[3].get_position() == (16.5, 11.5)
    assert [t.get_text() for t in ax.get_yticklabels()] == ["r1", "r2"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["c1", "c2"]


@pytest.mark.parametrize("shape", [(0, 1, 4, 4), (2, 2, 4, 4)])
def test_images_of_another_shape_are_refused_in_one_line(shape):
    with pytest.raises(ValueError, match=r"images have shape .*; allowed: ") as error:
        show_images(torch.zeros(shape))
    assert "\n" not in str(error.value)


def test_titles_that_are_not_one_an_image_are_refused():
    with pytest.raises(ValueError, match="1 titles for 2 images"):
        show_images(torch.zeros(2, 1, 4, 4), titles=["a"])


def test_labels_that_are_not_one_a_row_or_a_column_are_refused():
    """They ended in matplotlib's "number of FixedLocator locations"."""
    with pytest.raises(ValueError, match="1 column labels for 4 columns; allowed: one"):
        strip(torch.rand(4, 2, 1, 5, 5), step_labels=["a"])
    with pytest.raises(ValueError, match="3 row labels for 2 rows; allowed: one per"):
        strip(torch.rand(4, 2, 1, 5, 5), row_labels="abc")


def test_strip_puts_time_to_the_right_and_images_below_each_other():
    steps = torch.rand(4, 2, 1, 5, 5)
    ax = strip(steps)
    sheet = ax.images[0].get_array()
    for t in range(4):
        for k in range(2):
            part = sheet[k * 7 : k * 7 + 5, t * 7 : t * 7 + 5]
            np.testing.assert_array_equal(part, steps[t, k, 0])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["1", "2", "3", "4"]


def test_letters_shows_the_likeliest_letter_its_certainty_and_the_end():
    steps = torch.full((2, 27, 1, 13), 0.2 / 26)
    steps[:, 26] = 0.8
    steps[1, :, 0, 0], steps[1, 11, 0, 0] = 0.0, 1.0
    ax = letters(steps)
    texts = [t.get_text() for t in ax.texts]
    assert texts == ["·"] * 13 + ["L"] + ["·"] * 12
    shade = ax.images[0].get_array()
    assert shade[1, 0] == 1 and shade[0, 0] == pytest.approx(0.8)
    assert ax.texts[14].get_color() == "black" != ax.texts[15].get_color()
    with pytest.raises(ValueError, match=r"\(T, 27, 1, places\)"):
        letters(torch.zeros(2, 1, 28, 28))


def test_curve_draws_each_column_with_its_unit_and_a_second_sign():
    rows = ({"epoch": 1, "train": 5.0, "valid": 6.0}, {"epoch": 2, "train": 4.0})
    ax = curve(History(rows), {"train": "training", "valid": "validation"})
    first, second = ax.lines
    assert first.get_ydata().tolist() == [5, 4]
    assert second.get_xdata().tolist() == [1]
    assert first.get_linestyle() != second.get_linestyle()
    assert "nats" in ax.get_ylabel() and ax.get_xlabel() == "epoch"
    curve(rows, "train", label="again", ax=ax)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [
        "training",
        "validation",
        "again train",
    ]


def test_curve_refuses_a_column_that_no_row_has():
    with pytest.raises(ValueError, match="'kl'; allowed: .*'valid'"):
        curve([{"epoch": 1, "valid": 2.0}], "kl")


def test_window_runs_through_the_outermost_centres():
    ax = show_images(torch.zeros(1, 1, 28, 28))
    mu_x, mu_y = torch.tensor([3.0, 8.0, 13.0]), torch.tensor([-1.0, 1.0, 3.0])
    window = draw_window(ax, mu_x, mu_y, offset=(30.0, 0.0))
    assert window.get_bbox().bounds == (33, -1, 10, 4)
    dots = ax.collections[0].get_offsets()
    assert len(dots) == 9 and dots[1].tolist() == [38, -1]


def test_window_line_grows_with_sigma_within_limits():
    ax = show_images(torch.zeros(1, 1, 28, 28))
    mu = torch.tensor([3.0, 8.0])
    widths = [
        draw_window(ax, mu, mu, sigma=s).get_linewidth() for s in (0.1, 2.0, 99.0)
    ]
    assert widths == [1, 3, 6]


def test_bars_start_at_zero_and_carry_their_numbers():
    ax = bars({"a": 100.0, "b": 50.0}, {"a": 2.0}, digits=0)
    assert [p.get_width() for p in ax.patches] == [100, 50]
    assert all(p.get_x() == 0 for p in ax.patches)
    assert [t.get_text() for t in ax.texts] == ["100 ± 2", "50"]
    assert ax.get_xlabel() == "nats"
