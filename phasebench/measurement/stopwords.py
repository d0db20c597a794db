"""English words that carry no image content; pinned here so that a recall never changes by an update."""

_LIST = """
a about above across after all along also an and another any are around as at away back be because
been before behind being below beneath beside between both but by can could did do does doing down
each either for from further had has have having he her here hers him his how i if in inside into is
it its itself just like many may more most much near next no nor not now of off on once one only
onto or other out outside over own per s she should so some such t than that the their theirs them
then there these they this those through to too toward towards two under until up upon very was we
were what when where which while who whose why will with within without would you your
"""

STOPWORDS = frozenset(_LIST.split())
"""What the lens' reference words leave out."""
