"""The local server refuses what is no port."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import serve  # noqa: E402


@pytest.mark.parametrize("port", ["-1", "65536", "x"])
def test_what_is_no_port_gets_one_line(monkeypatch, capsys, port):
    monkeypatch.setattr(sys, "argv", ["serve", f"--port={port}"])
    with pytest.raises(SystemExit) as ended:
        serve.main()
    assert ended.value.code == 2
    assert port in capsys.readouterr().err.splitlines()[-1]
