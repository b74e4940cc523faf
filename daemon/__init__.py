"""The control loop: observe, forecast, weigh, act, check."""
