"""Speed and memory of the parts, printed; never asserted, because machines differ."""
