"""Sliders and growing curves: there for somebody who watches, absent otherwise."""

import matplotlib.pyplot as plt
import pytest

from drawlib.pages import watching
from drawlib.pages.watching import explore, watch


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def test_watch_passes_every_step_once_and_leaves_one_figure(capsys):
    rows = []
    for step in watch(range(4), rows, {"loss": "training"}, x="step"):
        assert len(rows) == step
        rows.append({"step": step, "loss": 1.0 / (step + 1)})
    assert len(rows) == 4 and len(plt.get_fignums()) == 1
    assert plt.gca().lines[0].get_xdata().tolist() == [0, 1, 2, 3]


def test_watch_redraws_one_display_while_somebody_watches(monkeypatch):
    shown, updates = [], []

    class Handle:
        def update(self, figure):
            updates.append(len(figure.axes[0].lines[0].get_xdata()))

    def display(figure, display_id):
        shown.append(figure)
        return Handle()

    monkeypatch.setattr(watching, "somebody_watches", lambda: True)
    monkeypatch.setattr("IPython.display.display", display)
    rows = []
    for step in watch(range(4), rows, "loss", x="step", seconds=-1):
        rows.append({"step": step, "loss": 0.0})
    assert len(shown) == 1 and updates == [2, 3, 4]
    assert len(plt.get_fignums()) == 1


def test_sliders_appear_only_where_somebody_can_move_them(monkeypatch):
    made = []
    monkeypatch.setattr("ipywidgets.interact", lambda draw, **kw: made.append(kw))
    explore(print, a=(0, 1))
    assert made == []
    monkeypatch.setattr(watching, "somebody_watches", lambda: True)
    explore(print, a=(0, 1))
    assert made == [{"a": (0, 1)}]
