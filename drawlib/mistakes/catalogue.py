"""The entries of `drawlib.mistakes.planting` that concern models and bounds.

What the sources do was read in their code or text. The equations on both sides are
written in the course's notation: pixels, filters and images count from 0, steps from 1.
"""

from __future__ import annotations

from drawlib.mistakes import plants
from drawlib.mistakes.plants import Mistake, seen_by

PAPER = "Gregor et al. 2015, DRAW, arXiv:1502.04623"
SIMONAMTOFT = "github.com/simonamtoft/recurrence-and-attention-latent-variable-models"
HUI = (
    "J. Hui, DRAW - Deep recurrent attentive writer, "
    "jhui.github.io/2017/04/30/DRAW-Deep-recurrent-attentive-writer"
)
GEOSADA = "github.com/geosada/ConvDRAW"
KHANIAN = "M. Khanian, Some notes on attention-based generative models"
ERICJANG = "github.com/ericjang/draw"
OURS = "of our own making"

MODELS = (
    Mistake(
        "V1",
        "softplus taken as the log-variance, in a VAE",
        f"{SIMONAMTOFT}, layers/stochastic.py",
        "σ² = softplus(W h + b), or log σ = W h + b",
        "log σ² = softplus(W h + b)",
        "σ is at least 1, so no posterior is narrower than the prior: to send R nats "
        "through one latent costs ½ (exp(2R) − 1) nats of KL. Planted in every head.",
        plants.V1,
        seen_by("gaussian", "v1_the_posterior_can_be_narrower_than_the_prior")
        + seen_by("vae", "v1_the_posterior_can_be_narrower_than_the_prior")
        + seen_by("draw", "eq_2_the_posterior_can_be_narrower_than_the_prior"),
    ),
    Mistake(
        "L1",
        "the prior's sample is passed down the ladder",
        f"{SIMONAMTOFT}, models/laddervae.py",
        "z_i ~ q(z_i | z_{i+1}, x) goes down",
        "z_i ~ p(z_i | z_{i+1}) goes down",
        "Below the top, what the encoder says costs KL and changes no image: q falls "
        "back on p, and the ladder becomes a VAE with a noisy decoder.",
        plants.L1,
        seen_by(
            "ladder",
            "l1_the_reconstruction_alone_reaches_every_bottom_up_head",
            "l1_the_z_passed_down_is_the_draw_from_q",
            "l1_with_a_confident_encoder_the_reconstruction_forgets_the_prior",
            "the_bound_equals_the_numpy_reference",
        ),
    ),
    Mistake(
        "L2",
        "softplus taken as the log-variance, in a ladder",
        f"{SIMONAMTOFT}, layers/stochastic.py",
        "σ² = softplus(W h + b)",
        "log σ² = softplus(W h + b)",
        "V1 in all layers, priors included: generation adds noise of σ ≥ 1 at each, "
        "and a merged posterior has σ² of at least ½.",
        plants.V1,
        seen_by(
            "ladder",
            "v1_l2_every_posterior_and_prior_can_be_narrow",
            "softplus_acts_on_the_variance_and_the_floor_is_added",
            "the_bound_equals_the_numpy_reference",
        ),
    ),
    Mistake(
        "L3",
        "the merge has a top-down network of its own",
        f"{SIMONAMTOFT}, models/laddervae.py",
        "q_i ∝ N(μ̂_i, σ̂_i²) · p(z_i | z_{i+1})",
        "q_i ∝ N(μ̂_i, σ̂_i²) · N(m_i(z_{i+1}), s_i(z_{i+1})²), with m, s learned apart",
        "The posterior no longer corrects the prior: an encoder that knows nothing "
        "still pays KL. Build the model with the mistake: it has more weights.",
        plants.L3,
        seen_by(
            "ladder",
            "l3_the_merge_uses_the_parameters_of_the_kl",
            "l3_an_ignorant_encoder_costs_nothing_below_the_top",
            "the_bound_equals_the_numpy_reference",
        ),
    ),
    Mistake(
        "L4",
        "generation starts with the bottom layer's z",
        f"{SIMONAMTOFT}, the sampling after each epoch",
        "z_L ~ N(0, I), of the top layer's size",
        "z_L ~ N(0, I), of the bottom layer's size",
        "An error as soon as an image is generated, unless both layers have one size.",
        plants.L4,
        seen_by(
            "ladder",
            "l4_generation_starts_from_the_top",
            "generation_equals_the_numpy_reference_in_either_mode",
        ),
    ),
    Mistake(
        "D1",
        "a dense layer between canvas and image",
        f"{SIMONAMTOFT}, models/draw.py",
        "p(x | z) = Bern(sigmoid(c_T))",
        "p(x | z) = Bern(sigmoid(W c_T + b)), while x̂_t = x − sigmoid(c_{t−1})",
        "The encoder is shown the errors of another picture than the one that is "
        "scored. Still a bound. Build the model with the mistake: it has more weights.",
        plants.D1,
        seen_by(
            "recurrent",
            "the_likelihood_reads_the_canvas_itself",
            "generation_is_the_means_after_each_step",
        )
        + seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference"),
    ),
    Mistake(
        "D2",
        "one z for all steps of a generation",
        f"{SIMONAMTOFT}, models/draw.py",
        "z_t ~ N(0, I), afresh for t = 1 … T",
        "z_1 ~ N(0, I), and z_t = z_1",
        "Images come from latents that training has never met. The bound is not "
        "touched.",
        plants.D2,
        seen_by(
            "recurrent",
            "generation_feeds_another_z_at_each_step",
            "generation_is_the_means_after_each_step",
        ),
    ),
    Mistake(
        "F6",
        "one head for reading and writing",
        f"{SIMONAMTOFT}, layers/attention.py",
        "write: W_write h_dec_t, with a head of its own",
        "write: W_read h_dec_t",
        "The model must write where it would look; the writing head is never trained.",
        plants.F6,
        seen_by(
            "draw",
            "read_and_write_have_heads_of_their_own",
            "eqs_3_to_8_one_full_step_equals_the_numpy_reference",
        )
        + seen_by("recurrent", "every_parameter_receives_a_gradient"),
    ),
    Mistake(
        "hui-d",
        "T/2 subtracted from the KL of each step",
        f"{HUI}; from {ERICJANG}, where it became ½ a step on 1 July 2017",
        "KL_t = ½ Σ_d (μ² + σ² − log σ²) − D/2",
        "KL_t = ½ Σ_d (μ² + σ² − log σ²) − T/2",
        "The bound is off by T (D − T)/2: nothing in that article, where T = D = 10, "
        "and 1152 nats for T = 64, D = 100. Gradients are right.",
        plants.HALF_OF_T,
        seen_by(
            "draw",
            "the_kl_constant_is_one_half_for_each_dimension_of_each_step",
            "a_zero_network_pays_784_log_2_and_no_kl",
            "a_deaf_decoder_has_the_likelihood_of_its_bias",
        ),
    ),
    Mistake(
        "hui-e",
        "one noise for all steps of the posterior",
        f"{HUI}; from {ERICJANG}, where it still stands",
        "z_t = μ_t + σ_t ε_t, ε_t ~ N(0, I) afresh",
        "z_t = μ_t + σ_t ε",
        "The draws of all steps are tied together: the number belongs to a degenerate "
        "q, and is no bound on log p(x).",
        plants.ONE_NOISE,
        seen_by("recurrent", "the_posteriors_draws_are_independent_from_step_to_step")
        + seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference")
        + seen_by("glas", "one_full_step_equals_the_numpy_reference"),
    ),
    Mistake(
        "khanian-c",
        "the writing window placed by the step before",
        KHANIAN,
        "(ĝ_X, ĝ_Y, …) = W h_dec_t",
        "(ĝ_X, ĝ_Y, …) = W h_dec_{t−1}",
        "What to write is new, where to write is a step old: the first patch goes to "
        "the same place in all images.",
        plants.WINDOW_BEFORE,
        seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference")
        + seen_by("recurrent", "the_canvas_adds_up"),
    ),
    Mistake(
        "khanian-d",
        "½ subtracted once per step, not once per dimension",
        KHANIAN,
        "Σ_t KL_t = ½ Σ_t Σ_d (μ² + σ² − log σ²) − TD/2",
        "Σ_t KL_t = ½ Σ_t Σ_d (μ² + σ² − log σ²) − T/2",
        "As in the paper, from which it is taken.",
        plants.HALF_A_STEP,
        seen_by("gaussian", "kl_is_the_mean_of_log_q_minus_log_p")
        + seen_by(
            "draw", "the_kl_constant_is_one_half_for_each_dimension_of_each_step"
        ),
    ),
    Mistake(
        "eq-11",
        "½ subtracted once per step, not once per dimension",
        f"{PAPER}, eq. 11",
        "Σ_t KL_t = ½ Σ_t Σ_d (μ² + σ² − log σ²) − TD/2",
        "Σ_t KL_t = ½ Σ_t Σ_d (μ² + σ² − log σ²) − T/2",
        "The bound is off by T (D − 1)/2: 3168 nats for T = 64, D = 100. Gradients are "
        "right, and so is the formula for one latent.",
        plants.HALF_A_STEP,
        seen_by(
            "gaussian",
            "eq_11_the_kl_constant_is_half_a_dimension_not_half_a_step",
            "kl_is_zero_only_for_equal_gaussians_and_never_negative",
        )
        + seen_by(
            "draw", "the_kl_constant_is_one_half_for_each_dimension_of_each_step"
        ),
    ),
    Mistake(
        "geosada-kl",
        "the KL of the last step, T times",
        f"{GEOSADA}, ConvDRAW.py and util/losses.py",
        "Σ_t KL(q_t ‖ p_t)",
        "T · KL(q_T ‖ p_T)",
        "[[0]*L]*(T+1) is one list under T + 1 names, so each step's numbers are those "
        "of the last. All earlier steps are free: what is reported is no bound.",
        plants.LAST_KL,
        seen_by("conv_draw", "the_bound_equals_the_equations_in_loops")
        + seen_by("recurrent", "trace_agrees_with_bound_and_reconstruction"),
    ),
    Mistake(
        "geosada-encoder",
        "the encoder never sees the decoder",
        f"{GEOSADA}, ConvDRAW.py, encoder",
        "h_enc_t = ConvLSTM(h_enc_{t−1}, [x, x̂_t, h_dec_{t−1}])",
        "h_enc_t = ConvLSTM(h_enc_{t−1}, [x, x̂_t, 0])",
        "A condition is the wrong way round: t == 0 reads h_dec, which is zero there, "
        "and all other steps read zeros. Still a bound; q has to guess what the "
        "decoder remembers.",
        plants.UNSEEN,
        seen_by(
            "conv_draw",
            "the_encoder_reads_the_image_its_error_and_the_decoder",
            "the_bound_equals_the_equations_in_loops",
        )
        + seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference"),
    ),
)

OWN = (
    Mistake(
        "kl-sign",
        "the KL with the wrong sign",
        OURS,
        "ELBO = log p(x | z) − KL(q ‖ p)",
        "ELBO = log p(x | z) + KL(q ‖ p)",
        "The number rises above log p(x), without end: training is paid for posteriors "
        "that are far from the prior.",
        plants.SIGN,
        seen_by("gaussian", "kl_to_the_standard_normal_equals_torch_distributions")
        + seen_by("vae", "the_elbo_is_below_log_p_by_quadrature")
        + seen_by("bound", "bound_has_one_row_an_image"),
    ),
    Mistake(
        "standard-kl",
        "the KL against N(0, I) under a learned prior",
        OURS,
        "KL(q(z_t | x) ‖ p(z_t | h_dec_{t−1}))",
        "KL(q(z_t | x) ‖ N(0, I))",
        "The learned prior is in no loss: it is never trained, and a generation draws "
        "from what its weights happened to be.",
        plants.STANDARD_KL,
        seen_by(
            "conv_draw",
            "each_kl_is_the_mean_of_log_q_minus_log_p",
            "the_loss_trains_the_prior",
            "the_bound_equals_the_equations_in_loops",
        ),
    ),
    Mistake(
        "mean",
        "the mean over pixels where the sum belongs",
        "github.com/AntixK/PyTorch-VAE, models/vanilla_vae.py, and many others: "
        "the page Paper against code lists the threads that ask about it",
        "log p(x | z) = Σ_pixels log p(x_i | z)",
        "log p(x | z) = (1/784) Σ_pixels log p(x_i | z)",
        "The KL weighs 784 times too much, so that the posterior falls back on the "
        "prior; and what is reported is no log-likelihood of an image.",
        plants.MEAN,
        seen_by(
            "likelihood",
            "bernoulli_equals_torch_distributions",
            "zero_logits_cost_784_log_2_an_image",
        )
        + seen_by("vae", "zero_network_costs_784_log_2"),
    ),
    Mistake(
        "logits",
        "logits taken for probabilities in the error image",
        OURS,
        "x̂_t = x − sigmoid(c_{t−1})",
        "x̂_t = x − c_{t−1}",
        "The encoder is shown a picture that leaves [0, 1] as the canvas grows. The "
        "bound stays a bound, of a model that learns less well.",
        plants.LOGITS,
        seen_by("recurrent", "eq_3_the_error_image_is_one_of_probabilities")
        + seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference")
        + seen_by("glas", "one_full_step_equals_the_numpy_reference"),
    ),
    Mistake(
        "probabilities",
        "probabilities taken for logits in the likelihood",
        OURS,
        "log p(x | c) = Σ [x c − softplus(c)]",
        "log p(x | c) = Σ [x s − softplus(s)], s = sigmoid(c)",
        "No pixel's probability leaves 0.5 … 0.73: at the very best a 1 costs 0.31 "
        "nats and a 0 costs 0.69, and most pixels of a digit are 0.",
        plants.SIGMOID_TWICE,
        seen_by(
            "likelihood",
            "bernoulli_equals_torch_distributions",
            "bernoulli_keeps_its_tails_in_float32",
        )
        + seen_by("draw", "eqs_3_to_8_one_full_step_equals_the_numpy_reference"),
    ),
    Mistake(
        "kl-weight",
        "the weight of the KL left in the reported bound",
        f"{OURS}; also {SIMONAMTOFT}, while its KL warms up",
        "shown: −ELBO = −log p(x | z) + KL",
        "shown: −log p(x | z) + β KL",
        "As long as β < 1 the curve shows too good a number, and it gets worse when β "
        "grows although the model gets better.",
        plants.KL_WEIGHT,
        seen_by(
            "train",
            "the_loss_scales_the_kl_by_beta",
            "the_reported_bound_never_depends_on_beta",
        ),
    ),
    Mistake(
        "lucky-subset",
        "the bound of a lucky subset taken for that of the split",
        f"{OURS}, in the first tables of this course",
        "−L_K(all) ≈ −ELBO(all) − [−ELBO(subset) + L_K(subset)]",
        "−L_K(all) ≈ −L_K(subset)",
        "Some thousand images are easier than the others, for every model alike: rows "
        "look better than published ones by the same nats, and no seed shows it.",
        plants.LUCKY_SUBSET,
        seen_by(
            "evaluation",
            "the_bound_of_a_split_comes_from_the_difference_not_from_a_lucky_subset",
            "a_subset_weighted_has_the_split_inside_its_error",
        ),
    ),
    Mistake(
        "loss-weights",
        "the losses taken for the log weights",
        "github.com/AntixK/PyTorch-VAE, models/iwae.py and models/miwae.py",
        "log p̂_K = log (1/K) Σ_k exp(log w_k)",
        "shown: Σ_k softmax(ℓ)_k ℓ_k, ℓ_k = −log w_k",
        "The worst of the K samples counts most, so the number gets worse with every "
        "sample that is added. The loss there also has the analytic KL in it, and a "
        "mean over pixels.",
        plants.LOSS_WEIGHTS,
        seen_by(
            "evaluation",
            "two_weights_are_averaged_as_weights",
            "more_samples_never_worsen_the_weighted_bound_of_known_weights",
        ),
    ),
    Mistake(
        "train-for-test",
        "the training images evaluated as the test",
        "github.com/yburda/iwae, before pull request 1, on the fixed bits",
        "−ELBO of the test images",
        "−ELBO of the training images, under the name of the test",
        "A model that has learned its training images by heart looks best, and the gap "
        "between the splits, the sign of it, is zero.",
        plants.TRAIN_FOR_TEST,
        seen_by(
            "evaluation",
            "each_split_is_evaluated_on_its_own_images",
            "every_image_of_the_test_set_counts_once",
        ),
    ),
    Mistake(
        "half-test",
        "half of the test images taken for all of them",
        "Efficient-VDVAE, the loader of its MNIST",
        "the mean over 10,000 test images",
        "the mean over 5,000 of them",
        "The halves may not be equally hard, and where a file is sorted by class they "
        "hold other classes. Only the count of images shows it.",
        plants.HALF_TEST,
        seen_by(
            "evaluation",
            "each_split_is_evaluated_on_its_own_images",
            "every_image_of_the_test_set_counts_once",
        ),
    ),
    Mistake(
        "stop-kl",
        "the KL of all steps charged at every stop",
        OURS,
        "log p(x) ≥ Σ_t π_t [log D(x | c_t) − Σ_{s≤t} KL_s]",
        "log p(x) ≥ Σ_t π_t [log D(x | c_t) − Σ_{s≤T} KL_s]",
        "Still a bound, and too low: a drawing that ends early pays for the steps that "
        "it never made, so nothing is gained by being done early.",
        plants.STOP_KL,
        seen_by(
            "stops",
            "each_stop_pays_for_its_own_steps_alone",
            "s1_the_bound_is_the_sum_over_stops_and_lies_below_log_p",
        ),
    ),
    Mistake(
        "stop-canvas",
        "the mean of the canvases scored in place of the mean of the bounds",
        OURS,
        "Σ_t π_t log D(x | c_t)",
        "log D(x | Σ_t π_t c_t)",
        "log D is concave in the canvas, so the number is never lower than the right "
        "one, and it belongs to no model that stops: no single canvas is asked to be "
        "plausible.",
        plants.STOP_CANVAS,
        seen_by(
            "stops",
            "each_stop_pays_for_its_own_steps_alone",
            "s2_the_weights_mean_is_p_of_x_by_quadrature",
        ),
    ),
    Mistake(
        "snr-weights",
        "the weights of the diffusion bound forgotten",
        f"{OURS}; as DDPM's simple loss it is meant, and is then no bound",
        "−ELBO = … + Σ_t ½ (SNR(t−1) − SNR(t)) ‖x̃ − x̂(z_t)‖²",
        "−ELBO = … + Σ_t ½ ‖x̃ − x̂(z_t)‖²",
        "Levels where almost nothing is known cost most, and training looks after "
        "them: the loss is no bound, and what it trains has a worse one.",
        plants.SNR_WEIGHTS,
        seen_by(
            "diffusion",
            "every_term_of_the_estimate_is_the_one_of_the_bound",
            "the_estimate_of_one_step_is_unbiased_for_the_sum",
        ),
    ),
    Mistake(
        "noise-loss",
        "the loss of the noise taken for a bound",
        OURS,
        "KL_t = ½ (SNR(t−1)/SNR(t) − 1) ‖ε − ε̂‖², summed over the steps",
        "‖ε − ε̂‖², the mean over the steps",
        "A number of the size of a bound, in no unit: it depends on where the levels "
        "lie, falls when noisier ones are added, and may stand beside no likelihood.",
        plants.NOISE_LOSS,
        seen_by(
            "diffusion",
            "ddpm_eq_5_the_bound_equals_plain_numpy",
            "vdm_eq_13_the_kl_of_a_step_is_the_fall_of_the_snr_times_the_error",
        ),
    ),
    Mistake(
        "step-variance",
        "the variance of a step taken for its standard deviation",
        OURS,
        "z_{t−1} = μ + σ ε",
        "z_{t−1} = μ + σ² ε",
        "Only drawings suffer: too little noise is put back, and every state lies too "
        "near the mean. They come out smoother than the data are, and the eye may "
        "prefer them. No bound sees it.",
        plants.STEP_VARIANCE,
        seen_by(
            "diffusion",
            "generation_follows_the_model_and_ends_at_its_steps_last_image",
            "drawn_states_have_the_spread_of_the_posterior",
        ),
    ),
)
