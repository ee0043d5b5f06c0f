"""The endpoint against its own OpenAPI document: schemathesis draws requests from it, good and bad, the same ones each time."""

import re
import subprocess
import sys

from tests.broker.cli.conftest import behave, broker_in_a_thread

EXAMPLES = 10
"""Drawn of each operation, beside those of its schema's edges."""
LEAST_CASES = 400
LEFT_OUT = "positive_data_acceptance,allow_header_conformance"
"""A document cannot say all that a request must mean, as that a job's site is there. And /v1/jobs/cancel is a verb to POST, and
to GET a job of that name."""

RUN = """
import schemathesis
from schemathesis.cli import schemathesis as run
schemathesis.serializer.alias("application/x-tar", "application/octet-stream")  # any bytes
run()
"""
ENDLESS = "/v1/events"
"""Left out: it ends when its reader leaves."""


def test_every_answer_is_one_that_the_document_tells(tmp_path):
    with broker_in_a_thread(behave) as url:
        command = [sys.executable, "-W", "ignore", "-c", RUN, "run"]
        options = ["--max-examples", EXAMPLES, "--seed", 1, "--generation-deterministic", "--exclude-checks", LEFT_OUT]
        options += ["--phases", "examples,coverage,fuzzing", "--exclude-path", ENDLESS, "--no-color"]
        done = subprocess.run(
            [*command, *map(str, options), f"{url}/openapi.json"],
            cwd=tmp_path, capture_output=True, text=True, timeout=110, check=False,
        )  # fmt: skip
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr
    (cases,) = re.findall(r"(\d+) generated", done.stdout)
    assert int(cases) >= LEAST_CASES
    print(f"{cases} cases")
