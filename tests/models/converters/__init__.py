"""MiniGPT-4, MiniGPT-v2 and LiMBeR: from tiny official files, converted models compute what the originals do.

``given`` writes the files and has what the tests share; ``tests/official_files.py`` has their layouts and
the official models' passes as plain functions.
"""
