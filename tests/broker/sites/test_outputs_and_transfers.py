"""Data on its way, on the twins of store and engine: outputs that become datasets, and inputs that are brought to a site."""

from dataclasses import replace

from broker.documents.job import MOST_OUTPUTS
from broker.jobs.model import Ending, Phase
from broker.records import Booking
from broker.storage import Tree
from broker.store import keys as kinds
from tests.broker.sites.owner import KEYS, WORDS, Place, in_virtual_time
from topology.dataset import Dataset, DatasetId, Replica


def test_outputs_become_replicas_with_the_success():
    async def story(place: Place):
        path = ".fed/outputs/fed-j1-a1/words"
        place.shelf.outputs[path] = Tree(7, "sha256:abcd")
        await place.owner()
        place.job(outputs=("words",))
        job = await place.until_phase(Phase.SUCCEEDED)
        words = DatasetId("default", "words", "j1")
        assert job.outputs == (words,)
        assert place.read(kinds.DATASETS, "default", "words@j1").checksum == "sha256:abcd"
        assert place.read(kinds.REPLICAS, "default", "words@j1", "ams") == Replica(words, "ams", path)

    in_virtual_time(story)


def test_the_most_outputs_that_a_job_may_have_are_stored_with_its_success():
    async def story(place: Place):
        names = tuple(f"part-{number}" for number in range(MOST_OUTPUTS))
        place.shelf.outputs.update({f".fed/outputs/fed-j1-a1/{name}": Tree(7, "sha256:abcd") for name in names})
        await place.owner()
        place.job(outputs=names)
        job = await place.until_phase(Phase.SUCCEEDED)
        assert [dataset.name for dataset in job.outputs] == list(names)

    in_virtual_time(story)


def test_a_job_whose_end_no_store_takes_stays_put_and_the_others_end():
    async def story(place: Place):
        outputs = tuple(f"part-{number}" for number in range(50))
        place.shelf.outputs.update({f".fed/outputs/fed-j1-a1/{name}": Tree(7, "sha256:abcd") for name in outputs})
        owner = await place.owner()
        place.job("j1", outputs=outputs)
        place.job("j2")
        await place.until_phase(Phase.SUCCEEDED, "j2")
        await place.until(lambda: owner.ledger.rejected)
        place.job("j3")
        await place.until_phase(Phase.SUCCEEDED, "j3")
        assert place.state("j1").phase is Phase.COLLECTING
        assert "101 operations" in owner.ledger.rejected[KEYS.of(kinds.STATES, "j1")]

    in_virtual_time(story)


def test_an_output_that_is_not_there_fails_the_job_but_storage_that_is_away_does_not():
    async def story(place: Place):
        place.shelf.is_away = True
        await place.owner()
        place.job(outputs=("words",))
        await place.until_phase(Phase.COLLECTING)
        await place.until(lambda: place.clock.now() > place.state().attempt.end.at + 20)
        assert place.state().phase is Phase.COLLECTING
        place.shelf.is_away = False
        job = await place.until_phase(Phase.FAILED)
        assert job.reason == "output words: the run left nothing there"

    in_virtual_time(story)


def a_booking(place: Place) -> None:
    place.put(KEYS.dataset(WORDS), Dataset(WORDS), KEYS.replica(WORDS, "fra"), Replica(WORDS, "fra", "corpus/"))
    place.put(KEYS.of(kinds.SITES, "fra"), replace(place.read(kinds.SITES, "ams"), name="fra"))
    place.put(KEYS.booking(WORDS, "ams"), Booking(WORDS, "fra", "ams", ("fra:ams",), 1.0, 0.1, place.clock.now()))


def test_one_transfer_serves_all_who_wait_for_it():
    async def story(place: Place):
        await place.owner()
        a_booking(place)
        place.job("j1", inputs=(WORDS,))
        place.job("j2", inputs=(WORDS,))
        await place.until_phase(Phase.SUCCEEDED, "j1")
        await place.until_phase(Phase.SUCCEEDED, "j2")
        assert len(place.shelf.copies) == 1
        assert place.read(kinds.BOOKINGS, "ams", "default", "corpus@1") is None
        assert place.read(kinds.REPLICAS, "default", "corpus@1", "ams").path == ".fed/replicas/default/corpus@1"
        assert place.read(kinds.DATASETS, "default", "corpus@1").checksum == "sha256:beef"

    in_virtual_time(story)


def test_a_transfer_that_fails_three_times_is_told_and_dropped():
    async def story(place: Place):
        place.shelf.copy_problem = "disk full"
        await place.owner()
        a_booking(place)
        place.job(inputs=(WORDS,))
        job = await place.until_phase(Phase.PENDING)
        assert len(place.shelf.copies) == 3
        assert job.reason == "default/corpus@1 cannot be brought from fra to ams: disk full"
        await place.until(lambda: place.read(kinds.BOOKINGS, "ams", "default", "corpus@1") is None)

    in_virtual_time(story)


def test_a_transfer_whose_source_was_taken_away_sends_its_jobs_back_uncounted():
    async def story(place: Place):
        place.shelf.copy_problem = "disk full"  # no copy comes through meanwhile
        await place.owner()
        a_booking(place)
        place.job(inputs=(WORDS,))
        place.remove(KEYS.replica(WORDS, "fra"))
        job = await place.until_phase(Phase.PENDING)
        assert (job.attempt.end.ending, job.reason) == (Ending.WITHDRAWN, "default/corpus@1 is no longer at fra")
        await place.until(lambda: place.read(kinds.BOOKINGS, "ams", "default", "corpus@1") is None)

    in_virtual_time(story)


def test_a_transfer_that_nobody_waits_for_is_dropped_and_a_job_without_one_goes_back():
    async def story(place: Place):
        a_booking(place)
        await place.owner()
        await place.until(lambda: place.read(kinds.BOOKINGS, "ams", "default", "corpus@1") is None)
        place.job(inputs=(WORDS,))
        job = await place.until_phase(Phase.PENDING)
        assert job.attempt.end.ending is Ending.WITHDRAWN

    in_virtual_time(story)
