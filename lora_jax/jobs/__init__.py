"""Jobs: the only place, besides `main.py`, that knows the whole chain."""
