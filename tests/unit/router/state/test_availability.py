"""When a model of an upstream may be sent requests, under virtual time."""

import pytest

from router.state.availability import IDLE_S, IN_A_ROW, MAX_PROOFS, PROBE_S, RELAPSE_S, Availability

HUNG_S = 1.0


def proven(now_s=0.0, took_s=0.01):
    """An upstream that has answered a probe."""
    upstream = Availability(HUNG_S)
    upstream.probed(took_s, now_s)
    return upstream


def send(upstream, now_s, outcome, *words):
    """One request that ends in the same moment."""
    upstream.sent(now_s)
    getattr(upstream, outcome)(*words, now_s)


def watch(upstream, from_s, until_s, step_s=0.05):
    """Look at it as its owner does; the moment at which it was first seen closed, None for never."""
    steps = round((until_s - from_s) / step_s)
    for at in range(steps + 1):
        if upstream.closed(from_s + at * step_s):
            return from_s + at * step_s
    return None


def test_it_is_closed_until_a_real_inference_has_proven_it():
    """That it says it is ready proves nothing."""
    upstream = Availability(HUNG_S)
    upstream.told("", 0.0)
    assert upstream.closed(0.0) == ("backend_lost", "upstream: not measured yet")
    assert upstream.probe_due(0.0)
    upstream.probed(0.01, 0.1)
    assert upstream.closed(0.1) is None


def test_failures_in_a_row_close_it_and_an_answer_between_them_does_not_let_them_add_up():
    """A single failure is the request's own business."""
    upstream = proven()
    for _ in range(IN_A_ROW - 1):
        send(upstream, 1.0, "failed", "500")
    send(upstream, 1.0, "answered", 0.01)
    for _ in range(IN_A_ROW - 1):
        send(upstream, 1.1, "failed", "500")
    assert upstream.closed(1.1) is None
    send(upstream, 1.1, "failed", "connection refused")
    assert upstream.closed(1.1) == ("backend_lost", "upstream: connection refused")


def test_mostly_failures_close_it_though_answers_come_between_them():
    """Every other request fails: never three in a row."""
    upstream = proven()
    for turn in range(6):
        send(upstream, 1.0 + turn * 0.1, "answered", 0.01)
        send(upstream, 1.0 + turn * 0.1, "failed", "500")
    assert upstream.closed(1.6) == ("backend_lost", "upstream: 500")


def test_what_may_be_forbidden_to_all_is_asked_by_a_probe_even_under_load():
    """A request alone says nothing of others; three probes that are refused do."""
    upstream = proven()
    upstream.sent(1.0)
    for turn in range(20):
        now_s = 1.0 + turn * 0.25
        send(upstream, now_s, "heard")
        assert not upstream.probe_due(now_s), "an answer that says nothing needs no probe"
    upstream.sent(6.0)
    upstream.heard(6.0, doubtful=True)
    assert upstream.closed(6.0) is None
    for turn in range(IN_A_ROW):
        assert upstream.probe_due(6.0 + turn * IDLE_S)
        upstream.probe_failed("403", 6.0 + turn * IDLE_S)
    assert upstream.closed(6.0 + 2 * IDLE_S) == ("backend_lost", "upstream: 403")


def test_silence_while_requests_wait_closes_it_and_says_that_it_hangs():
    """What is under way will not be answered, so its owner may give it up."""
    upstream = proven()
    upstream.sent(5.0)
    upstream.sent(5.0)
    assert watch(upstream, 5.0, 7.0) == pytest.approx(5.0 + HUNG_S)
    assert upstream.hung
    assert upstream.closed(7.0) == ("backend_lost", "upstream: no answer for 1 s while 2 requests wait")


def test_silence_counts_though_it_is_closed_for_another_reason():
    """What was sent before would wait for ever: its readiness was found to hang first."""
    upstream = proven(took_s=0.4)
    upstream.sent(5.0)
    for turn in range(IN_A_ROW):
        assert not upstream.hung
        upstream.unheard("no answer", 5.0 + turn * 0.1)
    hung_s = next(now_s for step in range(100) if upstream.closed(now_s := 5.3 + step * 0.05) and upstream.hung)
    assert hung_s == pytest.approx(5.0 + 4 * 0.4, abs=0.11)
    upstream.left(7.5)
    for _ in range(2):
        upstream.probed(0.01, 8.0)
    assert upstream.closed(8.0) is None
    assert not upstream.hung


def test_an_idle_upstream_slow_to_say_that_it_is_ready_is_probed_and_stays_open():
    """No answer about readiness is no news that would put the probe off."""
    upstream = proven()
    for turn in range(40):
        now_s = 0.1 + turn * 0.6
        if upstream.probe_due(now_s):
            upstream.probed(0.01, now_s)
        upstream.unheard("no answer", now_s)
        assert upstream.closed(now_s) is None


def test_requests_that_run_out_of_time_are_silence_too():
    """Short deadlines must not hide a hang."""
    upstream = proven()
    closed = None
    for turn in range(30):
        now_s = turn * 0.1
        upstream.sent(now_s)
        closed = closed or watch(upstream, now_s, now_s + 0.05)
        upstream.left(now_s + 0.08)
    assert closed is not None
    assert closed < 2 * HUNG_S


def test_silence_with_nothing_under_way_is_none():
    """One request was cancelled long ago, another has just been sent."""
    upstream = proven()
    upstream.sent(1.0)
    upstream.left(1.01)
    upstream.sent(90.0)
    assert watch(upstream, 90.0, 90.0 + 0.8 * HUNG_S) is None


def test_a_pause_of_the_watcher_is_no_silence_of_the_upstream():
    """Nobody looked for a minute."""
    upstream = proven()
    upstream.sent(1.0)
    assert upstream.closed(61.0) is None


def test_a_model_that_is_slow_by_nature_does_not_hang():
    """Each answer takes three seconds."""
    upstream = proven(took_s=3.0)
    upstream.sent(5.0)
    assert watch(upstream, 5.0, 5.0 + 9.0) is None


def test_it_comes_back_once_a_probe_is_answered():
    """One at a time, PROBE_S apart, however ready it says it is."""
    upstream = proven()
    for _ in range(IN_A_ROW):
        send(upstream, 20.0, "failed", "500")
    upstream.told("", 20.0)
    assert upstream.probe_due(20.0 + PROBE_S)
    upstream.probe_failed("500 again", 20.0 + PROBE_S)
    assert upstream.closed(20.3) == ("backend_lost", "upstream: 500 again")
    assert not upstream.probe_due(20.3)
    upstream.probed(0.01, 21.0)
    assert upstream.closed(21.0) is None


def test_one_that_relapses_must_prove_itself_twice_as_often():
    """Up to a bound; one that has held for a while starts again at one."""
    upstream = proven()
    now_s = 1.0
    needed = []
    for _ in range(6):
        for _ in range(IN_A_ROW):
            send(upstream, now_s, "failed", "500")
        needed.append(0)
        while upstream.closed(now_s):
            upstream.probed(0.01, now_s)
            needed[-1] += 1
    assert needed == [2, 4, MAX_PROOFS, MAX_PROOFS, MAX_PROOFS, MAX_PROOFS]
    now_s += 2 * RELAPSE_S
    for _ in range(IN_A_ROW):
        send(upstream, now_s, "failed", "500")
    upstream.probed(0.01, now_s)
    assert upstream.closed(now_s) is None


def test_its_own_word_closes_it_at_once_and_opens_nothing():
    """Nor is it probed while it says that it is not ready."""
    upstream = proven()
    upstream.told("says that it is not ready", 5.0)
    assert upstream.closed(5.0) == ("backend_lost", "upstream: says that it is not ready")
    assert not upstream.probe_due(6.0)
    upstream.told("", 7.0)
    assert upstream.closed(7.0)
    assert upstream.probe_due(7.0)


def test_refusals_are_no_failures_and_close_it_for_as_long_as_it_asks():
    """Full, not lost: then it is open again without a proof."""
    upstream = proven()
    for _ in range(IN_A_ROW):
        send(upstream, 5.0, "refused", "429", 2.0)
    assert upstream.closed(6.9) == ("queue_full", "upstream: 429")
    assert upstream.closed(7.0) is None


def test_refusals_between_answers_close_nothing():
    """It works at its limit: what it refuses is tried elsewhere, one by one."""
    upstream = proven()
    for turn in range(20):
        send(upstream, 5.0 + turn, "refused", "429", 2.0)
        send(upstream, 5.0 + turn, "refused", "429", 2.0)
        send(upstream, 5.0 + turn, "answered", 0.01)
        assert upstream.closed(5.0 + turn) is None


def test_refusals_without_a_time_hold_longer_each_time():
    """Until it answers again."""
    upstream = proven()
    holds = []
    now_s = 5.0
    for _ in range(6):
        while upstream.closed(now_s) is None:
            send(upstream, now_s, "refused", "503", None)
        started_s = now_s
        while upstream.closed(now_s):
            now_s += 0.01
        holds.append(round(now_s - started_s, 1))
    assert holds == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


def test_one_that_says_to_come_again_at_once_is_held_all_the_same():
    """Or an overloaded server would be sent everything, for ever."""
    upstream = proven()
    now_s = 5.0
    for turn in range(1100):
        for _ in range(IN_A_ROW):
            send(upstream, now_s, "refused", "429", 0.0)
        if turn > 4:
            assert upstream.closed(now_s + 0.9)
        now_s += 1.1
    assert upstream.closed(now_s) is None


def test_without_news_it_is_probed_though_it_is_open():
    """A server that dies while nobody asks is found out before traffic does."""
    upstream = proven()
    send(upstream, 5.0, "answered", 0.01)
    assert not upstream.probe_due(5.0 + IDLE_S / 2)
    assert upstream.probe_due(5.0 + IDLE_S)
    upstream.sent(6.5)
    assert not upstream.probe_due(9.0)


def test_a_readiness_question_without_answer_counts_unless_requests_are_answered():
    """A busy server may be too busy for the question."""
    upstream = proven()
    for turn in range(20):
        send(upstream, turn * 0.1, "answered", 0.01)
        send(upstream, turn * 0.1, "answered", 0.01)
        upstream.unheard("no answer", turn * 0.1)
    assert upstream.closed(2.0) is None
    for _ in range(IN_A_ROW):
        upstream.unheard("no answer", 3.0)
    assert upstream.closed(3.0) == ("backend_lost", "upstream: no answer")
