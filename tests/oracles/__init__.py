"""Oracles: small models whose curves are known by construction, at every layer (docs/oracles.md).

``plan`` declares the curves, ``space`` the coordinates of a state; ``language`` and ``vision_encoder`` have
the weights; ``folder`` writes a checkpoint and its pictures; ``expected`` has the curves in closed form;
``catalogue`` the oracles themselves. ``reference`` is no oracle: it computes the curves of any Llama by brute
force.

Shapes: L blocks, N positions of the prompt, V visual and T text ones, D coordinates of a state.
"""
