"""The parts of a transformers model that the instrumented pass reads, found without per-model code."""
