"""What is searched: how big the house is, which of its guards stand, and which faults may happen in it.

Faults are rationed by `Bounds`, so that the search ends; all the rest is free.
"""

from dataclasses import dataclass
from typing import NamedTuple

NUM_BATCHES = 2


@dataclass(frozen=True, slots=True)
class Guards:
    """What the promises rest on. Each can be taken away, to see which promise falls."""

    fence: bool = True
    """Every write to a store compares the token with the store's, in its own transaction."""
    floor: bool = True
    """`acquire` is told the highest token that the store has seen."""
    token_check: bool = True
    """The manifest hears only the holder of the current token."""
    count_check: bool = True
    """`complete` refuses unless every record is accounted for."""
    whole_check: bool = True
    """A result is published only when every batch of the plan is committed."""
    order: bool = True
    """The done file is written after the result that it names."""
    attempt_limit: bool = True
    """`acquire` gives a shard up after so many attempts without a new commit."""
    new_commits_only: bool = True
    """Commits that an earlier attempt made and reported are no progress."""
    absolute_progress: bool = True
    """Progress is reported in absolute numbers, so that a replayed call counts once."""
    expiry: bool = True
    """An observer takes a silent holder's lease away."""
    resend: bool = True
    """The reconciler sends pending shards again."""
    rebuild: bool = True
    """A job that the server forgot is made known again from its directory."""
    evict: bool = True
    """Opening a store ends the process that has it open."""
    drain_floor: bool = True
    """A release that does not count never takes the attempts below zero."""
    epoch: bool = True
    """Tokens given after the server forgot everything are above all given before."""
    look_before_evict: bool = True
    """A fenced opener is turned away before it ends the store's owner."""
    create_only: bool = True
    """A done file is created, and never replaced by a holder that comes later."""
    reopen_as_seen: bool = True
    """Whoever reopens a shard takes away the record that he has seen, and none that came since."""
    loser_looks: bool = True
    """A holder whose done file was there already removes its result only where another one counts."""


class Bounds(NamedTuple):
    """How often each kind of fault may happen in one history; `faults` bounds their sum."""

    faults: int
    crashes: int = 0
    stalls: int = 0
    messages: int = 0
    replies: int = 0
    flushes: int = 0
    cancels: int = 0
    resumes: int = 0
    drains: int = 0
    failures: int = 0
    damages: int = 0


@dataclass(frozen=True, slots=True)
class Setup:
    """One house to search: two workers, on one host with one store per shard, or with stores of their own."""

    bounds: Bounds
    guards: Guards = Guards()
    num_shards: int = 1
    attempt_limit: int = 2
    two_hosts: bool = False
    one_process: bool = False
    """What stands here for two workers is one: it publishes a shard while it computes another, or has the
    next one made ready. They die together, and never have the same shard in hand."""
    poison: bool = False
    """The second batch of the first shard kills whoever computes it."""
