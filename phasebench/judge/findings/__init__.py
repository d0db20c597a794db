"""What the case files share: verdicts, contrasts with controls, phases, means over layers."""
