"""Forged and replayed frames at the process itself, over sockets, killed and started again."""

from pathlib import Path

import forge_mavlink
import pytest


@pytest.mark.slow
def test_nothing_forged_or_replayed_counts_also_after_a_kill_and_no_genuine_command_is_lost(tmp_path: Path) -> None:
    result = forge_mavlink.attack(tmp_path, starts=2, commands=5)

    assert (result["killed"], result["genuine_commands"], result["genuine_lost"]) == (1, 10, 0)
    assert result["forged_or_replayed"] > 100
    assert result["forged_or_replayed_accepted"] == 0
    assert result["is_sound"], result


@pytest.mark.slow
def test_a_forged_command_that_counts_would_be_noticed(tmp_path: Path) -> None:
    result = forge_mavlink.attack(tmp_path, starts=1, commands=2, demand="none")

    assert result["forged_or_replayed_accepted"] > 0
    assert not result["is_sound"]
