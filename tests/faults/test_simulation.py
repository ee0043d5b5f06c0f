"""Thousands of small worlds in which everything goes wrong, each held to every promise. `run.py` lives through one again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SEEDS = 2000


def simulate(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.faults.run", "--jobs", str(os.cpu_count() or 1), *arguments]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.timeout(1800)
def test_whatever_goes_wrong_every_promise_is_kept():
    done = simulate("--seeds", f"0:{SEEDS}")
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert f"{SEEDS} seeds" in done.stdout


@pytest.mark.timeout(120)
@pytest.mark.parametrize("seed", [3, 45])
def test_a_seed_is_lived_through_alike_each_time(seed):
    first, second = (simulate("--seed", str(seed), "--trace").stdout for _ in range(2))
    assert first == second
    assert "acknowledged" in first
