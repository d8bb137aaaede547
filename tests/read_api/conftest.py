from tests.projections.conftest import company, empty_ledger, logged, new_world

__all__ = ["company", "empty_ledger", "logged", "new_world"]
