"""`wrap` over real processes of the standard library's `SyncManager`: contract tests."""
