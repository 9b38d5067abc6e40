"""The only place that judges an argument: what it is, and what to say if it does not fit."""
