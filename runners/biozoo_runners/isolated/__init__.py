"""Foreign code and process-wide frameworks, run in a confined process of their own.

executor.py   what lives in the child, and what it may raise
client.py     `Child`: starts the process, talks to it, ends it
worker.py     the child's main program
confine.py    what the child may not do, and what of that holds on this machine
landlock.py, seccomp.py   the two Linux mechanisms behind it
arrays.py     shared memory between the two
wire.py       messages between the two
backend.py    `IsolatedBackend`: a backend whose framework lives in a child
"""
