"""Fit patches and newline positions into one budget, exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from herovlm.errors import BudgetError, MethodError
from herovlm.ops import allocate, select
from herovlm.types import Counts, Grid, Newlines, Seen

Choose = Callable[[int], Tensor]  # P -> (T, N) bool mask of P valid patches


def touched(grid: Grid, mask: Tensor) -> Tensor:
    """Find the newline rows in which a patch is kept: (T, N) bool -> (R,) bool."""
    hit = torch.zeros(grid.rows + 1, dtype=torch.bool, device=mask.device)
    hit[grid.row[mask]] = True  # row -1, the thumbnail, falls into the spare last place
    return hit[:-1]


def closed_by(grid: Grid, mask: Tensor, rule: Newlines) -> Tensor:
    """Find the newlines that stand beside the kept patches, (R,) bool, under a rule.

    "touched": those the model sends whose row keeps a patch; "all": all the model sends; "none": none;
    "canvas": every row of the padded canvas, also rows the model would not send (the authors of HERO).
    """
    if rule == "canvas":
        return torch.ones_like(grid.sent)
    if rule == "all":
        return grid.sent.clone()
    return touched(grid, mask) & grid.sent if rule == "touched" else torch.zeros_like(grid.sent)


def fit(choose: Choose, seen: Seen, scores: Tensor, budget: int, rule: Newlines | None = None) -> tuple[Tensor, Tensor]:
    """Spend `budget` positions on patches and newlines together, to the last one.

    Takes the largest number of patches P whose newlines still fit.  Under "none" and "all" P follows from the counts
    of what was seen, and nothing is read from the device; "none" buys newlines, from the first row on, only when there
    is no patch left to buy.  Under "touched" P is searched for, and a position that is then left goes to the
    best-scored patch that needs no further newline, or, when there is none, to the newline of a further row.

    Args:
        choose: P -> (T, N) bool, the method's choice of P valid patches.
        seen: Where each position stands, and how many there are.
        scores: (T, N), for the positions that are left.
        budget: Positions to spend, at most all that the model sends.
        rule: "none" (default), "touched" or "all".

    Returns:
        mask (T, N) bool and newlines (R,) bool; together exactly `budget` are True.

    Raises:
        BudgetError: no patch can be kept with so small a budget; says the smallest that works.
        MethodError: the rule is "canvas", which stands outside any budget.
    """
    rule = rule or "none"
    enough(budget, seen.grid, seen.counts, rule)
    if rule == "touched":
        return _search(choose, seen, scores, budget)
    counts, sent = seen.counts, seen.grid.sent
    patches = min(budget - counts.newlines * (rule == "all"), counts.patches)
    none = budget == patches
    return choose(patches), torch.zeros_like(sent) if none else sent & (sent.cumsum(0) <= budget - patches)


def enough(budget: int, grid: Grid, counts: Counts, rule: Newlines) -> None:
    """Check that a patch can be kept; the device is asked under "touched" alone.

    Raises:
        BudgetError: it cannot, with so small a budget; says the smallest that works.
        MethodError: the rule is "canvas", which stands outside any budget.
    """
    if rule == "canvas":
        raise MethodError('newlines="canvas" stand outside the budget; use "touched", "all" or "none"')
    smallest, why = 1, ""
    if rule == "all":
        smallest, why = counts.newlines + 1, f'newlines="all" keep {counts.newlines}'
    elif rule == "touched" and budget < 2 and not bool((counts.valid & _paid(grid, ~grid.sent)).any()):
        smallest = 2  # each patch needs its newline
    if budget < smallest:
        raise too_small(budget, smallest, counts.positions, why)


def divided(seen: Seen, mask: Tensor, budget: int, rule: Newlines | None) -> list[int]:
    """Count the patches of each tile where `fit` was given an even division; the host waits only under "touched"."""
    if rule == "touched":
        return [int(count) for count in mask.sum(1).tolist()]
    counts = seen.counts
    return allocate.shares(counts.room, min(budget - counts.newlines * (rule == "all"), counts.patches), counts.room)


def _search(choose: Choose, seen: Seen, scores: Tensor, budget: int) -> tuple[Tensor, Tensor]:
    """Find the largest choice that fits with the newlines of its rows; the host waits for what each one costs."""
    grid, valid, counts = seen.grid, seen.valid, seen.counts

    def cost(mask: Tensor) -> int:
        return int(mask.sum() + closed_by(grid, mask, "touched").sum())

    low = max(0, min(budget - counts.newlines, counts.patches))  # this many always fit
    high = min(budget, counts.patches)
    mask = choose(high)
    if cost(mask) > budget:
        mask = choose(low)
        while high - low > 1:
            middle = (low + high) // 2
            trial = choose(middle)
            if cost(trial) <= budget:
                low, mask = middle, trial
            else:
                high = middle
    return _spend(grid, valid, scores, mask, closed_by(grid, mask, "touched"), budget)


def _paid(grid: Grid, rows: Tensor) -> Tensor:
    """Find the patches that stand in one of the rows (R,) bool, or in no row, as the thumbnail's: (T, N) bool."""
    return torch.cat([rows, rows.new_ones(1)])[grid.row]


def too_small(budget: int, smallest: int, positions: int, why: str = "") -> BudgetError:
    """Make the error that names the smallest workable budget."""
    share = f" (a share of {-(-smallest * 10_000 // positions) / 10_000:.4f})" if smallest <= positions else ""
    given = f"a budget of {budget:,} of {positions:,} visual positions is too small"
    return BudgetError(f"{given}{': ' if why else ''}{why}; use keep >= {smallest:,} positions{share}")


def _spend(
    grid: Grid, valid: Tensor, scores: Tensor, mask: Tensor, newlines: Tensor, budget: int
) -> tuple[Tensor, Tensor]:
    """Add single positions until patches + newlines == budget."""
    left = budget - int(mask.sum()) - int(newlines.sum())
    if not left:
        return mask, newlines
    best = select.ranks(scores.reshape(1, -1), valid.reshape(1, -1)).view_as(mask)
    mask, newlines = mask.clone(), newlines.clone()
    while left:
        free = valid & ~mask
        paid = free & _paid(grid, newlines | ~grid.sent)
        if n := min(left, int(paid.sum())):
            taken = best.masked_fill(~paid, best.numel()).flatten().argsort(stable=True)[:n]
            mask.view(-1)[taken] = True
            left -= n
        else:
            first = best.masked_fill(~free, best.numel()).flatten().argmin()
            row = int(grid.row.flatten()[first]) if free.any() else int((grid.sent & ~newlines).int().argmax())
            newlines[row] = True
            left -= 1
    return mask, newlines
