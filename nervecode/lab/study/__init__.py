"""Many settings under one protocol, and the page that tells what was found."""
