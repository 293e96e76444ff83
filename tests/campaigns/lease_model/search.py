"""The search: every world that can be reached, nearest first, so that the trace of a broken promise is a
shortest one.

Workers are interchangeable: of two worlds that differ in their names only one is visited.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from tests.campaigns.lease_model.manifest import Manifest
from tests.campaigns.lease_model.promises import (
    INVARIANTS,
    NO_DEADLOCK,
    OF_A_MOVE,
    Invariant,
    Step,
    has_ended,
)
from tests.campaigns.lease_model.setup import Setup
from tests.campaigns.lease_model.surroundings import (
    announce,
    cancel_job,
    crash,
    forget_everything,
    look_at_directory,
    lose_lease,
    lose_or_double,
    read_results,
    reopen_damaged,
    resend,
    rot,
    write_output,
)
from tests.campaigns.lease_model.worker import (
    adopt_winner,
    ask,
    claim_early,
    commit,
    create_done_file,
    deliver,
    discard_store,
    drain_or_fail,
    let_go,
    look_ahead,
    open_store,
    record_result,
    report,
    tell_manifest,
    write_result,
)
from tests.campaigns.lease_model.world import Action, Move, World, begin

MOVES: tuple[Callable[[World, Setup], Iterator[Move]], ...] = (
    deliver, look_ahead, let_go, lose_or_double, resend, ask, report, lose_lease, crash, drain_or_fail,
    open_store, commit,
    write_result, record_result, create_done_file, adopt_winner, tell_manifest, claim_early, discard_store,
    forget_everything, look_at_directory, reopen_damaged, announce, cancel_job, rot, read_results,
    write_output,
)  # fmt: skip


def moves(world: World, setup: Setup) -> Iterator[Move]:
    """Everything that can happen next and changes anything."""
    return (move for make in MOVES for move in make(world, setup) if move[1] != world)


@dataclass(frozen=True, slots=True)
class Report:
    """What a search found. `broken` names the first promise that does not hold, `trace` a shortest way."""

    num_states: int
    num_transitions: int
    broken: str | None = None
    trace: tuple[Action, ...] = ()
    endings: frozenset[tuple[str, ...]] = frozenset()

    def __str__(self) -> str:
        found = "all promises hold" if self.broken is None else f"{self.broken} broken by:"
        lines = [f"{self.num_states} states, {self.num_transitions} transitions: {found}"]
        return "\n  ".join([*lines, *map(describe, self.trace)])


def describe(action: Action) -> str:
    worker = f" worker={'AB'[action.worker]}" if action.worker >= 0 else ""
    return action.name + worker + (f" shard={action.shard}" if action.shard >= 0 else "")


def explore(setup: Setup, invariants: Collection[Invariant] = INVARIANTS) -> Report:
    """Visit every state, nearest first, until a promise is broken or there is none left."""
    graph = Graph(begin(setup))
    of_a_move = [promise for promise in invariants if promise in OF_A_MOVE]
    num_transitions = 0
    for number, world in enumerate(graph.worlds):  # grows while it is walked
        for action, made in moves(world, setup):
            num_transitions += 1
            after = canonical(made)
            asked = of_a_move if graph.knows(after) else invariants
            broken = first_broken(Step(world, action, made, setup), asked)
            if broken:
                trace = graph.trace(number, setup, broken)
                return Report(len(graph.worlds), num_transitions, broken.__name__, trace)
            graph.add(number, after, free=made.left == world.left)
    stuck = graph.first_stuck()
    if stuck is not None:
        return Report(len(graph.worlds), num_transitions, NO_DEADLOCK, graph.trace(stuck, setup))
    endings = frozenset(states_of(world) for world in graph.worlds if has_ended(world))
    return Report(len(graph.worlds), num_transitions, endings=endings)


def first_broken(step: Step, invariants: Collection[Invariant]) -> Invariant | None:
    return next((promise for promise in invariants if not promise(step)), None)


def states_of(world: World) -> tuple[str, ...]:
    return () if world.manifest is None else tuple(entry.state for entry in world.manifest.entries)


def canonical(world: World) -> World:
    """Of two worlds that differ only in which worker is which, always the same one."""
    two_hosts = len(world.stores) > 1
    keys = [
        (worker, world.stores[number] if two_hosts else ()) for number, worker in enumerate(world.workers)
    ]
    if keys[0] <= keys[1]:
        return world
    manifest = world.manifest
    if manifest is not None:
        entries = tuple(
            entry._replace(request=3 - entry.request) if entry.request else entry
            for entry in manifest.entries
        )
        manifest = Manifest(manifest.job, entries)
    return world._replace(manifest=manifest, workers=world.workers[::-1], stores=world.stores[::-1])


class Graph:
    """The worlds that were reached: how first, and from where without a fault."""

    def __init__(self, first: World) -> None:
        self.worlds = [first]
        self._numbers = {first: 0}
        self._parents = [0]
        self._ways_back: list[list[int]] = [[]]

    def knows(self, world: World) -> bool:
        return world in self._numbers

    def add(self, parent: int, world: World, *, free: bool) -> None:
        number = self._numbers.setdefault(world, len(self.worlds))
        if number == len(self.worlds):
            self.worlds.append(world)
            self._parents.append(parent)
            self._ways_back.append([])
        if free:
            self._ways_back[number].append(parent)

    def first_stuck(self) -> int | None:
        """The nearest world from which no end can be reached without another fault."""
        can_end = bytearray(has_ended(world) for world in self.worlds)
        waiting = [number for number, ends in enumerate(can_end) if ends]
        while waiting:
            for before in self._ways_back[waiting.pop()]:
                if not can_end[before]:
                    can_end[before] = True
                    waiting.append(before)
        stuck = can_end.find(0)
        return None if stuck < 0 else stuck

    def trace(self, number: int, setup: Setup, broken: Invariant | None = None) -> tuple[Action, ...]:
        """The moves that led to a world, walked again so that every worker keeps its name."""
        world, actions = self.worlds[0], []
        for target in self._path(number):
            action, world = next(
                move for move in moves(world, setup) if canonical(move[1]) == self.worlds[target]
            )
            actions.append(action)
        if broken:
            last = (
                action
                for action, after in moves(world, setup)
                if not broken(Step(world, action, after, setup))
            )
            actions.append(next(last))
        return tuple(actions)

    def _path(self, number: int) -> list[int]:
        path = []
        while number:
            path.append(number)
            number = self._parents[number]
        return path[::-1]
