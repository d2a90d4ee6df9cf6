"""What the conformance tests stand on: namespaces, the server under test, real clients, the API."""
