"""What a member of our groups is: how partitions are dealt out, and that no other bears its name."""
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


def watch_name(coordinator: Any, options: Mapping[str, Any], fail: Callable[[BaseException], None]) -> None:
    """Call `fail` when another bears the name of `coordinator`'s: aiokafka would take it back, for ever."""
    name, ask = options["group_instance_id"], coordinator._send_req
    if name is None:
        return
    rivalry = Rivalry(options["session_timeout_ms"] / 1000)

    async def watched(request: Any) -> Any:
        member = coordinator.member_id
        answer = await ask(request)
        if rivalry.shown_by(getattr(answer, "error_code", 0), member, time.monotonic()):
            fail(
                BrokerError(
                    f"kafka: group {options['group_id']}: another worker runs as --id {name}: stop one of "
                    "them, or give each an --id of its own"
                )
            )
        return answer

    coordinator._send_req = watched
