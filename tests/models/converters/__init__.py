"""MiniGPT-4, MiniGPT-v2 and LiMBeR: from tiny official files, converted models compute what the originals do.

``official_models.py`` writes the files and converts them; ``tests/support/official_files.py`` has their
layouts, and the official models' passes as plain functions.
"""
