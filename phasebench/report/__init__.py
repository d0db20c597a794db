"""What people and machines are told: tables and the results file; without torch."""
