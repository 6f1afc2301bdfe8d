"""Mixing matrices: how they are built from pulls, and how fast they average."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from p2pdl.types import MixingMatrix


def averaging_matrix(pulls: Sequence[Collection[int]]) -> MixingMatrix:
    """The matrix of `mean` merges, in which a node and the k peers it pulls from weigh 1 / (k + 1) each.

    Args:
        pulls: For each place, the distinct other places it pulls from.

    Returns:
        Row-stochastic float64 matrix, shape (n, n) with n = len(pulls).
    """
    matrix = np.zeros((len(pulls), len(pulls)))
    for place, sources in enumerate(pulls):
        matrix[place, [place, *sources]] = 1.0 / (len(sources) + 1)
    return matrix


def is_row_stochastic(matrix: MixingMatrix, tolerance: float = 1e-12) -> bool:
    """Whether the matrix is square, without negative entries, and each row sums to 1."""
    square = matrix.ndim == 2 and matrix.shape[0] == matrix.shape[1]
    return square and bool((matrix >= 0).all() and (np.abs(matrix.sum(axis=1) - 1) <= tolerance).all())


def is_doubly_stochastic(matrix: MixingMatrix, tolerance: float = 1e-12) -> bool:
    """Whether rows and columns sum to 1, so that a round leaves the network's mean where it was."""
    return is_row_stochastic(matrix, tolerance) and is_row_stochastic(matrix.T, tolerance)


def spectral_gap(matrix: MixingMatrix) -> float:
    """1 minus the second largest modulus of the eigenvalues: the share of disagreement lost per round.

    Args:
        matrix: Row-stochastic, shape (n, n), n at least 1.

    Returns:
        Between 0 (parts of the network never agree) and 1 (one round is enough); 1 for a single node.

    Raises:
        ValueError: The matrix is empty or not row-stochastic.
    """
    if matrix.size == 0 or not is_row_stochastic(matrix, tolerance=1e-9):
        raise ValueError(f"the array of shape {matrix.shape} is not a row-stochastic matrix")
    if matrix.shape[0] == 1:
        return 1.0
    moduli = np.sort(np.abs(np.linalg.eigvals(matrix)))
    return float(np.clip(1.0 - moduli[-2], 0.0, 1.0))
