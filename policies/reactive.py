"""Pure decisions: the default policy without foresight, for comparison and as the fallback."""

from policies.cost_per_progress import CostPerProgress


class Reactive(CostPerProgress):
    """Choose as ``cost_per_progress`` does, from options priced as if the present persisted."""

    foresees = False
