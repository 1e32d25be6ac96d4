"""The guide's example of nested networks, run as it stands."""

import re
from pathlib import Path

import torch
from torch import Tensor, nn

from students import nested
from tests.nested_examples import drawn

GUIDE = Path(__file__).parents[1] / "docs" / "guide.md"


class Block(nn.Module):
    """An MLP block beside a skip connection, as transformers have it."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(16, 64), "fc2": nn.Linear(64, 16)})
        self.head = nn.Linear(16, 5)

    def forward(self, rows: Tensor) -> Tensor:
        inner = torch.nn.functional.gelu(self.mlp["fc1"](rows))
        found: Tensor = self.head(rows + self.mlp["fc2"](inner))
        return found


def test_the_guide_s_example_runs() -> None:
    section = GUIDE.read_text().split("## Nested networks, from Python")[1]
    example = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert example is not None
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = Block().eval()
    batches = [drawn(seed, 64, 16) for seed in range(8)]
    text = example[1].replace('["mlp", "attention"]', '["mlp.*"]')
    there = {"network": network, "batches": batches, "request": drawn(9, 3, 16)}
    exec(text, there)
    assert nested.budget_of(network) <= 0.6
    plain = there["plain"]
    assert isinstance(plain, nn.Module)
    assert not any(isinstance(module, nested.NestedLayer) for module in plain.modules())
    torch.testing.assert_close(plain(batches[0]), network(batches[0]), rtol=1e-4, atol=1e-4)
    assert nested.ranks(network) != {"mlp.fc1": 16, "mlp.fc2": 16}
