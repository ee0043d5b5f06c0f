"""What a job's spec says of its size."""

from __future__ import annotations

from adapters.base import Spark
from broker.jobs.model import GpuRequest, JobSpec, JobState, TaskResources, shape_of


def test_a_job_is_as_many_pieces_as_it_has_tasks():
    assert JobSpec("physics", tasks=3, resources=TaskResources(2, 4)).pieces == (3, TaskResources(2, 4))


def test_a_spark_application_is_its_driver_and_its_executors_each_counted_as_the_larger():
    spec = JobSpec(
        "physics", resources=TaskResources(2, 1, GpuRequest()), spark=Spark("a.py", executors=5, executor_memory_gib=4)
    )
    assert spec.pieces == (6, TaskResources(2, 4))


def test_placement_looks_for_room_for_the_executors_too():
    shape = shape_of(JobSpec("physics", resources=TaskResources(1, 2), spark=Spark("a.py", executors=3)), JobState("j1"))
    assert (shape.tasks, shape.resources, shape.needs) == (4, TaskResources(1, 2), ("spark",))
