from tests.projections.conftest import company, empty_ledger, new_world

__all__ = ["company", "empty_ledger", "new_world"]
