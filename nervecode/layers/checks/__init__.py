"""Whether what is read of an input depends on the others of its batch."""
