"""The order of the pictures."""

from defectline.components.train.batches import Batches


def test_order_is_a_function_of_seed_and_epoch(splits):
    def order(seed: int, *epochs: int) -> list[int]:
        batches = Batches(splits["train"], 4, seed)
        for epoch in epochs:
            batches.shuffle(epoch)
        return batches.order.tolist()

    assert order(1, 0, 1, 2) == order(1, 2)
    assert sorted(order(1, 2)) == list(range(6))
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (0, 1, 2)}) == 6
