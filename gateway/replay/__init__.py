"""A recording as the other end of a line: the book of what was answered, its pace, and its way into the decoders."""
