"""Over a slow link: how often is painted, and that keys do not wait for it."""

from __future__ import annotations

from textual.drivers.headless_driver import HeadlessDriver
from watch_world import World, seated

from planetmesh.dashboard.sparing import Allowance, counting, drawn_by


def test_who_drew_too_much_waits_until_it_is_made_up() -> None:
    allowance = Allowance(1000.0)
    assert allowance.lets(0, 10.0)
    # A large screen: five seconds' worth.
    assert not allowance.lets(5000, 10.2)
    assert not allowance.lets(5000, 14.9)
    assert allowance.lets(5000, 15.1)
    # Little by little costs nothing.
    assert all(allowance.lets(5000 + 100 * number, 15.1 + 0.2 * number) for number in range(1, 50))


def test_a_long_silence_is_no_credit() -> None:
    allowance = Allowance(1000.0)
    assert allowance.lets(0, 0.0)
    assert allowance.lets(0, 1000.0)
    assert not allowance.lets(5000, 1000.2)


async def test_keys_are_answered_while_nothing_else_is_painted(world: World) -> None:
    await world.add_node("desk")
    async with seated(world) as seat:
        await seat.press("2")
        await seat.sees("desk")
        seat.app.allowance = Allowance(1000.0)
        seat.app.driver_class.drawn = 10**9  # type: ignore[attr-defined]
        assert drawn_by(seat.app.driver_class) == 10**9
        await seat.pilot.pause(0.5)
        before = seat.app.repaints
        await world.add_node("attic")
        await seat.until(lambda: any(node.name == "attic" for node in seat.app.watcher.latest.nodes))
        await seat.pilot.pause(0.5)
        assert seat.app.repaints == before
        await seat.press("3")
        await seat.sees("There are no jobs yet")
        seat.app.allowance = None
        await seat.press("2")
        await seat.sees("attic")


def test_a_driver_counts_what_it_writes() -> None:
    class Kept(HeadlessDriver):
        text = ""

        def write(self, data: str) -> None:
            Kept.text += data

    kind, other = counting(Kept), counting(Kept)
    driver = kind.__new__(kind)
    driver.write("12345")
    driver.write("678")
    assert (Kept.text, drawn_by(kind), drawn_by(other), drawn_by(HeadlessDriver)) == ("12345678", 8, 0, 0)
