"""The instrumented forward pass: needs torch, knows neither pytest nor statistics."""
