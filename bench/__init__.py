"""fastnn measured beside its peers, and all beside the machine: README.md."""
