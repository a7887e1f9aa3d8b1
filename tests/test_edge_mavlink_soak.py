from pathlib import Path

import soak_mavlink


def test_a_ground_station_that_comes_and_goes_costs_nothing_of_the_memory(tmp_path: Path) -> None:
    result = soak_mavlink.soak(tmp_path, 4.0, 1.0)

    assert result["outages"] == 2
    assert result["heard"] > 0
    assert result["is_memory_whole"], result
    assert result["remembered"] == result["results"]
    assert (result["exit_code"], result["disk_bytes_max"] <= soak_mavlink.MAX_BYTES) == (0, True)
