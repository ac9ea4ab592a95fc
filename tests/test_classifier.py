"""The recurrent attention classifier: windows, glimpses, loss."""

import numpy as np
import pytest
import reference_recurrent as reference
import torch
from small_recurrent import shaken, silence

from drawlib.classifier import Classifier, ClassifierConfig, ink_near, loss

SMALL = {"image_shape": (1, 6, 5), "glimpses": 3, "hidden": 4, "read": 2, "classes": 3}


def classifier(**changes) -> Classifier:
    return shaken(Classifier(ClassifierConfig(**{**SMALL, **changes})))


def test_the_defaults_are_the_papers():
    model = Classifier()
    assert model.image_shape == (1, 100, 100) and model.config.glimpses == 8
    assert model.lstm.weight.shape == (4 * 256, 12 * 12 + 256)
    assert model.answer.weight.shape == (10, 256)


def test_all_glimpses_equal_the_numpy_reference():
    model = classifier(image_shape=(3, 6, 5))
    x = torch.rand(2, 3, 6, 5).double()
    w = {name: p.detach().numpy() for name, p in model.named_parameters()}
    for k in range(2):
        h, c = w["start_h"], w["start_c"]
        for _ in range(3):
            F_x, F_y, gamma = reference.bank(
                reference.affine(w, "read_head", h), B=6, A=5, N=2
            )
            r = np.concatenate(
                [(gamma * F_y @ im @ F_x.T).ravel() for im in x[k].numpy()]
            )
            h, c = reference.lstm(w, "lstm", r, h, c)
        wanted = reference.affine(w, "answer", h)
        np.testing.assert_allclose(model(x)[k].detach().numpy(), wanted, atol=1e-12)


def test_the_first_window_is_the_whole_image_where_the_head_says_nothing():
    model = classifier()
    silence(model.read_head)
    windows, patches = model.trace(torch.rand(2, 1, 6, 5).double())
    assert patches.shape == (3, 2, 1, 2, 2)
    assert windows.mu_y[0].tolist() == [[0.0, 5.0]] * 2
    assert windows.mu_x[0].tolist() == [[-0.5, 4.5]] * 2


def test_later_windows_depend_on_the_image_and_the_first_does_not():
    windows, _ = classifier().trace(torch.rand(2, 1, 6, 5).double())
    assert torch.equal(windows.mu_x[0, 0], windows.mu_x[0, 1])
    assert not torch.equal(windows.mu_x[1, 0], windows.mu_x[1, 1])


def test_windows_are_not_rounded_under_autocast():
    model, h = classifier().float(), torch.randn(2, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found = model.window(h)
    assert torch.equal(found.mu_x, model.window(h).mu_x)


def test_every_parameter_receives_a_gradient():
    model = classifier()
    labels = torch.tensor([0, 2, 1, 1])
    loss(model, torch.rand(4, 1, 6, 5).double(), labels).backward()
    for name, p in model.named_parameters():
        assert p.grad.abs().max() > 0, name


def test_images_do_not_disturb_each_other():
    model, x = classifier(), torch.rand(3, 1, 6, 5).double()
    for k in range(3):
        torch.testing.assert_close(model(x[k : k + 1]), model(x)[k : k + 1])


def test_the_loss_of_equal_logits_is_log_classes():
    model = classifier()
    silence(model.answer)
    x, labels = torch.rand(2, 1, 6, 5).double(), torch.tensor([0, 2], dtype=torch.uint8)
    wanted = torch.log(torch.tensor(3.0, dtype=torch.float64))
    torch.testing.assert_close(loss(model, x, labels), wanted)


def test_it_learns_to_tell_left_from_right():
    torch.manual_seed(0)
    model = Classifier(ClassifierConfig(**{**SMALL, "classes": 2, "hidden": 8}))
    labels = torch.arange(32) % 2
    x = torch.zeros(32, 1, 6, 5)
    for k in range(32):
        x[k, 0, k % 6, 4 * (k % 2)] = 1.0
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(150):
        optimiser.zero_grad()
        loss(model, x, labels).backward()
        optimiser.step()
    assert (model(x).argmax(1) == labels).float().mean() > 0.9


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kernel": "box"}, "kernel is 'box'; allowed: gaussian, cauchy"),
        ({"glimpses": 0}, "glimpses is 0; it must be at least 1"),
        ({"classes": 0}, "classes is 0; it must be at least 1"),
    ],
)
def test_impossible_configurations_are_refused_in_one_line(changes, message):
    with pytest.raises(ValueError) as refused:
        ClassifierConfig(**changes)
    assert message in str(refused.value) and "\n" not in str(refused.value)


def test_wrong_images_and_missing_labels_are_refused_in_one_line():
    model = classifier()
    with pytest.raises(ValueError, match=r"allowed: \(batch, 1, 6, 5\)"):
        model(torch.zeros(2, 1, 5, 6).double())
    with pytest.raises(ValueError, match="labels are None; allowed: one class"):
        loss(model, torch.zeros(2, 1, 6, 5).double(), None)


# How it starts and what it is paid for, where that is ours and not the paper's


def course(**changes) -> Classifier:
    torch.manual_seed(1)
    changes = {"image_shape": (1, 40, 40), "read": 5, "glimpses": 3, **changes}
    return Classifier(ClassifierConfig.preset("course", hidden=16, **changes)).double()


def test_the_paper_preset_uses_nothing_of_ours():
    config = ClassifierConfig.preset("paper")
    assert (config.start_sigma, config.start_zoom, config.ink) == (0.0, 1.0, 0.0)
    assert config.supervise == "last"


def test_the_first_window_spans_the_image_and_a_state_unlike_it_sees_a_part():
    model = course(start_sigma=3.0, start_gamma=8.0, start_zoom=0.5)
    first = model.window(model.start_h[None])
    torch.testing.assert_close(
        first.mu_x[0, [0, -1]], torch.tensor([0.0, 39.0]).double()
    )
    five = model.read_head(model.start_h)
    wanted = torch.tensor([0, 0, 2 * np.log(3.0), 0, np.log(8.0)]).double()
    torch.testing.assert_close(five, wanted, atol=1e-6, rtol=0)
    unlike = torch.zeros(16, dtype=torch.float64)
    later = model.window(unlike[None]).mu_x[0]
    torch.testing.assert_close(later[-1] - later[0], torch.tensor(39 * 0.5).double())
    sigma = (0.5 * model.read_head(unlike)[2]).exp()
    torch.testing.assert_close(sigma, torch.tensor(1.5).double())


def test_filters_of_half_a_stride_leave_a_ripple_of_poissons_size():
    stride, sigma = 9.0, 4.5
    a = torch.linspace(0, 9, 91, dtype=torch.float64)
    i = torch.arange(-30, 31, dtype=torch.float64)
    comb = (-((a[:, None] - i * stride) ** 2) / (2 * sigma**2)).exp().sum(1)
    ripple = (comb.max() - comb.min()) / (comb.max() + comb.min())
    wanted = 2 * np.exp(-2 * np.pi**2 * (sigma / stride) ** 2)
    assert abs(ripple - wanted) < 1e-4


def test_the_last_of_all_answers_is_the_answer():
    model, x = course(), torch.rand(4, 1, 40, 40).double()
    answers = model.answers(x)
    assert answers.shape == (3, 4, 10)
    torch.testing.assert_close(answers[-1], model(x))


def test_all_answers_are_paid_for_alike():
    model, x = course(ink=0.0), torch.rand(4, 1, 40, 40).double()
    y = torch.tensor([1, 0, 9, 3])
    each = [torch.nn.functional.cross_entropy(a, y) for a in model.answers(x)]
    torch.testing.assert_close(loss(model, x, y), sum(each) / 3)


def test_ink_is_a_price_of_training_alone():
    model, x = course(ink=0.5), torch.rand(4, 1, 40, 40).double()
    y = torch.tensor([1, 0, 9, 3])
    free = course(ink=0.0)
    free.load_state_dict(model.state_dict())
    states = [before for before, _ in model.look(x)][1:]
    price = -torch.stack([(ink_near(model, x, h) + 1e-6).log() for h in states]).mean()
    torch.testing.assert_close(loss(model, x, y), loss(free, x, y) + 0.5 * price)
    torch.testing.assert_close(loss(model.eval(), x, y), loss(free, x, y))


def test_with_one_glimpse_no_window_has_a_price():
    model, x = course(ink=0.5, glimpses=1), torch.rand(2, 1, 40, 40).double()
    y = torch.tensor([1, 0])
    wanted = torch.nn.functional.cross_entropy(model(x), y)
    torch.testing.assert_close(loss(model, x, y), wanted)


def test_ink_is_a_mean_under_a_gaussian_of_eight_pixels_and_over_channels():
    model = course(image_shape=(3, 40, 40))
    silence(model.read_head)
    x = torch.zeros(1, 3, 40, 40).double()
    x[0, 1, 35, 4] = 1.0
    row = torch.softmax(-((torch.arange(40).double() - 19.5) ** 2) / (2 * 8**2), 0)
    ink = ink_near(model, x, torch.zeros(1, 16).double())
    torch.testing.assert_close(ink[0], row[35] * row[4] / 3)


def test_ink_pulls_a_window_towards_a_far_spot():
    model = course()
    silence(model.read_head)
    x = torch.zeros(1, 1, 40, 40).double()
    x[0, 0, 35, 4] = 1.0
    ink_near(model, x, torch.zeros(1, 16).double()).log().sum().backward()
    slope = model.read_head.bias.grad
    assert slope[0] < -1 and slope[1] > 1  # to the left, and down
    assert slope[2:].abs().max() == 0  # not by growing


@pytest.mark.parametrize("name", ["start_gamma", "start_zoom"])
def test_a_start_without_size_is_refused(name):
    with pytest.raises(ValueError, match=f"{name} is 0.0; it must be above 0"):
        ClassifierConfig(**{name: 0.0})
