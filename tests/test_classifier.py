"""The recurrent attention classifier: windows, glimpses, loss."""

import numpy as np
import pytest
import reference_recurrent as reference
import torch
from small_recurrent import shaken, silence

from drawlib.classifier import Classifier, ClassifierConfig, loss

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
