"""AG-UI 1.0: agents' clients, over the conversations of this server (`docs/ag-ui.md`)."""
