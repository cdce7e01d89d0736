from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from herovlm.ops import reduce


@given(st.lists(st.integers(-1, 6), min_size=1, max_size=40), st.data())
def test_what_is_left_is_what_was_asked_for(labels: list[int], data: st.DataObject) -> None:
    clusters, norms = torch.tensor(labels), torch.tensor(data.draw(st.permutations(range(len(labels))))).float()
    count = data.draw(st.integers(1, len(labels)))
    group = reduce.groups(norms, clusters, count)
    stay, groups = group[group < 0], group[group >= 0].unique()
    assert len(stay) + len(groups) == count
    assert groups.tolist() == list(range(len(groups)))
    if len(clusters.unique()) <= count:
        for name in clusters.unique():  # every cluster is merged into one, of its longest
            own = clusters == name
            assert (group[own] >= 0).any()
            assert len(group[own & (group >= 0)].unique()) == 1
            if (group[own] < 0).any():
                assert norms[own & (group < 0)].max() < norms[own & (group >= 0)].min()


def test_too_many_clusters_leave_the_best_and_one_of_all_others() -> None:
    group = reduce.groups(torch.tensor([1.0, 2.0, 9.0, 1.0, 4.0]), torch.tensor([5, 5, 6, 7, 8]), 3)
    assert group.tolist() == [1, 1, 2, 0, 2]  # sums 3, 9, 1, 4: cluster 7 is best, then 5


def test_rounding_is_settled_by_the_sum_of_the_cluster() -> None:
    sizes, sums = torch.tensor([2, 2, 2]), torch.tensor([3.0, 1.0, 2.0])
    assert reduce.quotas(sizes, sums, 4).tolist() == [0, 1, 0]  # a third each: none by rounding, one is left
    assert reduce.quotas(sizes, sums, 5).tolist() == [0, 1, 1]  # two thirds each: three by rounding, one too many
