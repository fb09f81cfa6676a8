"""Personal data and secrets, replaced by typed placeholders before anything is written."""

from detectors.redaction.keyed_hash import key_id, keyed_hash
from detectors.redaction.kinds import ALL, PERSONAL, SECRET
from detectors.redaction.redactor import Redactor

__all__ = ["ALL", "PERSONAL", "SECRET", "Redactor", "key_id", "keyed_hash"]
