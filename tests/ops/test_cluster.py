from __future__ import annotations

import math

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from herovlm.ops.cluster import density_peaks

sizes = (st.integers(1, 40), st.integers(1, 12), st.integers(0, 10**6))


def draw(n: int, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(n, 3, generator=g), torch.rand(n, 2, generator=g)


def by_hand(points: list[list[float]], yx: list[list[float]], centres: int, cutoff: float, near: float) -> list[int]:
    """The definition, one point after the other."""
    n = len(points)
    density = [sum(math.exp(-((math.dist(p, q) / cutoff) ** 2)) for q in points) for p in points]
    leader, gamma = [0] * n, [0.0] * n
    for i in range(n):
        denser = [j for j in range(n) if (density[j], -j) > (density[i], -i)]
        close = [j for j in denser if math.dist(yx[i], yx[j]) <= near]
        leader[i] = min(close or denser or [i], key=lambda j: math.dist(points[i], points[j]))
        gamma[i] = density[i] * (math.dist(points[i], points[leader[i]]) if close else math.inf)
    peaks = sorted(range(n), key=lambda i: (-gamma[i], -density[i], i))[:centres]
    labels = []
    for i in range(n):
        while i not in peaks:
            i = leader[i]
        labels.append(peaks.index(i))
    return labels


@given(*sizes)
def test_it_is_the_definition(n: int, centres: int, seed: int) -> None:
    points, yx = draw(n, seed)
    expected = by_hand(points.double().tolist(), yx.double().tolist(), centres, 8, 0.4)
    assert density_peaks(points, yx, centres, cutoff=8, near=0.4).tolist() == expected


@given(*sizes, st.booleans())
def test_everyone_belongs_to_one_of_the_centres_and_none_is_empty(n: int, centres: int, seed: int, flat: bool) -> None:
    points, yx = draw(n, seed)
    labels = density_peaks(points * (not flat), yx, centres, cutoff=3, near=0.2)  # flat: every density ties
    assert sorted(set(labels.tolist())) == list(range(min(n, centres)))


def test_two_heaps_are_two_clusters() -> None:
    points, yx = draw(30, 0)
    points[::2] += 40
    labels = density_peaks(points, yx, 2, cutoff=8, near=2)
    assert len(set(labels[::2].tolist())) == len(set(labels[1::2].tolist())) == 1
    assert labels[0] != labels[1]


def test_equal_keys_far_apart_do_not_follow_each_other() -> None:
    points = torch.tensor([[0.0], [0.1], [0.2], [0.1]])
    yx = torch.tensor([[0.0, 0], [0, 0.1], [0, 0.2], [0, 1]])
    assert density_peaks(points, yx, 2, cutoff=8, near=0.5).tolist() == [0, 0, 0, 1]
    assert density_peaks(points, yx, 2, cutoff=8, near=2)[3] == 0


def test_where_the_keys_lie_says_nothing_only_how_they_differ() -> None:
    points, yx = draw(40, 1)
    points = points.round()  # so that the move itself is exact
    moved = density_peaks(points + 30_000, yx, 6, cutoff=8, near=0.6)
    assert moved.equal(density_peaks(points, yx, 6, cutoff=8, near=0.6))


def test_ties_can_lead_in_a_circle_as_in_the_published_code() -> None:
    points, yx = torch.zeros(5, 3), torch.zeros(5, 2)
    assert density_peaks(points, yx, 1, cutoff=8, near=1, ties=True).tolist() == [0, 0, 0, 0, 0]
    pairs = torch.tensor([[0.0], [0], [1000], [1000]])  # the second pair has no centre, its points lead each other
    assert density_peaks(pairs, yx[:4], 1, cutoff=8, near=1, ties=True).tolist() == [0, 0, -1, -1]
    assert density_peaks(pairs, yx[:4], 1, cutoff=8, near=1).tolist() == [0, 0, 0, 0]


def test_a_point_with_nobody_to_follow_follows_point_0_in_the_published_code_alone() -> None:
    points = torch.tensor([[9.0], [0], [0.1], [0.2], [1]])
    yx = torch.tensor([[0.0, 0], [0, 5], [0, 5], [0, 5], [0, 9]])  # 0 and 4 stand alone
    assert density_peaks(points, yx, 2, cutoff=2, near=1, ties=True).tolist() == [-1, 0, 0, 0, 1]
    assert density_peaks(points, yx, 1, cutoff=2, near=1).tolist() == [0] * 5
