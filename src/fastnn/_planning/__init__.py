"""When and where: from what layers plan to the calls that a program makes."""
