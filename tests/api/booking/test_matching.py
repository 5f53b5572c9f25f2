"""Whose use was whose: each rule by an example, then what holds for any session and any claims."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from api.booking.matching import (
    EARLY_GRACE_MS,
    FORGOTTEN_CHECK_OUT,
    LATE_GRACE_MS,
    MINUTE_MS,
    RAN_PAST_SLOT,
    Claim,
    MeteredSession,
    OdometerPoint,
    Part,
    apportion,
)

M = MINUTE_MS
EDGES = [0, 30 * M, 60 * M, 75 * M, 90 * M, 120 * M, 180 * M]


def running(start: int, end: int) -> MeteredSession:
    """A session that runs from its first to its last instant."""
    return MeteredSession("s", (OdometerPoint(start, 0, 0), OdometerPoint(end, end - start, 0)))


def owners(session: MeteredSession, *claims: Claim, needs_check_in: bool = False) -> list[tuple[str | None, int, int]]:
    parts = apportion(session, claims, needs_check_in=needs_check_in)
    return [(part.booking_id, part.from_ms // M, part.to_ms // M) for part in parts]


def claim(name: str, start: int, end: int, came: int | None = None, left: int | None = None) -> Claim:
    """A claim in minutes."""
    return Claim(name, start * M, end * M, None if came is None else came * M, None if left is None else left * M)


A, B = claim("a", 60, 120), claim("b", 120, 180)


def test_a_session_inside_the_slot_is_the_bookings() -> None:
    assert owners(running(65 * M, 110 * M), A) == [("a", 65, 110)]


def test_a_session_without_any_claim_is_nobodys() -> None:
    assert owners(running(65 * M, 110 * M)) == [(None, 65, 110)]


def test_the_claim_opens_a_quarter_of_an_hour_before_the_slot() -> None:
    assert owners(running(40 * M, 70 * M), A) == [(None, 40, 45), ("a", 45, 70)]


def test_the_early_grace_does_not_reach_into_the_slot_before() -> None:
    assert owners(running(110 * M, 130 * M), claim("a", 60, 115, left=70), claim("b", 120, 180)) == [
        (None, 110, 115),
        ("b", 115, 130),
    ]


def test_a_session_that_runs_past_the_slot_stays_with_its_booking_and_says_so() -> None:
    parts = apportion(running(65 * M, 200 * M), [A], needs_check_in=False)
    assert [(part.booking_id, part.flags) for part in parts] == [("a", (RAN_PAST_SLOT,))]


def test_a_session_that_runs_on_becomes_the_next_bookings_when_its_slot_starts() -> None:
    assert owners(running(65 * M, 150 * M), A, claim("b", 130, 180)) == [("a", 65, 130), ("b", 130, 150)]


def test_a_session_that_runs_on_becomes_the_next_bookings_when_it_checks_in() -> None:
    assert owners(running(65 * M, 150 * M), A, claim("b", 130, 180, came=122)) == [("a", 65, 122), ("b", 122, 150)]


def test_a_session_started_in_the_early_grace_is_the_next_bookings() -> None:
    assert owners(running(122 * M, 150 * M), A, claim("b", 130, 180)) == [("b", 122, 150)]


def test_after_the_check_out_nobody_uses_it_for_this_booking() -> None:
    assert owners(running(65 * M, 110 * M), claim("a", 60, 120, left=100)) == [("a", 65, 100), (None, 100, 110)]


def test_whoever_waits_gets_the_rest_after_a_late_check_out() -> None:
    both = claim("a", 60, 120, left=125), claim("b", 130, 180)
    assert owners(running(65 * M, 150 * M), *both) == [("a", 65, 125), ("b", 125, 150)]


def test_a_session_started_up_to_a_quarter_of_an_hour_late_still_counts() -> None:
    assert owners(running(135 * M - 1, 140 * M), A)[0][0] == "a"
    assert owners(running(135 * M, 140 * M), A)[0][0] is None


def test_where_use_needs_a_check_in_only_the_checked_in_time_counts() -> None:
    session = running(50 * M, 150 * M)
    assert owners(session, A, needs_check_in=True) == [(None, 50, 150)]
    assert owners(session, claim("a", 60, 120, 70, 100), needs_check_in=True) == [
        (None, 50, 70),
        ("a", 70, 100),
        (None, 100, 150),
    ]


def test_a_forgotten_check_out_ends_with_the_grace_and_is_flagged() -> None:
    parts = apportion(running(50 * M, 150 * M), [claim("a", 60, 120, 70)], needs_check_in=True)
    assert parts[1] == Part("a", 70 * M, 135 * M, 65 * M, 0, (FORGOTTEN_CHECK_OUT, RAN_PAST_SLOT))


def test_a_forgotten_check_out_ends_with_the_next_check_in() -> None:
    both = claim("a", 60, 120, 70), claim("b", 120, 180, 118)
    assert owners(running(50 * M, 150 * M), *both, needs_check_in=True) == [
        (None, 50, 70),
        ("a", 70, 118),
        ("b", 118, 150),
    ]


def test_the_odometer_decides_how_much_and_standby_counts_nothing() -> None:
    points = (
        OdometerPoint(60 * M, 0, 0),
        OdometerPoint(80 * M, 20 * M, 0),
        OdometerPoint(140 * M, 20 * M, 0),
        OdometerPoint(150 * M, 20 * M, 10 * M),
    )
    parts = apportion(MeteredSession("s", points), [A, B], needs_check_in=False)
    assert [(part.booking_id, part.running_ms, part.unknown_ms) for part in parts] == [
        ("a", 20 * M, 0),
        ("b", 0, 10 * M),
    ]


def test_a_session_whose_clock_stood_still_loses_nothing() -> None:
    points = (OdometerPoint(70 * M, 5, 0), OdometerPoint(70 * M, 65, 3))
    assert apportion(MeteredSession("s", points), [A], needs_check_in=False) == (Part("a", 70 * M, 70 * M, 60, 3),)


INSTANTS = st.sampled_from([edge + step for edge in EDGES for step in (-1, 0, 1)]) | st.integers(-1, 200 * M)


@st.composite
def sessions(draw: st.DrawFn) -> MeteredSession:
    """A session of whole intervals, each in one state: running, standby or unknown."""
    at, run, unknown = draw(INSTANTS), 0, 0
    points = [OdometerPoint(at, run, unknown)]
    for length, state in draw(
        st.lists(st.tuples(st.integers(1, 90 * M), st.sampled_from(["run", "standby", "unknown"])), max_size=6)
    ):
        at += length
        run += length if state == "run" else 0
        unknown += length if state == "unknown" else 0
        points.append(OdometerPoint(at, run, unknown))
    return MeteredSession("s", tuple(points))


@st.composite
def calendars(draw: st.DrawFn) -> list[Claim]:
    """Slots that do not overlap, as the database guarantees; check-ins and check-outs may lie anywhere near."""
    edges = sorted(draw(st.sets(INSTANTS, min_size=2, max_size=8)))
    found = []
    for number, (start, end) in enumerate(zip(edges[::2], edges[1::2], strict=False)):
        came = draw(st.none() | st.integers(start - EARLY_GRACE_MS, end - 1))
        left = draw(st.none() | st.integers(max(start, came or start), end + LATE_GRACE_MS + M))
        found.append(Claim(f"b{number}", start, end, came, left))
    return draw(st.permutations(found))


@given(sessions(), calendars(), st.booleans())
@example(running(60 * M, 120 * M), [B, A], False)
@example(running(120 * M, 180 * M), [A, B], False)
def test_parts_touch_and_add_up_to_the_session_exactly(
    session: MeteredSession, claims: list[Claim], needs_check_in: bool
) -> None:
    parts = apportion(session, claims, needs_check_in=needs_check_in)
    assert (parts[0].from_ms, parts[-1].to_ms) == (session.from_ms, session.to_ms)
    assert all(a.to_ms == b.from_ms for a, b in itertools.pairwise(parts))
    assert all(a.booking_id != b.booking_id for a, b in itertools.pairwise(parts))
    last = session.points[-1]
    assert sum(part.running_ms for part in parts) == last.running_ms
    assert sum(part.unknown_ms for part in parts) == last.unknown_ms
    assert all(part.running_ms >= 0 and part.unknown_ms >= 0 for part in parts)
    assert all(part.running_ms + part.unknown_ms <= part.to_ms - part.from_ms for part in parts)


@given(sessions(), calendars(), st.booleans())
def test_each_booking_has_at_most_one_part_of_a_session(
    session: MeteredSession, claims: list[Claim], needs_check_in: bool
) -> None:
    named = [part.booking_id for part in apportion(session, claims, needs_check_in=needs_check_in) if part.booking_id]
    assert len(named) == len(set(named))


@given(sessions(), calendars(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_claims_changes_nothing(
    session: MeteredSession, claims: list[Claim], needs_check_in: bool, random: object
) -> None:
    other = list(claims)
    random.shuffle(other)  # type: ignore[attr-defined]
    assert apportion(session, claims, needs_check_in=needs_check_in) == apportion(
        session, other, needs_check_in=needs_check_in
    )


@given(sessions(), calendars(), st.booleans(), st.lists(st.floats(0, 1), max_size=5))
def test_cutting_the_records_anywhere_changes_nothing(
    session: MeteredSession, claims: list[Claim], needs_check_in: bool, cuts: list[float]
) -> None:
    length = session.to_ms - session.from_ms
    extra = {session.from_ms + int(cut * length) for cut in cuts}
    points = list(session.points)
    for instant in sorted(extra - {point.at_ms for point in points}):
        points.append(OdometerPoint(instant, *session.at(instant)))
    finer = MeteredSession("s", tuple(sorted(points, key=lambda point: point.at_ms)))
    assert apportion(finer, claims, needs_check_in=needs_check_in) == apportion(
        session, claims, needs_check_in=needs_check_in
    )


@given(sessions(), calendars())
def test_nothing_counts_outside_the_checked_in_time_where_a_check_in_is_needed(
    session: MeteredSession, claims: list[Claim]
) -> None:
    by_name = {claim.booking_id: claim for claim in claims}
    for part in apportion(session, claims, needs_check_in=True):
        if part.booking_id is not None:
            holder = by_name[part.booking_id]
            assert holder.checked_in_ms is not None
            assert holder.checked_in_ms <= part.from_ms
            assert part.to_ms <= holder.slot_to_ms + holder.late_grace_ms
            assert holder.checked_out_ms is None or part.to_ms <= holder.checked_out_ms


@given(sessions(), calendars())
def test_a_booking_gets_nothing_before_its_claim_opens_or_after_its_check_out(
    session: MeteredSession, claims: list[Claim]
) -> None:
    by_name = {claim.booking_id: claim for claim in claims}
    for part in apportion(session, claims, needs_check_in=False):
        if part.booking_id is not None:
            holder = by_name[part.booking_id]
            opens = holder.slot_from_ms - holder.early_grace_ms
            assert part.from_ms >= (opens if holder.checked_in_ms is None else holder.checked_in_ms)
            assert holder.checked_out_ms is None or part.to_ms <= holder.checked_out_ms
