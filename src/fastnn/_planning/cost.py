"""What kernels cost."""

# Time for one element, in operations of a matrix product; what differs is too little to matter.
WORK = 30
