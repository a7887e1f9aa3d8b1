"""A status comes before its time where a stream begins or ceases to be live, and the log is not flooded."""

import pytest

from edge.pipeline.news import HELD_NS, LOG_PERIOD_NS, NEWS_PERIOD_NS, News
from edge.transport.messages import Load

MS = 1_000_000
NOTHING, SHED = Load(), Load(level=1, name="economy", why="hot")


class Told:
    """A pipeline that tells where there is news, and once a second, looking every 20 ms."""

    def __init__(self) -> None:
        self.news, self.now_ns, self.early_ms = News(), 0, []
        self._due_ns = 0

    def be(self, state: str, ms: int, load: Load = NOTHING) -> "Told":
        """Let a stream be in a state for so long."""
        return self.each(lambda _: state, ms, load)

    def each(self, state_at, ms: int, load: Load = NOTHING) -> "Told":
        for _ in range(ms // 20):
            states = {"camera": state_at(self.now_ns // MS)}
            is_early = self.news.is_due(states, load, self.now_ns)
            if is_early or self.now_ns >= self._due_ns:
                self.early_ms += [self.now_ns // MS] if self.now_ns < self._due_ns else []
                self._due_ns = self.now_ns + 1000 * MS if self.now_ns >= self._due_ns else self._due_ns
                self.news.note_told(states, load, self.now_ns)
            self.now_ns += 20 * MS
        return self


def test_what_does_not_change_is_told_once_a_second():
    assert Told().be("live", 5000).early_ms == []


def test_a_stream_that_ceases_or_begins_to_be_live_is_told_of_at_once(caplog):
    caplog.set_level("INFO")
    told = Told().be("live", 1500).be("silent", 1500).be("live", 1500)
    assert told.early_ms == [1500]  # at 3000 a status is due anyway
    assert [record.getMessage() for record in caplog.records] == [
        "stream camera: live -> silent",
        "stream camera: silent -> live",
    ]
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_reasons_that_change_with_every_message_flood_neither_the_results_nor_the_log(caplog):
    """As where each message is damaged in another way."""
    caplog.set_level("INFO")
    told = Told().be("live", 500).each(lambda ms: f"reason {ms // 100}", 5000)
    assert told.early_ms == [500]
    assert 1 <= len(caplog.records) <= 1 + 5000 * MS // LOG_PERIOD_NS


def test_another_reason_is_news_when_it_has_held():
    """Nothing else is due in between: what was told before its time does not put the next status off."""
    news = News()
    news.note_told({"camera": "black"}, NOTHING, 0)
    assert not news.is_due({"camera": "frozen"}, NOTHING, NEWS_PERIOD_NS)
    assert not news.is_due({"camera": "frozen"}, NOTHING, NEWS_PERIOD_NS + HELD_NS - 1)
    assert news.is_due({"camera": "frozen"}, NOTHING, NEWS_PERIOD_NS + HELD_NS)
    assert not news.is_due({"camera": "black"}, NOTHING, 3 * HELD_NS)


def test_news_come_five_times_a_second_at_most():
    told = Told().be("live", 1020).each(lambda ms: "live" if ms % 40 else "silent", 900)
    assert len(told.early_ms) <= 900 * MS // NEWS_PERIOD_NS + 1
    assert all(later - earlier >= 200 for earlier, later in zip(told.early_ms, told.early_ms[1:], strict=False))


@pytest.mark.parametrize("before", ["live", "silent"])
def test_what_is_shed_is_news_and_logged(caplog, before):
    told = Told().be(before, 500).be(before, 500, SHED).be(before, 1000)
    assert told.early_ms == [500]
    assert caplog.text.count("shedding: economy: hot") == 1
    assert caplog.text.count("shedding: nothing any more") == 1


def test_a_turn_that_was_not_logged_is_logged_once_it_holds(caplog):
    caplog.set_level("INFO")
    Told().be("live", 500).be("silent", 300).be("live", 3000)
    assert [record.getMessage() for record in caplog.records] == [
        "stream camera: live -> silent",
        "stream camera: silent -> live",
    ]
