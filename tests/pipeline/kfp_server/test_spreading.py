"""Schedules of several products are spread by their names."""

from defectline.pipeline.kfp_server.spreading import offset_min, spread_cron

NAMES = [f"plates-{number}" for number in range(40)]


def test_a_name_has_one_offset_within_the_window():
    found = [offset_min(name, 180) for name in NAMES]
    assert found == [offset_min(name, 180) for name in NAMES]
    assert all(0 <= one < 180 for one in found)
    assert len(set(found)) > len(NAMES) / 2
    assert offset_min("plates", 0) == 0


def test_a_daily_time_may_pass_midnight_and_one_of_a_day_does_not():
    for name in NAMES:
        later = offset_min(name, 180)
        minute = (23 * 60 + 30 + later) % 1440
        assert spread_cron("0 30 23 * * *", name, 180)[0] == f"0 {minute % 60} {minute // 60} * * *"
        _, at_minute, at_hour, *days = spread_cron("0 30 23 * * 1-5", name, 180)[0].split()
        assert (at_hour, days) == ("23", ["*", "*", "1-5"])
        assert int(at_minute) >= 30


def test_what_has_no_one_time_a_day_is_left():
    cron, told = spread_cron("0 */10 * * * *", "plates", 180)
    assert cron == "0 */10 * * * *"
    assert "not spread" in told
