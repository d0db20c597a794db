"""Oracles: small models whose curves are known by construction, at every layer (docs/oracles.md).

``plan`` says what is wanted, ``space`` where it lies in the states, ``language`` and ``eyes`` are the
weights by arithmetic, ``folder`` writes a checkpoint and its pictures, ``expected`` has the closed form,
``catalogue`` the oracles themselves. ``reference`` is no oracle but the slow way to the curves of any Llama.

Shapes: L blocks, N positions of the prompt, V visual and T text ones, D coordinates of a state.
"""
