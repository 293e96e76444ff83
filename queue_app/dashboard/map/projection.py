"""From vectors to points on a plane: principal components, or UMAP where it is installed.

The same vectors give the same points.
"""

from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec

import numpy as np

from queue_app.array_types import Floats

ROUNDS = 12
"""Of the subspace iteration. Each multiplies what is wrong by the square of a ratio of singular values."""
WIDTH = 18
"""Directions that are followed to find the first two."""


class Method(StrEnum):
    PCA = "pca"
    UMAP = "umap"


@dataclass(frozen=True, slots=True, eq=False)
class Plane:
    """What PCA projects onto: through the mean, [dim], along the axes, [at most 2, dim]."""

    mean: Floats
    axes: Floats

    def place(self, vector: Floats) -> Floats:
        """Where a vector, [dim], lies on it, [2]."""
        point = np.zeros(2, np.float32)
        point[: len(self.axes)] = self.axes @ (vector - self.mean)
        return point


@dataclass(frozen=True, slots=True, eq=False)
class Projection:
    """`points` are [n, 2]; `shares` says how much of the variance each axis holds, empty where none does.

    By the `plane` further vectors find their places; UMAP has none.
    """

    points: Floats
    shares: tuple[float, ...] = ()
    plane: Plane | None = None


def methods() -> tuple[Method, ...]:
    """Those that can be used here, the default first."""
    return (Method.PCA, Method.UMAP) if find_spec("umap") else (Method.PCA,)


def project(vectors: Floats, method: Method) -> Projection:
    """`vectors` [n, dim] are centred in place. UMAP of fewer than four is no better than PCA."""
    if method is Method.UMAP and len(vectors) > 3:
        return _umap(vectors)
    return pca(vectors)


def pca(vectors: Floats) -> Projection:
    """Onto the two principal axes of greatest variance. `vectors` are centred in place."""
    if not len(vectors):
        return Projection(np.empty((0, 2), np.float32))
    mean: Floats = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    vectors -= mean
    axes = _principal_axes(vectors)
    points = np.zeros((len(vectors), 2), np.float32)
    points[:, : len(axes)] = vectors @ axes.T
    total = float(np.vdot(vectors, vectors))
    shares = np.square(points, dtype=np.float64).sum(axis=0) / total if total else np.zeros(2)
    return Projection(points, tuple(shares.tolist()), Plane(mean, axes))


def _principal_axes(centred: Floats) -> Floats:
    """At most two, [2, dim], by subspace iteration from random directions (arXiv:0909.4061, algorithm 4.4).

    An axis may point either way: the sign is such that its largest entry is positive.
    """
    dim = centred.shape[1]
    basis: Floats = np.random.default_rng(0).standard_normal((dim, min(WIDTH, dim)), np.float32)
    for _ in range(ROUNDS):
        basis = np.linalg.qr(centred.T @ (centred @ basis))[0]
    small = centred @ basis
    turns = np.linalg.eigh(small.T @ small)[1][:, :-3:-1]
    axes: Floats = (basis @ turns).T
    largest = np.abs(axes).argmax(axis=1)
    axes *= np.sign(axes[np.arange(len(axes)), largest])[:, None]
    return axes


def _umap(vectors: Floats) -> Projection:
    from umap import UMAP

    # One thread: with several the same seed gives another map every time.
    umap = UMAP(metric="cosine", n_neighbors=min(15, len(vectors) - 1), random_state=0, n_jobs=1)
    return Projection(umap.fit_transform(vectors).astype(np.float32))
