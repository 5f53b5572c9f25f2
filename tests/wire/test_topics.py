import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.support.messages import STREAMS, WIRE_IDS
from wire.errors import BadTopic
from wire.ids import is_wire_id
from wire.topics import Channel, UpTopic, all_up, down, parse_up, server_state, shared, up

PLAIN = [Channel.STATE, Channel.BIRTH]
TAILED = [Channel.USAGE, Channel.TELEMETRY, Channel.LIVE, Channel.REPLY]
DOWN = [Channel.ACK, Channel.COMMAND, Channel.CONFIG, Channel.REFUSED]

UP_TOPICS = st.one_of(
    st.builds(UpTopic, agent=WIRE_IDS, channel=st.sampled_from(PLAIN)),
    st.builds(UpTopic, agent=WIRE_IDS, channel=st.sampled_from(TAILED), tail=WIRE_IDS | st.just("_")),
    st.builds(UpTopic, agent=WIRE_IDS, channel=st.just(Channel.REPLY), tail=STREAMS),
)


@given(UP_TOPICS)
@example(UpTopic("abc", Channel.USAGE, "_"))
@example(UpTopic("-" * 32, Channel.STATE))
def test_what_is_built_is_parsed_back(topic: UpTopic) -> None:
    assert parse_up(up(topic.agent, topic.channel, topic.tail)) == topic


@given(st.text() | st.from_regex(r"lab/v1/up/[^\n]{0,40}", fullmatch=True))
def test_any_text_is_either_a_topic_of_the_contract_or_refused(text: str) -> None:
    try:
        topic = parse_up(text)
    except BadTopic:
        return
    assert up(topic.agent, topic.channel, topic.tail) == text
    assert is_wire_id(topic.agent)
    assert not set(text) & set("+# $")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("lab/v2/up/xc-h01-01/state", "is not lab/v1/up"),
        ("lab/v1/down/xc-h01-01/ack", "is not lab/v1/up"),
        ("lab/v1/up/xc-h01-01", "is not lab/v1/up"),
        ("lab/v1/up/xc-h01-01/rec/a-b/c", "is not lab/v1/up"),
        ("lab/v1/up/XC-H01-01/state", "is not a wire id"),
        ("lab/v1/up/+/state", "is not a wire id"),
        ("lab/v1/up//state", "is not a wire id"),
        ("lab/v1/up/xc-h01-01/other", "no channel is called"),
        ("lab/v1/up/xc-h01-01/ack", "does not go upward"),
        ("lab/v1/up/xc-h01-01/state/xc-h01-01", "does not go upward"),
        ("lab/v1/up/xc-h01-01/rec", "does not go upward"),
        ("lab/v1/up/xc-h01-01/rec/", "does not go upward"),
        ("lab/v1/up/xc-h01-01/rec/#", "does not go upward"),
        ("lab/v1/up/xc-h01-01/reply/two words", "does not go upward"),
    ],
)
def test_a_topic_outside_the_contract_is_refused_and_the_level_named(text: str, why: str) -> None:
    with pytest.raises(BadTopic, match=why):
        parse_up(text)


@pytest.mark.parametrize("channel", PLAIN + TAILED)
def test_upward_channels_do_not_go_down(channel: Channel) -> None:
    with pytest.raises(BadTopic):
        down("xc-h01-01", channel)


@pytest.mark.parametrize("channel", DOWN)
def test_downward_channels_do_not_go_up(channel: Channel) -> None:
    assert down("xc-h01-01", channel) == f"lab/v1/down/xc-h01-01/{channel.value}"
    with pytest.raises(BadTopic):
        up("xc-h01-01", channel, "_")


@pytest.mark.parametrize("name", ["", "GW-1", "a/b", "+", "#"])
def test_a_name_with_a_meaning_of_its_own_is_refused_everywhere(name: str) -> None:
    for build in (lambda: up(name, Channel.STATE), lambda: down(name, Channel.ACK), lambda: server_state(name)):
        with pytest.raises(BadTopic):
            build()


def test_subscriptions_cover_every_agent_and_instrument() -> None:
    assert all_up(Channel.STATE) == "lab/v1/up/+/state"
    assert all_up(Channel.USAGE) == "lab/v1/up/+/rec/+"
    assert shared("gateways", all_up(Channel.USAGE)) == "$share/gateways/lab/v1/up/+/rec/+"
