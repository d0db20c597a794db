"""The instrumented forward pass and what is read off it.

The package itself can be called, like ``phasebench.library.measure``: whoever imports one of its
modules makes it the attribute ``phasebench.measure``, and would hide a function of that name.
"""

import sys
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    def __call__(self, *args: Any, **options: Any) -> Any:
        from phasebench.library import measure

        return measure(*args, **options)


sys.modules[__name__].__class__ = _Callable
