from tests.projections.conftest import company, logged, new_world

__all__ = ["company", "logged", "new_world"]
