"""What the page is sent: everything of a job at first, then what has changed since.

The layout of a board: `whole` (forget what you know), `about`, `source`, `status` (as `status --json`, the
workers with their restarts), `cells` (arrays in the order of CELL) and `samples` (the new ones).
"""

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from queue_app.dashboard.board import Board
from queue_app.dashboard.crew import WorkerLine
from queue_app.dashboard.map.cache import Making, Offer
from queue_app.dashboard.map.embedding_map import EmbeddingMap
from queue_app.dashboard.shard_cells import Cell

CELL = ("index", "state", "done", "quarantined", "total", "attempts", "losses", "worker", "error")
STILL_HERE = ": still here\n\n"
"""A comment of the protocol: it says nothing, but a connection that is dead is noticed."""


def event(name: str, data: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def board_message(now: Board, sent: Board | None) -> dict[str, Any]:
    """What must be told to one who was told `sent`."""
    whole = sent is None or len(sent.look.cells) != len(now.look.cells)
    base = None if whole else sent
    return {
        "whole": whole,
        "source": now.look.source,
        "about": asdict(now.look.about),
        "status": {**now.look.summary.as_json(), "workers": [_worker(line) for line in now.workers]},
        "cells": _changed_cells(now, base),
        "samples": _new_samples(now, base),
    }


def making_message(making: Making) -> dict[str, Any]:
    """How far a map is that has no points yet."""
    return {"made": False, "step": making.step, "share": making.share}


def map_message(found: EmbeddingMap, offer: Offer) -> dict[str, Any]:
    """The points, and what else there is; x and y are at most 1, and as exact as a screen."""
    extent = float(np.abs(found.points).max(initial=0)) or 1.0
    x, y = (found.points / extent).astype(np.float64).round(5).T.tolist()
    return {
        "made": True,
        **asdict(offer),
        "num_embedded": found.published.num_embedded,
        "shares": found.shares,
        "ids": found.ids,
        "ordinals": found.ordinals.tolist(),
        "x": x,
        "y": y,
    }


def _worker(line: WorkerLine) -> dict[str, Any]:
    return {**asdict(line.view), "restarts": line.restarts}


def _changed_cells(now: Board, sent: Board | None) -> list[list[Any]]:
    if sent is None:
        return [_cell(cell) for cell in now.look.cells]
    pairs = zip(sent.look.cells, now.look.cells, strict=True)
    return [_cell(new) for old, new in pairs if new != old]


def _cell(cell: Cell) -> list[Any]:
    return [getattr(cell, field) for field in CELL]


def _new_samples(now: Board, sent: Board | None) -> list[tuple[float, int]]:
    newest = sent.samples[-1][0] if sent and sent.samples else float("-inf")
    return [sample for sample in now.samples if sample[0] > newest]
