from __future__ import annotations

import torch

from herovlm.ops.attend import attend, mean_of_heads


def test_rows_are_those_of_causal_attention() -> None:
    g = torch.Generator().manual_seed(0)
    queries, keys = torch.randn(9, 6, 4, generator=g), torch.randn(2, 9, 4, generator=g)  # three heads share a key
    values = torch.eye(9).expand(6, 9, 9)  # so that the output is the attention itself
    whole = torch.nn.functional.scaled_dot_product_attention(
        queries.transpose(0, 1), keys.repeat_interleave(3, 0), values, is_causal=True
    )
    at = torch.tensor([7, 2, 8])
    torch.testing.assert_close(attend(queries[at], keys, at), whole[:, at])
    torch.testing.assert_close(mean_of_heads(queries[at], keys, at), whole[:, at].mean(0))


def test_half_precision_is_computed_in_single() -> None:
    queries, keys = torch.randn(3, 2, 4).bfloat16(), torch.randn(1, 5, 4).bfloat16()
    at = torch.tensor([4, 4, 1])
    assert attend(queries, keys, at).dtype == torch.float32
    torch.testing.assert_close(attend(queries, keys, at), attend(queries.float(), keys.float(), at))
