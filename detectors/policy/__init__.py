"""What must not be asked or answered, as data; and the verdict over all scores."""

from detectors.policy.rules import RuleHit, policy_version, possible, request_hits, response_hits
from detectors.policy.verdict import decide_verdict

__all__ = ["RuleHit", "decide_verdict", "policy_version", "possible", "request_hits", "response_hits"]
