"""Report a training job to the Scaleahead daemon."""
