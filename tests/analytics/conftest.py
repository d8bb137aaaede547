from tests.projections.conftest import company, new_world

__all__ = ["company", "new_world"]
