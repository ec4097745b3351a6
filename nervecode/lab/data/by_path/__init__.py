"""Sets in files of the user: arrays, tables, series, lists of pictures; what they hold, checked."""
