"""Do the tiles of a run give what the whole image gives; if not, where and why not?

from biozoo_converters.seams.checking import check_seams

print(check_seams("nuclei-fluo", "cells.ome.tif"))
"""
