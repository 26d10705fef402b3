"""Python functions on all machines of the mesh: `python calls.py`."""

from planetmesh import Mesh


def collatz(number: int) -> int:
    """How many steps until 1?"""
    steps = 0
    while number != 1:
        number = number // 2 if number % 2 == 0 else 3 * number + 1
        steps += 1
    return steps


with Mesh() as mesh:
    calls = mesh.map(collatz, range(1, 2001))
    for count, _call in enumerate(mesh.as_completed(calls), 1):
        if count % 500 == 0:
            print(f"{count} of {len(calls)} calls have ended")
    steps = calls.results()
    longest = max(range(len(steps)), key=steps.__getitem__)
    print(f"{longest + 1} takes longest: {steps[longest]} steps")
