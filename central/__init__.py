"""The Kominfo side: one inventory file renders the whole centre. The agent never imports it."""
