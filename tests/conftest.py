from tests.browser import (  # noqa: F401
    pytest_collection_modifyitems,
    pytest_sessionfinish,
    pytest_unconfigure,
)
