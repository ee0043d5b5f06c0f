"""Plans in parts on the real Ray, which has a Python of its own here: see `build.sh`."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.engines.ray.cluster import programs
from tests.engines.running import cache

ROOT = Path(__file__).parents[3]
IS_BUILT = any(cache().glob("ray/.is-*-with-plans"))
MISSING = "" if IS_BUILT else "Ray with what plans need: run tests/engines/ray/build.sh"
pytestmark = [pytest.mark.engines, pytest.mark.skipif(bool(MISSING), reason=MISSING), pytest.mark.timeout(600)]


def test_actors_plan_what_is_planned_here_and_one_that_dies_breaks_the_crew():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"}
    command = [programs() / "python", "-m", "tests.engines.ray.in_parts"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    # four sites of eight cpus: 32 of the 40 jobs of one cpu have room
    assert told == {"same": [True, True], "placed": 32, "killed": "BrokenProcessPool"}
