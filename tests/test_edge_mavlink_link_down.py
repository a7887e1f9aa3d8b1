from pathlib import Path

import link_down_mavlink
import pytest


@pytest.mark.slow
def test_links_that_were_away_come_back_with_what_is_new_and_hold_nobody_up(tmp_path: Path) -> None:
    pytest.importorskip("serial", reason="needs pyserial, the extra [serial]")
    result = link_down_mavlink.link_down(tmp_path, 1.5)

    assert result["is_clean"], result["log"]
    assert [name for name, link in result["links"].items() if link["back_s"] is None] == []
    assert result["is_new"], result
    assert result["is_memory_whole"], result
    assert result["heard_on_link_that_stays"] == result["results"]
