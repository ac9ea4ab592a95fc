"""The entries of `drawlib.mistakes.planting` that concern the filters of DRAW and GLAS.

Places and equations are told as in `drawlib.mistakes.catalogue`.
"""

from __future__ import annotations

from drawlib.mistakes import plants
from drawlib.mistakes.catalogue import ERICJANG, HUI, KHANIAN, SIMONAMTOFT
from drawlib.mistakes.plants import Mistake, seen_by

GLAS = "github.com/dojoteef/glas, glas/model/attention.py"
JBORNSCHEIN = "github.com/jbornschein/draw, draw/attention.py"

FILTERS = (
    Mistake(
        "F1",
        "the window of image 0 for the whole batch",
        f"{SIMONAMTOFT}, layers/attention.py",
        "image n: (g̃_X, g̃_Y, log σ², log δ̃, log γ)_n",
        "image n: (g̃_X, g̃_Y, log σ², log δ̃, log γ)_0",
        "No error and no warning; each image is looked at where the first one asks. "
        "Right for batches of one.",
        plants.F1,
        seen_by(
            "filters",
            "batch_equals_the_loop_over_single_images",
            "permuting_the_batch_permutes_the_outputs",
            "an_image_depends_on_no_other_images_raw_numbers",
        )
        + seen_by("recurrent", "batched_equals_a_loop_over_single_images"),
    ),
    Mistake(
        "F2",
        "centre and stride cut off from their gradients",
        f"{SIMONAMTOFT}, layers/attention.py",
        "∂F/∂g̃_X, ∂F/∂g̃_Y, ∂F/∂δ̃ as they are",
        "∂F/∂g̃_X = ∂F/∂g̃_Y = ∂F/∂δ̃ = 0",
        "Every value is right, and where to look is never learned.",
        plants.F2,
        seen_by(
            "filters",
            "all_five_raw_numbers_of_every_image_get_a_gradient",
            "a_cauchy_filter_of_tiny_scale_keeps_its_gradient_in_float32",
        ),
    ),
    Mistake(
        "F4",
        "the whole matrix normalised, not each row",
        f"{SIMONAMTOFT}, layers/attention.py",
        "Σ_a F[i, a] = 1 for each i",
        "Σ_i Σ_a F[i, a] = 1",
        "Rows sum to about 1/N and a patch is about N² times too faint; NaN where all "
        "filters lie far outside.",
        plants.F4,
        seen_by(
            "filters",
            "eq_25_filterbank_rows_sum_to_one",
            "constant_image_or_latent_reads_gamma_times_the_constant",
        )
        + seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference"),
    ),
    Mistake(
        "F5",
        "formulas that count from 1, with filters and pixels from 0",
        f"{SIMONAMTOFT}, layers/attention.py",
        "μ^i = (A−1)/2 + (A+1)/2 g̃ + (i − (N−1)/2) δ",
        "μ^i = (A+1)/2 (g̃ + 1) + (i − N/2 − ½) δ",
        "The grid lies one stride too low and one pixel too high: with N = 12 it "
        "begins as −1.45 … 25.5 where 0 … 27 is meant. The two cancel where δ = 1.",
        plants.COUNTED_FROM_ONE,
        seen_by(
            "filters",
            "eqs_22_23_all_raw_zero_is_centred_on_each_axis",
            "mirrored_image_and_negated_centre_give_the_mirrored_patch",
        )
        + seen_by(
            "draw", "a_mirrored_image_and_a_mirrored_window_give_a_mirrored_patch"
        ),
    ),
    Mistake(
        "F8",
        "rows and columns of the image change places",
        f"{SIMONAMTOFT}, layers/attention.py",
        "x has B rows and A columns: F_Y x F_Xᵀ",
        "x has A rows and B columns",
        "Right for square images, an error for all others.",
        plants.F8,
        seen_by(
            "filters",
            "eqs_27_29_read_and_write_equal_the_reference",
            "write_is_the_adjoint_of_read_over_gamma_squared",
        )
        + seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference"),
    ),
    Mistake(
        "hui-a",
        "2σ² inside the square",
        f"{HUI}; from {ERICJANG}, where it was mended on 28 November 2017",
        "F[i, a] ∝ exp(−(a − μ^i)² / (2σ²))",
        "F[i, a] ∝ exp(−((a − μ^i) / (2σ²))²)",
        "A Gaussian still, of variance 2σ⁴: it trains, but σ is not what it is called. "
        "Narrower than meant below σ² = ½, wider above.",
        plants.EXPONENT,
        seen_by(
            "filters",
            "eq_25_one_pixel_from_the_centre_at_variance_four",
            "eq_25_ratio_of_neighbours_is_the_gaussian_kernel",
            "gaussian_reads_a_ramp_at_its_centres_with_second_moment_sigma_squared",
        ),
    ),
    Mistake(
        "hui-b",
        "the stride divided by δ̃",
        HUI,
        "δ = (max(A, B) − 1)/(N − 1) · exp(log δ̃)",
        "δ = (max(A, B) − 1)/((N − 1) · exp(log δ̃))",
        "To zoom in zooms out. A head can learn the other sign, so it trains; the "
        "first window is the same.",
        plants.INVERTED,
        seen_by(
            "filters",
            "eq_24_log_delta_multiplies_the_stride",
            "eqs_19_20_grid_is_the_papers_one_based_grid_moved_by_one",
            "a_larger_stride_covers_more_of_the_image",
        ),
    ),
    Mistake(
        "hui-c",
        "formulas that count from 1, with filters and pixels from 0",
        f"{HUI}; from {ERICJANG}, where it still stands",
        "μ^i = (A−1)/2 + (A+1)/2 g̃ + (i − (N−1)/2) δ",
        "μ^i = (A+1)/2 (g̃ + 1) + (i − N/2 − ½) δ",
        "F5 again: with N = 5 the grid begins as −5.75 … 21.25 where 0 … 27 is meant.",
        plants.COUNTED_FROM_ONE,
        seen_by(
            "filters",
            "eq_24_all_raw_zero_spans_the_longer_axis_from_pixel_to_pixel",
            "eqs_22_23_g_of_one_lies_one_pixel_outside",
        )
        + seen_by(
            "draw", "eqs_22_to_24_zero_heads_look_at_the_whole_image_and_write_on_it"
        ),
    ),
    Mistake(
        "khanian-a",
        "one transpose too many in write",
        KHANIAN,
        "write = (1/γ̂) F̂_Yᵀ w F̂_X",
        "write = (1/γ̂) F̂_Yᵀ w F̂_Xᵀ",
        "The shapes do not fit unless N = A.",
        plants.TRANSPOSED,
        seen_by(
            "filters",
            "eqs_27_29_read_and_write_equal_the_reference",
            "write_is_the_adjoint_of_read_over_gamma_squared",
        )
        + seen_by("draw", "eq_29_the_intensity_is_inverted_on_write_and_not_on_read"),
    ),
    Mistake(
        "glas-bracket",
        "a bracket is missing in the stride",
        GLAS,
        "(max(H, W) − 1)/(N − 1)",
        "max(H, W) − 1/(N − 1)",
        "8.75 cells where 2 are meant, for a 9 × 9 memory and 5 × 5 filters: only one "
        "of five rows lies inside.",
        plants.BRACKET,
        seen_by(
            "filters",
            "eq_24_all_raw_zero_spans_the_longer_axis_from_pixel_to_pixel",
            "glas_legacy_and_corrected_grid_at_raw_zero",
        )
        + seen_by("glas", "both_grids_have_their_centres"),
    ),
    Mistake(
        "glas-offset",
        "a grid one stride too low and one cell too high",
        GLAS,
        "c_k = (W−1)/2 + (W+1)/2 g̃ + (k − (N−1)/2) δ",
        "c_k = (W+1)/2 (g̃ + 1) + (k − (N+1)/2) δ",
        "F5 again. With the missing bracket, the five filters start at −21.25, −12.5, "
        "−3.75, 5 and 13.75, where the memory has cells 0 to 8.",
        plants.COUNTED_FROM_ONE,
        seen_by("filters", "glas_corrected_grid_mirrors_and_the_legacy_grid_does_not")
        + seen_by(
            "glas",
            "both_grids_have_their_centres",
            "mirrored_L_and_window_give_a_mirrored_reading",
        ),
    ),
    Mistake(
        "half-pixel",
        "the centre half a pixel off",
        JBORNSCHEIN,
        "g_X = (A−1)/2 + (A+1)/2 g̃",
        "g_X = A/2 (g̃ + 1)",
        "The window begins as 0.5 … 27.5 where 0 … 27 is meant: an image and its "
        "mirror image are read differently.",
        plants.HALF_PIXEL,
        seen_by(
            "filters",
            "eqs_22_23_all_raw_zero_is_centred_on_each_axis",
            "mirrored_image_and_negated_centre_give_the_mirrored_patch",
        )
        + seen_by(
            "draw", "a_mirrored_image_and_a_mirrored_window_give_a_mirrored_patch"
        ),
    ),
)
