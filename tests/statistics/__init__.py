"""What the intervals cover and how often verdicts are wrong, simulated on recorded images."""
