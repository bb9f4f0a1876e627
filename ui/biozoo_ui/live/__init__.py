"""Live mode of a server: the last layer of a model refitted after each stroke of a person's.

    sessions = LiveSessions(find_painted)
    live = sessions.open(package, image, view, choices, owner=session).answer.result()
    fit = sessions.refit(live.id, annotation, owner=session)

A session holds the frozen features of what is seen in memory, so it goes with the server. What is
painted is not its business: it asks for it (`Painted`) before each refit.
"""

from __future__ import annotations

from .model import Keeping, Painted, ReadPainted, Refit
from .session import LiveSession
from .sessions import LiveSessions

__all__ = ["Keeping", "LiveSession", "LiveSessions", "Painted", "ReadPainted", "Refit"]
