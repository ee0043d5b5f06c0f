"""Answers of a probe."""

from __future__ import annotations

from adapters.base import Layer
from adapters.probing import Answers


def told(answers: Answers) -> list[tuple[Layer, bool, str, bool]]:
    assert all(check.latency_ms >= 0 for check in answers.checks)
    return [(check.layer, check.is_ok, check.message, check.is_misconfigured) for check in answers.checks]


def test_what_nobody_objects_to_is_well():
    answers = Answers()
    answers.answered(Layer.REACH, words="version 3")
    answers.answered(Layer.LOGIN)
    answers.answered(Layer.SCHEDULER, "no queue batch", is_misconfigured=True)
    assert told(answers) == [
        (Layer.REACH, True, "version 3", False),
        (Layer.LOGIN, True, "", False),
        (Layer.SCHEDULER, False, "no queue batch", True),
    ]


def test_it_is_the_next_layer_that_fails_and_it_may_say_nothing():
    answers = Answers()
    answers.answered(Layer.REACH)
    answers.failed("")
    assert told(answers) == [(Layer.REACH, True, "", False), (Layer.LOGIN, False, "", False)]


def test_who_denies_us_was_reached():
    for layers in ((), (Layer.REACH,)):
        answers = Answers()
        for layer in layers:
            answers.answered(layer)
        assert answers.is_ok
        answers.denied("no such user")
        assert not answers.is_ok
        assert told(answers) == [(Layer.REACH, True, "", False), (Layer.LOGIN, False, "no such user", True)]


def test_a_layer_may_be_refuted_by_those_behind_it():
    answers = Answers()
    for layer in (Layer.REACH, Layer.LOGIN, Layer.SCHEDULER):
        answers.answered(layer)
    answers.refuted(Layer.LOGIN, "no such account")
    assert told(answers) == [(Layer.REACH, True, "", False), (Layer.LOGIN, False, "no such account", False)]
