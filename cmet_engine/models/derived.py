"""Values that a network derives from its weights once, and keeps until they change."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Derived(nn.Module):
    """A module that keeps what it derives from its parameters until they change."""

    def __init__(self) -> None:
        super().__init__()
        self._derived: dict[str, tuple[tuple, Tensor]] = {}

    def derive(self, name: str, make: Callable[[], Tensor], *sources: Tensor) -> Tensor:
        """`make()`, computed anew only if one of the parameters `sources` changed; never kept while they are learned.

        Nor is it kept where `sources` were made in inference mode, which does not track their changes.
        """
        learned = torch.is_grad_enabled() and any(source.requires_grad for source in sources)
        if learned or any(source.is_inference() for source in sources):
            return make()
        state = tuple((source.data_ptr(), source._version, source.dtype, source.device) for source in sources)
        kept = self._derived.get(name)
        if kept is None or kept[0] != state:
            with torch.inference_mode(False), torch.no_grad():
                kept = (state, make())
            self._derived[name] = kept
        return kept[1]
