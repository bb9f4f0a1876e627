"""Numbered objects of a map that does not fit into memory.

parts      the connected parts of the foreground, block by block
merge      put together across blocks; each belongs to one block
windows    each block finds the objects of its parts, wherever they reach
seeds      ] only of parts that are larger than memory:
join       ] their seeds, put together across blocks,
flood      ] and each block flooded with a margin
numbers    objects counted through all blocks
labels     each block put together from what was found, and written
"""

from .job import ONE_TASK, STAGES, Objects
from .maps import Readable

__all__ = ["ONE_TASK", "STAGES", "Objects", "Readable"]
