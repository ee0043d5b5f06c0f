"""What a log line says."""

import json
import logging
import sys

import pytest

from broker.log import FORMATS


def a_record(message="placed \"it\"\n", *args, **extra):
    record = logging.LogRecord("broker.planner", logging.WARNING, "planner.py", 1, message, args, None)
    record.created, record.msecs = 0.25, 250
    for name, value in extra.items():
        setattr(record, name, value)
    return record


def test_a_line_for_people_is_one_line_with_ids():
    line = FORMATS["text"]().format(a_record(job="j1", site="ams"))
    assert line == '1970-01-01T00:00:00.250Z warning broker.planner "placed \\"it\\"\\n" job=j1 site=ams'


def test_a_line_for_machines_is_one_object_with_ids():
    line = FORMATS["json"]().format(a_record("%s waits\n", "ams", site="ams"))
    assert "\n" not in line
    assert json.loads(line) == {
        "time": "1970-01-01T00:00:00.250Z",
        "level": "warning",
        "logger": "broker.planner",
        "message": "ams waits\n",
        "site": "ams",
    }


@pytest.mark.parametrize("format_", FORMATS)
def test_a_bug_brings_its_traceback(format_):
    record = a_record()
    try:
        raise ValueError("boom")
    except ValueError:
        record.exc_info = sys.exc_info()
    line = FORMATS[format_]().format(record)
    assert "ValueError: boom" in line
    assert format_ == "text" or json.loads(line)["traceback"].startswith("Traceback")
