"""Networks to portable packages: packing, weights format to weights format, each with proof.

zoo pack net.py:Net --weights w.pt --sample x.npy --axes bcyx ... -o out.zip
"""
