"""Who calls, what they may do, and how much. Nothing here knows on which wire a call came."""
