"""Development tools of this repo; nothing of them is in the server's image."""
