"""How the pages in this folder become a site: ``make docs``. Everything it needs is local; no page fetches anything."""

from phasebench import __version__

project = "phasebench"
author = "The phasebench authors"
copyright = author
release = __version__
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = f"phasebench {release}"
html_show_sphinx = False
html_copy_source = False
