from __future__ import annotations

import torch

from herovlm.ops.nearest import knn_peaks


def test_blobs_have_a_centre_each() -> None:
    blob = torch.tensor([[0.0, 0.0], [0.1, 0.0], [0.0, 0.1], [0.05, 0.05]])
    points = torch.cat([blob, blob + 9, blob - 7])
    centre, owner = knn_peaks(points, 3)
    assert {int(c) // 4 for c in centre} == {0, 1, 2}
    for blob_number in range(3):
        assert len(set(owner[4 * blob_number : 4 * blob_number + 4].tolist())) == 1
    assert owner[centre].tolist() == [0, 1, 2]


def test_points_alike_are_told_apart_by_their_place() -> None:
    centre, owner = knn_peaks(torch.zeros(5, 3), 2)
    assert centre.tolist() == [0, 1]
    assert owner.tolist() == [0, 1, 0, 0, 0]


def test_every_point_may_be_a_centre() -> None:
    centre, owner = knn_peaks(torch.randn(4, 3, generator=torch.Generator().manual_seed(0)), 4)
    assert sorted(centre.tolist()) == [0, 1, 2, 3]
    assert centre[owner].tolist() == [0, 1, 2, 3]
