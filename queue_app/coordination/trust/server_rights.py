"""What a user of the server may do: its refusals in words. The users are those of deploy/redis/users.acl."""

import redis
from redis.exceptions import NoPermissionError

from queue_app.coordination.trust.server_tls import causes

USERS = {
    "hf-worker": ("worker", "embed", "resume"),
    "hf-producer": ("enqueue",),
    "hf-operator": ("pause", "unpause", "cancel", "drain"),
    "hf-status": ("status", "dashboard", "quarantine", "doctor"),
}
"""User -> the commands of Holdfast that it is for."""

IN_A_SCRIPT = ("The user executing the script can't", "ACL failure in script")
"""How Redis 7.0, and later ones and Valkey, begin a refusal of what a script calls."""


def user_for(command: str) -> str | None:
    """The user that a command of Holdfast is for; None: it asks no server."""
    return next((user for user, commands in USERS.items() if command in commands), None)


def remedy(command: str) -> str:
    """Who may run it."""
    user = user_for(command)
    whose = f"holdfast {command} is for the user {user}" if user else "each command has its user"
    return f"{whose} (deploy/redis/users.acl); or give this right to yours by ACL SETUSER"


def explain_refusal(error: BaseException) -> str | None:
    """The right that the server's user lacks, in the server's words; None: it was no refusal."""
    return next((_said(each) for each in causes(error) if is_refusal(each)), None)


def is_refusal(error: BaseException) -> bool:
    """True for what a server raises whose user may not run a command, or use a key or a channel."""
    if isinstance(error, NoPermissionError):
        return True
    return isinstance(error, redis.ResponseError) and str(error).startswith(IN_A_SCRIPT)


def _said(error: BaseException) -> str:
    """Without the number of the script, which nobody knows."""
    return str(error).partition(" script: ")[0].rstrip(".")
