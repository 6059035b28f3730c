"""API keys."""

import hashlib

import pytest

from router.core.facts import TenantFacts
from router.policy.credentials import Credentials, digest, new_key


def tenant(id, *keys):
    return TenantFacts(id, tuple(map(digest, keys)), 1, {})


KEY = new_key(bytes(range(16)))


def test_a_key_names_its_kind_and_holds_its_128_bits():
    """The prefix lets scanners find leaked keys."""
    assert KEY == "pm_000102030405060708090a0b0c0d0e0f"
    assert digest(KEY) == hashlib.sha256(KEY.encode()).hexdigest()


@pytest.mark.parametrize("length", [0, 15, 17])
def test_a_key_of_other_length_is_refused(length):
    """Fewer bits would be guessable."""
    with pytest.raises(ValueError, match="16 random bytes"):
        new_key(bytes(length))


def test_a_key_proves_its_tenant_and_either_of_two_keys_does():
    """Two valid keys allow rotation."""
    other = new_key(bytes(16))
    search = tenant("search", KEY, other)
    credentials = Credentials([tenant("ads", "pm_x"), search])
    assert credentials.authenticate(KEY) is search
    assert credentials.authenticate(other) is search


@pytest.mark.parametrize(
    "shown", ["", "pm_", KEY.upper(), KEY + " ", KEY[:-1], digest(KEY), "é", "\ud800", "k" * 10_000]
)
def test_anything_else_proves_nobody(shown):
    """Not even the digest that the config shows."""
    assert Credentials([tenant("search", KEY)]).authenticate(shown) is None


def test_one_key_for_two_tenants_is_refused_without_showing_it():
    """Who it is must not depend on the order of a file."""
    with pytest.raises(ValueError, match='tenants "a" and "b" have the same key') as error:
        Credentials([tenant("a", KEY), tenant("b", KEY)])
    assert KEY not in str(error.value)
    assert digest(KEY) not in str(error.value)


def test_nothing_keeps_the_key():
    """Only the digest is in memory."""
    credentials = Credentials([tenant("search", KEY)])
    credentials.authenticate(KEY)
    assert KEY not in repr(vars(credentials))
