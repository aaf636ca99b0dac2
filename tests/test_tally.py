"""What the processes of a job tell each other: how often work was begun in vain, and how far all of it is."""

from lfm_deploy.prediction.tally import JobState, Tally, UnderWay


def test_work_that_was_begun_and_never_ended_is_counted_until_it_is():
    tally = Tally()
    assert [tally.begin("part 1", "a.tar", "host", process) for process in (10, 11, 12)] == [1, 2, 3]
    assert tally.begin("part 2", "b.tar", "host", 13) == 1
    tally.end("part 1", 5)
    assert tally.begin("part 1", "a.tar", "host", 14) == 1


def test_pictures_of_a_process_that_died_do_not_count():
    tally = Tally()
    tally.begin("part 1", "a.tar", "one", 10)
    tally.advance("part 1", 40)
    tally.advance("part 1", 2)
    tally.begin("part 2", "b.tar", "two", 11)
    here = UnderWay(name="a.tar", host="one", process=10, pictures=42)
    there = UnderWay(name="b.tar", host="two", process=11)
    assert tally.read() == JobState(pictures=42, under_way=(here, there))
    tally.begin("part 1", "a.tar", "two", 12)
    assert tally.read().pictures == 0
    tally.advance("part 1", 8)
    tally.end("part 1", 100)
    assert tally.read() == JobState(pictures=100, under_way=(there,))


def test_a_tally_that_was_started_anew_knows_nothing_and_goes_on():
    tally = Tally()
    tally.advance("part 7", 3)
    tally.end("part 7", 10)
    assert tally.read() == JobState(pictures=10, under_way=())


def test_how_long_nothing_has_happened_is_counted_from_the_last_picture():
    now = [100.0]
    tally = Tally(clock=lambda: now[0])
    tally.begin("part 1", "a.tar", "one", 10, actor="its handle")
    now[0] = 160.0
    tally.begin("part 2", "b.tar", "two", 11)
    now[0] = 170.0
    assert [(found.name, found.actor, found.idle_s) for found in tally.read().under_way] == [
        ("a.tar", "its handle", 70.0),
        ("b.tar", None, 10.0),
    ]
    tally.advance("part 1", 3)
    tally.end("part 2")
    now[0] = 171.0
    assert [found.idle_s for found in tally.read().under_way] == [1.0]
    tally.begin("part 1", "a.tar", "one", 12)
    assert [found.idle_s for found in tally.read().under_way] == [0.0]
