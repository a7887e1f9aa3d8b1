import flood_mavlink
import pytest
import signatures
from mavlink_samples import FakeTransport

from edge.mavlink.network.link import Link
from edge.mavlink.trust.security import Security


@pytest.mark.parametrize("seed", [1, 2])
def test_mutated_bytes_raise_nothing_and_pile_up_nowhere(seed: int) -> None:
    result = flood_mavlink.parse(100_000, seed)

    assert result["bytes"] >= 100_000
    assert result["refused"].keys() == {"unsigned", "wrong_signature"}
    assert result["is_sound"], result


def test_a_frame_that_counts_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flood_mavlink, "OTHER_KEY", signatures.KEY)

    assert not flood_mavlink.parse(20_000)["is_sound"]


def test_a_genuine_frame_counts_in_the_middle_of_a_flood() -> None:
    transport = FakeTransport()
    link = Link(transport, 1, 191, security=Security(require_signed="all", signing=signatures.signing()))
    flood = [signatures.signed(signatures.heartbeat(), n, secret=signatures.OTHER_KEY) for n in range(2000)]
    genuine = signatures.signed(signatures.command(), signatures.NOW)
    transport.incoming = [("attacker", frame) for frame in [*flood[:1000], genuine, *flood[1000:]]]

    assert [item.name for item in link.receive()] == ["COMMAND_LONG"]
    assert dict(link.refused) == {"wrong_signature": 2000}
