"""The server: one pinned model behind one transport."""
