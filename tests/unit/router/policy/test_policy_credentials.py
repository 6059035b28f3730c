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


def test_no_credential_is_the_anonymous_tenant_and_a_wrong_one_is_nobody():
    """Only where there is such a tenant."""
    guest = tenant("guest")
    credentials = Credentials([tenant("search", KEY), guest], anonymous="guest")
    assert credentials.authenticate("") is guest
    assert credentials.authenticate("-") is credentials.authenticate(KEY[:-1]) is None
    assert Credentials([guest]).authenticate("") is None


def test_the_operators_keys_are_theirs_alone():
    """Any of several; without one, nobody's; and no tenant's key is one."""
    other = new_key(bytes(16))
    credentials = Credentials([tenant("search", KEY)], admin_digests=(digest("x"), digest(other)))
    assert credentials.is_admin(other)
    assert credentials.authenticate(other) is None
    for shown in ("", KEY, other[:-1], digest(other), "k" * 10_000, "\ud800"):
        assert not credentials.is_admin(shown)
        assert not Credentials([]).is_admin(shown)


def test_a_tenant_and_the_operator_with_one_key_are_refused():
    """A tenant's key must not open the admin listener."""
    with pytest.raises(ValueError, match='tenant "search" and the operator have the same key'):
        Credentials([tenant("search", KEY)], admin_digests=[digest(KEY)])
