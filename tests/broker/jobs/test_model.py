"""What a job's spec says of its size."""

from __future__ import annotations

from adapters.base import Spark
from broker.jobs.model import GpuRequest, JobSpec, TaskResources


def test_a_job_is_as_many_pieces_as_it_has_tasks():
    assert JobSpec("physics", tasks=3, resources=TaskResources(2, 4)).pieces == (3, TaskResources(2, 4))


def test_a_spark_application_is_its_driver_and_its_executors_each_counted_as_the_larger():
    spec = JobSpec(
        "physics", resources=TaskResources(2, 1, GpuRequest()), spark=Spark("a.py", executors=5, executor_memory_gib=4)
    )
    assert spec.pieces == (6, TaskResources(2, 4))
