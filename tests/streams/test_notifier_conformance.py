"""Every registered notifier and rollback target passes every check, with no list to edit here."""

import asyncio

import pytest

from streams.checks import RECEIVERS, contract_of
from streams.checks.notifier_checks import LOCAL_CHECKS, NETWORK_CHECKS
from streams.checks.rollback_checks import CHECKS
from streams.notifiers import NOTIFIERS
from streams.rollbacks import ROLLBACKS


def notifier_cases():
    for name in NOTIFIERS.names():
        local = contract_of(NOTIFIERS.get(name)) == "local"
        for check in LOCAL_CHECKS if local else NETWORK_CHECKS:
            yield pytest.param(NOTIFIERS.get(name), check, id=f"{name}-{check.__name__}")


def rollback_cases():
    for name in ROLLBACKS.names():
        for check in CHECKS:
            yield pytest.param(ROLLBACKS.get(name), check, id=f"{name}-{check.__name__}")


@pytest.fixture
def fake_of(tmp_path):
    begun = []

    def begin(part):
        contract = contract_of(part)
        # A part that calls nobody still gets a receiver, so that a call it makes after all is seen.
        contract = "standard_webhooks" if contract == "local" else contract
        begun.append(RECEIVERS.build(contract, {"directory": str(tmp_path)}))
        return begun[-1]

    yield begin
    for fake in begun:
        fake.stop()


@pytest.mark.parametrize(("part", "check"), list(notifier_cases()))
def test_notifier(part, check, fake_of):
    fake = fake_of(part)
    asyncio.run(check(part, fake))
    if contract_of(part) == "local":
        assert not fake.received


@pytest.mark.parametrize(("part", "check"), list(rollback_cases()))
def test_rollback_target(part, check, fake_of):
    asyncio.run(check(part, fake_of(part)))


class Careless:
    """A notifier with every fault that the checks are there to find."""

    name = "careless"
    contract = "standard_webhooks"

    def __init__(self, url, secret):
        self.url, self.secret = url, secret

    @classmethod
    def example(cls, *, url, secret_file):
        with open(secret_file, encoding="utf-8") as file:  # noqa: PTH123
            return cls(url, file.read())

    def __repr__(self):
        return f"Careless({self.url}, {self.secret})"

    async def notify(self, notice):
        """Deliver nothing and say that all is well."""


@pytest.mark.parametrize("check", NETWORK_CHECKS, ids=lambda check: check.__name__)
def test_each_check_finds_a_careless_part(check, fake_of):
    with pytest.raises(AssertionError):
        asyncio.run(check(Careless, fake_of(Careless)))


def test_a_part_without_an_example_is_named():
    class Bare:
        contract = "standard_webhooks"

    with pytest.raises(AssertionError, match=r"Bare: no classmethod example"):
        contract_of(Bare)
