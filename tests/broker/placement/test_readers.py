"""What is brought once is counted once: for all who read it, as far as they may follow."""

from hypothesis import given, settings

from broker.jobs.model import Weights
from broker.placement.assign import plan
from broker.placement.board import Board
from broker.placement.memory import Memory
from broker.placement.readers import Readers
from broker.placement.view import Held
from tests.broker.placement.drawn import worlds
from tests.broker.placement.worlds import NOW, a_dataset, a_link, a_shape, a_view, a_world, waiting
from topology.resources import Resources


def a_hot_dataset(*counts, priorities=(50, 50, 50), gpus=100):
    """ams holds 500 GiB and all its 8 GPUs are busy for 10 h; fra has none of the data and idle GPUs. To move it takes 500 * 0.05
    = 25 of money, which weighs like hours, and 0.14 h. Classes of so many jobs, of 1, 2 and 3 h on one GPU, read it."""
    busy = Held("cpu", Resources.of(1, 0, {"a100": 8}), 1, (NOW + 36_000,))
    views = (a_view("ams", 64, gpus={"a100": 8}, held=(busy,)), a_view("fra", 100, gpus={"a100": gpus}))
    shapes = [
        a_shape(run_hours=hours, gpus=1, inputs=("corpus",), objective=Weights(1, 1, 0), priority=priority)
        for hours, priority in zip((1, 2, 3), priorities, strict=True)
    ]
    classes = [waiting(shape, count) for shape, count in zip(shapes, counts, strict=False)]
    links = [a_link("ams", "fra", price=0.05)]
    return a_world(*views, classes=classes, at={"corpus": "ams"}, sizes={"corpus": 500}, links=links)


def test_a_hot_dataset_is_moved_to_where_there_is_room():
    # alone: 10 h of waiting against 25 of money and 0.14 h; of 100 each counts 0.25 and 0.14 h, and all go
    made = plan(a_hot_dataset(100))
    assert [(placement.site, placement.count) for placement in made.placements] == [("fra", 100)]
    assert [(booking.source, booking.target) for booking in made.bookings] == [("ams", "fra")]


def test_one_reader_alone_waits_at_its_data():
    assert plan(a_hot_dataset(1)).placements == ()


def test_a_dataset_is_only_as_hot_as_there_is_room_for_its_readers():
    # five wait for 10 h at ams, or some share 25 at fra: by two 12.5 each and 0.14 h, by three 8.3 and 0.14 h
    assert plan(a_hot_dataset(5, gpus=2)).bookings == ()
    assert len(plan(a_hot_dataset(5, gpus=3)).bookings) == 1


def test_classes_share_one_transfer():
    # of three readers each counts 8.3 and 0.14 h, against 10 h of waiting, though each class has but one
    made = plan(a_hot_dataset(1, 1, 1))
    assert len(made.bookings) == 1
    assert {(placement.shape.run_time_s, placement.site, placement.bookings) for placement in made.placements} == {
        (hours * 3600, "fra", made.bookings) for hours in (1, 2, 3)
    }


def test_the_first_pays_for_all_of_a_transfer():
    board = Board(a_hot_dataset(100), Memory())
    choices = board.choices(board.given.classes[0].shape, 0.0)
    fra = [board.site(choices, option) for option in range(2)].index("fra")
    assert choices.egress_money[fra] == 0.25
    board.take(choices, fra, 1)
    assert board.placements[0].decision.cost.egress_money == 25
    assert board.renewed(choices).egress_money[fra] == 0


def test_none_moves_for_the_sake_of_a_lower_priority():
    # the one above counts all of the 25 and waits for 10 h; the 99 below count 0.25 each and go
    made = plan(a_hot_dataset(1, 99, priorities=(60, 50, 50)))
    assert {(placement.shape.priority, placement.site) for placement in made.placements} == {(50, "fra")}


def test_who_finds_room_at_the_data_shares_nothing():
    # all five may start at ams, so that each counts the whole 25 for fra
    world = a_hot_dataset(5)
    _, fra = world.sites
    idle = a_world(
        a_view("ams", 64, gpus={"a100": 8}),
        fra,
        classes=world.classes,
        at={"corpus": "ams"},
        sizes={"corpus": 500},
        links=[a_link("ams", "fra", price=0.05)],
    )
    board = Board(idle, Memory())
    assert sorted(board.choices(world.classes[0].shape, 0.0).egress_money) == [0, 25]


@given(worlds())
@settings(max_examples=100, deadline=None)
def test_readers_are_those_who_wait_still(world):
    judge = Board(world, Memory()).judge
    before, after, asked_first = (Readers(world.classes, judge) for _ in range(3))
    first = world.classes[0]
    for dataset in ("corpus", "images"):
        asked_first.at_least(a_dataset(dataset), first.shape.priority)
    for readers in (after, asked_first):
        readers.placed(first.shape, first.count)
    for dataset in map(a_dataset, ("corpus", "images")):
        counts = before.at_least(dataset, first.shape.priority) - after.at_least(dataset, first.shape.priority)
        may_run = [any(judge.options(first.shape).sites == site) for site in range(len(judge.views))]
        assert counts.tolist() == [first.count * (dataset in first.shape.inputs) * may for may in may_run]
        assert (after.at_least(dataset, 0) == asked_first.at_least(dataset, 0)).all()
        assert (after.at_least(dataset, first.shape.priority) == asked_first.at_least(dataset, first.shape.priority)).all()
