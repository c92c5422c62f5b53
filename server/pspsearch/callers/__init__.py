"""Who calls, what they may do, and how much: nothing here knows how a call came."""
