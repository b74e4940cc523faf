"""Report a training job to the Scaleahead daemon. Importing starts nothing and needs the standard library only."""

from scaleahead.checkpoint import Request
from scaleahead.reporter import Reporter
from scaleahead.usage import Sampler

__version__ = "0.1.0"
__all__ = ["Reporter", "Request", "Sampler", "__version__"]
