"""What a member of our groups is: how partitions are dealt out, and by whom; that no other bears its name."""
# ruff: noqa: SLF001 - leans on a private part of aiokafka, as the transport does, and so on its exact version

import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor

from streams.kafka.errors import BrokerError

_UNKNOWN_MEMBER_ID: Final = 25
_FENCED_INSTANCE_ID: Final = 82  # aiokafka has no error for it


class Assignor(RoundRobinPartitionAssignor):  # type: ignore[misc]  # aiokafka is untyped
    """Deals partitions in turns, under a name of ours: a foreign program is refused."""

    name = "plumbline-1"


class Rivalry:
    """Tells from a coordinator's answers whether another member has taken this one's name. Pure.

    Who was away for a session is unknown once, and comes back as a new member; who is unknown again, as that
    one, within a session has a rival that comes back as well.

    Parameters
    ----------
    session_s
        After which the group forgets a member of which it hears nothing.

    Examples
    --------
    >>> rivalry = Rivalry(6.0)
    >>> [rivalry.shown_by(25, who, at_s) for who, at_s in (("a", 0.0), ("b", 9.0), ("b", 9.1), ("c", 12.0))]
    [False, False, False, True]
    """

    def __init__(self, session_s: float) -> None:
        self._session_s = session_s
        self._unknown: tuple[str, float] | None = None

    def shown_by(self, code: int, member: str, now_s: float) -> bool:
        """Return whether an answer with this error code, to this member id, at this time, shows a rival."""
        if code != _UNKNOWN_MEMBER_ID:
            return code == _FENCED_INSTANCE_ID
        before = self._unknown
        if before is None or before[0] != member:
            self._unknown = member, now_s
        return before is not None and before[0] != member and now_s - before[1] < self._session_s


def watch_group(coordinator: Any, options: Mapping[str, Any], fail: Callable[[BaseException], None]) -> None:
    """Call `fail` where aiokafka would go on in a group that is no longer ours to deal partitions in.

    That is when another member bears the name of `coordinator`'s, which would be taken back for ever, and
    when a consumer of the newer protocol (KIP-848) has joined: the broker turns the group into one of that
    kind, gives that consumer partitions, and tells the older members no leader.
    """
    name, group, ask = options["group_instance_id"], options["group_id"], coordinator._send_req
    rivalry = Rivalry(options["session_timeout_ms"] / 1000)

    async def watched(request: Any) -> Any:
        member = coordinator.member_id
        answer = await ask(request)
        code = getattr(answer, "error_code", 0)
        if name is not None and rivalry.shown_by(code, member, time.monotonic()):
            fail(
                BrokerError(
                    f"kafka: group {group}: another worker runs as --id {name}: stop one of them, or give "
                    "each an --id of its own"
                )
            )
        if not code and not getattr(answer, "leader_id", member):
            fail(
                BrokerError(
                    f"kafka: group {group} is in use by another program with another protocol "
                    "(group.protocol=consumer): stop it, or set kafka.topic_prefix"
                )
            )
        return answer

    coordinator._send_req = watched
