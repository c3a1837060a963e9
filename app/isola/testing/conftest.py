pytest_plugins = ["isola.testing.fixtures"]
