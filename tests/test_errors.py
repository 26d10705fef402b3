"""Every error says whose fault it is, in the words and numbers of the contract."""

from __future__ import annotations

import pytest

from planetmesh import errors
from planetmesh.errors import MeshError

ALL = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, MeshError)]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_each_has_a_code_an_exit_code_and_a_status(kind: type[MeshError]):
    assert kind.code.isidentifier()
    assert kind.exit_code in {1, 2, 3, 4, 5}
    assert 400 <= kind.http_status <= 599
    assert kind.__doc__


def test_codes_tell_them_apart():
    codes = [kind.code for kind in ALL]
    assert len(codes) == len(set(codes))


def test_the_exit_codes_of_the_contract():
    assert errors.BadInput.exit_code == 2
    assert errors.Unreachable.exit_code == 3
    assert errors.NotAllowed.exit_code == errors.PairingFailed.exit_code == 4
    assert errors.NotFound.exit_code == 5


def test_a_hint_is_kept_and_may_be_missing():
    refused = errors.Conflict("The port is taken.", hint="planetmesh up --port 7434")
    assert (str(refused), refused.message, refused.hint) == (
        "The port is taken.", "The port is taken.", "planetmesh up --port 7434",
    )  # fmt: skip
    assert MeshError("x").hint == ""
