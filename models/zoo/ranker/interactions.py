"""Made-up interactions of users with items, from a seed: what the ranker learns from. No data of anybody's.

A click depends on how well user and item fit, how popular the item is, the hour for its genre, and the numbers shown.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

COLUMNS = ("user", "item", "genre", "hour", "region", "device")
ROWS = 1000
"""Indices of each column, 0 to 999; some columns use only the first of them."""
DENSE = 8
USERS, ITEMS, GENRES, HOURS, REGIONS, DEVICES = ROWS, ROWS, 40, 24, 30, 5
SEED = 88
TRAINING, HELD_OUT = 200_000, 20_000


class Interactions(NamedTuple):
    """`dense` f64 [n, 8], `categories` i64 [n, 6] in the order of COLUMNS, `clicked` f64 [n], 0 or 1."""

    dense: np.ndarray
    categories: np.ndarray
    clicked: np.ndarray


def interactions() -> tuple[Interactions, Interactions]:
    """(to train on, held out), of the same users and items. RandomState: its stream is frozen by numpy."""
    rng = np.random.RandomState(SEED)
    tastes, traits = rng.standard_normal((USERS, 4)), rng.standard_normal((ITEMS, 4))
    appeal = 0.6 * rng.standard_normal(ITEMS)
    genres = rng.randint(GENRES, size=ITEMS)
    by_hour = 0.7 * rng.standard_normal((GENRES, HOURS))
    by_region = 0.3 * rng.standard_normal(REGIONS)
    weights = 0.4 * rng.standard_normal(DENSE)
    n = TRAINING + HELD_OUT
    shown = rng.permutation(ITEMS)[np.minimum(rng.zipf(1.3, size=n) - 1, ITEMS - 1)]
    shown = np.where(rng.rand(n) < 0.5, shown, rng.randint(ITEMS, size=n))
    users, hours = rng.randint(USERS, size=n), rng.randint(HOURS, size=n)
    regions, devices = rng.randint(REGIONS, size=n), rng.randint(DEVICES, size=n)
    dense = rng.standard_normal((n, DENSE)).round(3)
    fit = (tastes[users] * traits[shown]).sum(axis=1)
    score = fit + appeal[shown] + by_hour[genres[shown], hours] + by_region[regions] + dense @ weights - 1.0
    clicked = (rng.rand(n) < 1.0 / (1.0 + np.exp(-score))).astype(np.float64)
    categories = np.stack([users, shown, genres[shown], hours, regions, devices], axis=1).astype(np.int64)
    whole = Interactions(dense, categories, clicked)
    return _part(whole, slice(TRAINING)), _part(whole, slice(TRAINING, n))


def _part(whole: Interactions, at: slice) -> Interactions:
    return Interactions(*(array[at] for array in whole))
