"""The response side: what a decision sets in motion, from the first page to the verified rollback."""

from streams.response.ledger import Ledger, Ruling
from streams.response.machine import ResponseMachine

__all__ = ["Ledger", "ResponseMachine", "Ruling"]
